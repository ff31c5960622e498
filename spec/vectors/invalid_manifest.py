"""Files with a fault in the manifest or the carried files: SPEC.md §7 and §8."""

import copy
import json

from build import FILES, canonical
from encode import zstd_frame
from invalid import Table, flip
from valid import TEXT, WEIGHTS, carried

CODEC, RAW = 0, 2  # the entries of the base "files" with codec zstd and raw


def vectors(bases):
    worked, model, files = (Table(bases, name) for name in ("worked", "model", "files"))
    json_rules(worked)
    canonical_rules(worked)
    members(worked, PROVENANCE_CASES)
    members(model, MODEL_CASES)
    entries(files)
    sums(worked, files)
    frames(files)
    return worked.found + model.found + files.found


def injected(value, key=b'"a"'):
    """The plain manifest with a member more, before the others."""
    return b"{" + key + b":" + value + b"," + canonical(WEIGHTS)[1:]


def json_rules(t):
    plain = canonical(WEIGHTS)
    texts = {
        "utf8-ff": (b'"\xff"', "a byte that UTF-8 never has"), "utf8-overlong": (b'"\xc0\xaf"', "an overlong UTF-8 form"), "utf8-cut": (b'"\xc3"', "a cut UTF-8 form"),
        "utf8-surrogate": (b'"\xed\xa0\x80"', "a surrogate in UTF-8"), "utf8-above": (b'"\xf4\x90\x80\x80"', "a character above U+10FFFF"),
        "control": (b'"\x1f"', "a bare control character in a string"), "newline": (b'"\n"', "a bare newline in a string"), "nul": (b'"\0"', "a bare zero byte in a string"),
        "nan": (b"NaN", "NaN"), "infinity": (b"-Infinity", "an infinity"), "plus": (b"+1", "a plus sign"), "leading-zero": (b"01", "a leading zero, which is no JSON"),
        "minus-leading-zero": (b"-01", "a leading zero after a sign"), "point-first": (b".5", "a fraction without integer part"), "point-last": (b"1.", "a fraction without digits"),
        "exponent-empty": (b"1e", "an exponent without digits"), "minus-alone": (b"-", "a sign alone"), "hex": (b"0x10", "a hexadecimal number"),
        "true-capital": (b"True", "`True`"), "single-quotes": (b"'a'", "single quotes"), "trailing-comma": (b"[1,]", "a trailing comma"), "comment": (b"/**/1", "a comment"),
        "escape-x": (b'"\\x41"', "the escape \\x"), "escape-short": (b'"\\u12"', "a short escape"), "unclosed-string": (b'"', "a string that takes in the next key"),
        "unclosed-array": (b"[1", "an array that is not closed"), "key-number": (b"{1:2}", "a key that is a number"), "missing-value": (b"", "a key without a value"),
    }
    for name, (value, what) in texts.items():
        t.built(63, name, f"the manifest has {what}", manifest=injected(value))
    whole = {"top-array": (b"[" + plain + b"]", "is an array"), "top-null": (b"null", "is null"), "top-string": (b'"' + b"a" * 99 + b'"', "is a string"),
             "bom": (b"\xef\xbb\xbf" + plain, "begins with a byte order mark"), "cut": (plain[:-1], "is cut"), "twice": (plain + plain, "is two objects"),
             "brace-behind": (plain + b"}", "has a brace too many"), "nul-behind": (plain + b"\0", "ends with a zero byte"), "one-byte": (b"{", "is one brace")}
    for name, (text, what) in whole.items():
        t.built(63, name, f"the manifest {what}", manifest=text)
    for depth in (17, 1500):
        t.built(63, f"depth-{depth}-arrays", f"arrays nest to depth {depth}", manifest=injected(b"[" * (depth - 1) + b"]" * (depth - 1)))
    t.built(63, "depth-17-objects", "objects nest to depth 17", manifest=injected(b'{"a":' * 15 + b"{}" + b"}" * 15))
    t.built(63, "depth-1500-unclosed", "1500 arrays are opened and none closed", manifest=injected(b"[" * 1500))


def canonical_rules(t):
    plain = canonical(WEIGHTS)
    values = {
        "space-in-array": (b"[ ]", "a space in an array"), "space-after-comma": (b"[1, 2]", "a space after a comma"), "tab": (b"\t1", "a tab before a value"),
        "unsorted": (b'{"b":1,"a":2}', "unsorted keys"), "twice": (b'{"a":1,"a":1}', "a key twice, with the same value"), "longer-first": (b'{"ab":1,"a":2}', "a longer key before its prefix"),
        "case": (b'{"a":1,"B":2}', "keys sorted without regard to case"), "utf16-order": (b'{"\xf0\x90\x80\x80":1,"\xef\xbf\xbf":2}', "keys sorted as UTF-16"),
        "escaped-twice": (b'{"a":1,"\\u0061":2}', "a key twice, once escaped"), "slash": (b'"\\/"', "an escaped slash"), "letter": (b'"\\u0041"', "an escaped letter"),
        "upper-hex": (b'"\\u001F"', "an escape in upper-case hexadecimal"), "u0008": (b'"\\u0008"', "a long escape where a short one exists"), "u000a": (b'"\\u000a"', "a long escape of a newline"),
        "u0022": (b'"\\u0022"', "a long escape of a quotation mark"), "delete": (b'"\\u007f"', "an escaped U+007F"), "e9": (b'"\\u00e9"', "an escaped letter above ASCII"),
        "pair": (b'"\\ud83d\\ude00"', "an escaped surrogate pair"), "lone-high": (b'"\\ud83d"', "an escaped first half of a surrogate pair alone"),
        "lone-low": (b'"\\ude00"', "an escaped second half of a surrogate pair alone"), "halves-swapped": (b'"\\ude00\\ud83d"', "the escaped halves of a surrogate pair in the wrong order"),
        "lone-high-key": (b'{"\\ud83d":1}', "an escaped first half of a surrogate pair alone in a key"),
    }
    for name, (value, what) in values.items():
        t.built(64, name, f"the manifest is not canonical: {what}", manifest=injected(value))
    whole = {"space-first": b" " + plain, "newline-last": plain + b"\n", "top-twice": injected(b"1", b'"files"'), "top-unsorted": injected(b"1", b'"z"'),
             "spaces": json.dumps(WEIGHTS, sort_keys=True).encode()}
    for name, text in whole.items():
        t.built(64, name, f"the manifest is not canonical ({name})", manifest=text)
    numbers = ("1.0", "0.5", "1e5", "1E5", "1e-5", "0e0", "-0", "-0.0", "-1.5", "1e400", "9007199254740993", "-9007199254740993", str(2**63), str(2**64), "1" * 400)
    for number in numbers:
        name = number if len(number) < 30 else "400-digits"
        t.built(65, f"number-{name}", f"the manifest has the number {name}", manifest=injected(number.encode()))
    t.built(65, "number-nested", "a nested array has a number with a fraction", manifest=injected(b'{"a":[1,[2.5]]}'))


ABSENT = object()


def changed(manifest, path, value):
    manifest = copy.deepcopy(manifest)
    *parents, last = path.split(".")
    place = manifest
    for key in parents:
        place = place[key]
    if value is ABSENT:
        del place[last]
    else:
        place[last] = value
    return manifest


def members(t, cases):
    for path, values in cases.items():
        for number, value in enumerate(values):
            what = "is missing" if value is ABSENT else f"is {json.dumps(value)}"
            t.built(66, f"{path}-{'missing' if value is ABSENT else number}", f"{path} {what}", manifest=changed(t.model.manifest, path, value))


SOURCE = {"name": "s", "bytes": 1, "blake3": "0" * 64}
PROVENANCE_CASES = {
    "files": (ABSENT, {}, None), "provenance": (ABSENT, [], "p"), "provenance.compiler": (ABSENT, 1), "provenance.kind": (ABSENT, None),
    "provenance.options": (ABSENT, [], {"k": 1}), "provenance.rules": (ABSENT, "r", {"k": None}),
    "provenance.sources": (ABSENT, {}, [1], [{}], [{**SOURCE, "name": 1}], [{**SOURCE, "bytes": -1}], [{**SOURCE, "bytes": "1"}], [{**SOURCE, "blake3": "A" * 64}],
                           [{**SOURCE, "blake3": "0" * 63}], [{**SOURCE, "blake3": "0" * 65}], [{**SOURCE, "blake3": "g" * 64}], [SOURCE, []]),
    "model": (None, [], {}, True),
}
INTEGERS = ("layers", "hidden", "intermediate", "heads", "kv_heads", "head_dim", "vocab", "context")
MODEL_CASES = {
    "model.family": (ABSENT, 1), **{f"model.{name}": (ABSENT, 0) for name in INTEGERS}, "model.activation": (ABSENT, "tanh", "SiLU"),
    "model.activation_bits": (ABSENT, 0, 16, "8"), "model.norm_eps": (ABSENT, "0", "-1e-5", "", " 1e-5", "1e-5 ", "nan", "inf", "+1", ".5", "1.", "01", "0x1p-3", "1e999", "1e-999", "1_0", 1),
    "model.rope": (ABSENT, None, []), "model.rope.style": (ABSENT, "neox"), "model.rope.theta": (ABSENT, "0", "-1", 10000),
    "model.rope.scaling": ([], {"a": True}, {"a": {}}), "model.tied": (ABSENT, 1, "true"), "model.window": ("16", None, True),
    "model.tensors": (ABSENT, [], {"q": 1}), "model.tokens": (ABSENT, []), "model.tokens.bos": ("1", True, None), "model.tokens.eos": (2, ["2"], [None]), "model.tokens.pad": ([], "0"),
}
MODEL_CASES["model.layers"] += (1025, -1, True, "1", 2**53)
MODEL_CASES["model.heads"] += (1025, 1026)
MODEL_CASES["model.kv_heads"] += (3, 4)
MODEL_CASES["model.hidden"] += (2**24 + 1, [])
MODEL_CASES["model.vocab"] += (2**53, -(2**53))


def file_case(t, rule, name, why, changes, number=CODEC, stored=None, kind="invalid"):
    """Change members of an entry; `stored` replaces the bytes of that file, and the entry's stored follows it."""
    entries, files = copy.deepcopy(t.model.manifest["files"]), list(t.model.files)
    if stored is not None:
        files[(CODEC, None, 1)[number]] = stored
        entries[number]["stored"] = len(stored)
    for key, value in changes.items():
        if value is ABSENT:
            del entries[number][key]
        else:
            entries[number][key] = value
    t.built(rule, name, why, manifest={**t.model.manifest, "files": entries}, files=files, kind=kind)


def entries(t):
    plain = t.model.manifest["files"]
    for key in plain[0]:
        file_case(t, 67, f"file-without-{key}", f"an entry of files has no {key}", {key: ABSENT})
    file_case(t, 67, "file-extra", "an entry of files has another member", {"size": 1})
    wrong = {"name": 1, "codec": 1, "stored": "53", "raw": None, "blake3": 0}
    for key, value in wrong.items():
        file_case(t, 67, f"file-type-{key}", f"{key} of an entry of files is {value!r}", {key: value})
    for name, digest in {"upper": plain[0]["blake3"].upper(), "63": plain[0]["blake3"][1:], "empty": ""}.items():
        file_case(t, 67, f"file-digest-{name}", "blake3 of an entry of files is not 64 lower-case hexadecimal digits", {"blake3": digest})
    names = {"empty": "", "hidden": ".chat", "parent": "..", "slash": "a/b", "backslash": "a\\b", "space": "a b", "colon": "c:", "accent": "\u00e9", "nul": "a\0", "257": "a" * 257}
    for name, value in names.items():
        file_case(t, 67, f"file-name-{name}", f"a file has the name {value[:8]!r}", {"name": value})
    t.built(67, "file-no-object", "an entry of files is a string", manifest={**t.model.manifest, "files": ["chat.txt"]})
    file_case(t, 67, "file-order", "files are not in ascending order of name", {"name": "f"})
    file_case(t, 67, "file-twice", "two files have the same name", {"name": "empty"})
    many = carried([(f"f{i:02}", "raw", b"", b"") for i in range(65)]).manifest
    t.built(67, "file-65", "there are 65 files", manifest=many, files=[])
    for name, codec in {"gzip": "gzip", "empty": "", "upper": "RAW", "space": "zstd "}.items():
        file_case(t, 68, f"codec-{name}", f"codec is `{codec}`", {"codec": codec})
    for name, changes in {"raw-minus-1": {"raw": -1}, "raw-2p28+1": {"raw": 2**28 + 1}, "raw-2p53": {"raw": 2**53}, "stored-0": {"stored": 0}, "stored-minus-1": {"stored": -1}}.items():
        file_case(t, 68, name, f"a zstd file has {changes}", changes)
    file_case(t, 68, "raw-unequal", "a raw file has stored 2 and raw 3", {"raw": 3}, RAW)
    file_case(t, 68, "raw-empty-stored", "a raw file has stored 2 and raw 0", {"raw": 0}, RAW)


def sums(worked, t):
    stored = t.model.manifest["files"][CODEC]["stored"]
    for name, value in {"minus-1": stored - 1, "plus-1": stored + 1, "2p32": stored + 2**32, "2p53": 2**53}.items():
        file_case(t, 69, f"sum-{name}", "the sum of stored is not the length of FILES", {"stored": value})
    file_case(t, 69, "sum-of-raw-file", "the sum of stored is one more than the length of FILES", {"stored": 3, "raw": 3}, RAW)
    t.built(69, "byte-behind-files", "a byte of FILES belongs to no file", files=[*t.model.files, b"x"])
    t.built(69, "without-section", "files have bytes, and FILES is missing", files=[])
    worked.built(69, "section-without-files", "FILES is present, and there is no file", files=[b"x"])


def broken_frames(text):
    """What R070 and R105 refuse, as name → (frame of `text` gone wrong, why)."""
    right, less = zstd_frame(text), text[:-1]
    return {
        "undeclared": (zstd_frame(text, declare=False), "does not declare its content size"), "dictionary": (zstd_frame(text, dictionary=7), "names a dictionary"),
        "declares-less": (zstd_frame(text, len(text) - 1), "declares one byte less than it should"), "declares-more": (zstd_frame(text, len(text) + 1), "declares one byte more than it should"),
        "decodes-to-less": (zstd_frame(less, len(text)), "decodes to fewer bytes than it declares"), "decodes-to-more": (zstd_frame(text + b"x", len(text)), "decodes to more bytes than it declares"),
        "magic": (b"\x27" + right[1:], "has another magic"), "skippable": (b"\x50\x2a\x4d\x18\4\0\0\0abcd" + right, "follows a skippable frame"),
        "two-frames": (zstd_frame(text[:9]) + zstd_frame(text[9:]), "is two frames"), "byte-behind": (right + b"\0", "is followed by a byte"), "cut": (right[:-1], "is cut"),
        "empty-frame-behind": (right + zstd_frame(b""), "is followed by an empty frame"), "head-only": (right[:4], "is a magic alone"),
        "reserved-block": (right[:9] + bytes([right[9] | 6]) + right[10:], "has a block of the reserved type"), "reserved-bit": (right[:4] + bytes([right[4] | 8]) + right[5:], "has the reserved bit set"),
    }


def frames(t):
    for name, (stored, why) in broken_frames(TEXT).items():
        file_case(t, 70, f"frame-{name}", f"the frame of a carried file {why}", {}, stored=stored)
    bomb = zstd_frame(TEXT, 2**28)
    file_case(t, 70, "frame-bomb", "a small frame declares 2^28 bytes, as raw does, and decodes to few", {"raw": 2**28}, stored=bomb)
    file_case(t, 70, "digest-zstd", "the decoded bytes have another digest", {"blake3": "0" * 64}, kind="integrity")
    file_case(t, 70, "digest-raw", "the bytes of a raw file have another digest", {"blake3": "0" * 64}, RAW, kind="integrity")
    swapped = flip(t.image, t.image.sections[FILES][1] + t.image.sections[FILES][2] - 1).seal()
    t.add(70, "byte-raw", "a byte of a raw file is changed", swapped, kind="integrity")
