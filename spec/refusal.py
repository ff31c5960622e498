"""The one error of this reader: which rule a file breaks, where, and what was expected instead.

`kind` decides the exit status: "invalid" (3), "integrity" (4, a digest does not match), "unsupported" (5).
"""


class Refusal(Exception):
    def __init__(self, rule, where, expected, found, kind="invalid"):
        self.rule, self.where, self.expected, self.found, self.kind = rule, where, expected, found, kind
        super().__init__(f"SBNC-{rule}: {where}: expected {expected}, found {found}")


def refuse(rule, where, expected, found, kind="invalid"):
    raise Refusal(rule, where, expected, found, kind)


def compare_digest(rule, where, expected, found):
    """Refuses unless two digests of 32 bytes are equal."""
    if expected != found:
        refuse(rule, where, f"digest {expected.hex()}", found.hex(), "integrity")


def quote(text):
    """Text from a file, fit for a terminal: ASCII, escaped, of bounded length."""
    shown = ascii(text)
    return shown if len(shown) <= 300 else shown[:300] + "…"
