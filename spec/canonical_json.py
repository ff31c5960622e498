"""Canonical JSON (R063 to R065), the form of MANIFEST: a parser that tells invalid from not canonical.

A text that is not JSON is refused at once; a text that is JSON but breaks R064 or R065 only after the whole was read, so that the answer does not
depend on which fault comes first.
"""

import re

from refusal import quote, refuse

MAX_MANIFEST_BYTES = 4194304
MAX_MANIFEST_DEPTH = 16
MAX_INTEGER = 2**53

WHERE = "section MANIFEST"
SPACE = re.compile(r"[ \t\n\r]*")
PLAIN = re.compile(r'[^"\\\x00-\x1f]*')
NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
WORDS = {"t": ("true", True), "f": ("false", False), "n": ("null", None)}


def parse(data):
    """The object in `data`, with R063 to R065 checked."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        refuse("R063", WHERE, "UTF-8", f"{data[error.start]:#04x} at byte {error.start}")
    parser = Parser(text)
    value = parser.document()
    for rule in ("R064", "R065"):
        if rule in parser.faults:
            expected, found = parser.faults[rule]
            refuse(rule, WHERE, expected, found)
    return value


class Parser:
    def __init__(self, text):
        self.text, self.at, self.faults = text, 0, {}

    def invalid(self, expected):
        refuse("R063", WHERE, expected, f"{quote(self.text[self.at:self.at + 8])} at character {self.at}")

    def fault(self, rule, expected, at):
        self.faults.setdefault(rule, (expected, f"{quote(self.text[at:at + 24])} at character {at}"))

    def next(self):
        """The next character outside whitespace, not consumed; empty at the end."""
        end = SPACE.match(self.text, self.at).end()
        if end != self.at:
            self.fault("R064", "no whitespace outside strings", self.at)
            self.at = end
        return self.text[end:end + 1]

    def take(self, character):
        if self.next() != character:
            self.invalid(quote(character))
        self.at += 1

    def document(self):
        if self.next() != "{":
            self.invalid("an object at the top")
        value = self.value(1)
        if self.next():
            self.invalid("the end")
        return value

    def value(self, depth):
        start = self.next()
        if start and start in "{[":
            if depth > MAX_MANIFEST_DEPTH:
                self.invalid(f"nesting at most {MAX_MANIFEST_DEPTH} deep")
            return self.object(depth) if start == "{" else self.array(depth)
        if start == '"':
            return self.string()
        if start in WORDS:
            word, value = WORDS[start]
            if not self.text.startswith(word, self.at):
                self.invalid(word)
            self.at += len(word)
            return value
        return self.number()

    def object(self, depth):
        self.take("{")
        members, last = {}, None
        if self.next() != "}":
            while True:
                if self.next() != '"':
                    self.invalid("a key")
                at = self.at
                key = self.string()
                # An escape that stands for a surrogate is a fault already; its replacement here never reaches a caller.
                order = key.encode("utf-8")
                if last is not None and order <= last:
                    self.fault("R064", "keys in ascending order of their bytes and unique", at)
                last = order
                self.take(":")
                members[key] = self.value(depth + 1)
                if self.next() != ",":
                    break
                self.at += 1
        self.take("}")
        return members

    def array(self, depth):
        self.take("[")
        items = []
        if self.next() != "]":
            while True:
                items.append(self.value(depth + 1))
                if self.next() != ",":
                    break
                self.at += 1
        self.take("]")
        return items

    def string(self):
        self.at += 1
        parts = []
        while True:
            plain = PLAIN.match(self.text, self.at)
            parts.append(plain.group())
            self.at = plain.end()
            ending = self.text[self.at:self.at + 1]
            if ending == '"':
                self.at += 1
                return "".join(parts)
            if ending != "\\":
                self.invalid("the rest of a string, without characters below U+0020")
            parts.append(self.escape())

    def escape(self):
        at, letter = self.at, self.text[self.at + 1:self.at + 2]
        if letter in ESCAPES and letter:
            if letter == "/":
                self.fault("R064", "no needless escapes", at)
            self.at += 2
            return ESCAPES[letter]
        digits = self.text[at + 2:at + 6]
        if letter != "u" or not re.fullmatch("[0-9a-fA-F]{4}", digits):
            self.invalid("an escape")
        self.at += 6
        code = int(digits, 16)
        if code >= 0x20 or chr(code) in ESCAPES.values() or digits != digits.lower():
            self.fault("R064", "only control characters without a shorter escape as \\u00xx, in lower case", at)
        return chr(code) if code < 0xD800 else "\ufffd"

    def number(self):
        match = NUMBER.match(self.text, self.at)
        if not match:
            self.invalid("a value")
        at, digits = self.at, match.group()
        self.at = match.end()
        if match.group(1) or match.group(2) or digits == "-0":
            self.fault("R065", "an integer without fraction, exponent and negative zero", at)
            return 0
        # 2^53 has 16 digits; a longer run of them is never converted.
        if len(digits) > 17 or abs(int(digits)) > MAX_INTEGER:
            self.fault("R065", "an integer from -2^53 to 2^53", at)
            return 0
        return int(digits)
