"""Text and source files below folders, as documents: for more text than a toolchain brings along, such as unpacked source packages.

The rules are for corpora of free software, where much is there many times: licences, generated code, tables of data. A file is left out where its name or
its bytes say that nobody wrote it to be read; a paragraph that was seen before is dropped, and with it a file that is mostly such paragraphs.
"""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from .pages import ascii_marks

PROSE = "adoc md pod rst texi texinfo txt"
CODE = "c cc cmake cpp cxx erl ex exs f f90 go groovy h hpp hs java js lua php py pyx rb rkt rs scrbl tcl ts"
SUFFIXES = {f".{suffix}" for suffix in f"{PROSE} {CODE}".split()}
# Tests repeat what they test; the others are other projects, translations, or made by programs.
SKIPPED_FOLDERS = {"test", "tests", "testing", "testdata", "testsuite", "fixtures", "third_party", "thirdparty", "vendor", "_vendor", "node_modules"} | {
    "external", "extern", "locale", "locales", "po", "i18n", "translations", "generated", "migrations", "licenses",
}  # fmt: skip
SHORTEST, LONGEST = 300, 100_000
LONGEST_LINE = 400
# Repetition counts from here: shorter paragraphs recur for good reason.
LONG_PARAGRAPH = 100
PARAGRAPHS = re.compile(r"\n[ \t]*\n")


def documents_below(label: str, folder: Path, seen: set[bytes], most: float) -> Iterator[tuple[str, str]]:
    """Names and texts, at most `most` bytes of them: which ones depends on digests of their names, so they come from everywhere below the folder."""
    names = {f"{label}/{path.relative_to(folder)}": path for path in folder.rglob("*") if path.suffix in SUFFIXES and path.is_file()}
    kept, total = {}, 0
    for name in sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest()):
        if total >= most:
            break
        if not SKIPPED_FOLDERS & set(names[name].relative_to(folder).parts):
            kept[name] = fresh(readable(names[name]), seen)
            total += len(kept[name].encode())
    for name in sorted(kept):
        yield name, kept[name]


def readable(path: Path) -> str:
    """The text of a file, or nothing where it is not English or code that people wrote."""
    content = path.read_bytes()
    if not SHORTEST <= len(content) <= LONGEST:
        return ""
    digits = len(content) - len(content.translate(None, b"0123456789"))
    foreign = len(content) - len(content.translate(None, bytes(range(128, 256))))
    if digits > 0.1 * len(content) or foreign > 0.02 * len(content) or b"\0" in content:
        return ""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return ""
    lines = text.splitlines()
    if max(map(len, lines)) > LONGEST_LINE or "generated" in "\n".join(lines[:10]).lower():
        return ""
    return ascii_marks("\n".join(line.rstrip() for line in lines)).strip() + "\n"


def fresh(text: str, seen: set[bytes]) -> str:
    """The text without long paragraphs that `seen` knows; nothing where little is left."""
    kept = []
    for paragraph in PARAGRAPHS.split(text):
        digest = hashlib.blake2b(" ".join(paragraph.split()).encode(), digest_size=8).digest()
        if len(paragraph) < LONG_PARAGRAPH or digest not in seen:
            seen.add(digest)
            kept.append(paragraph)
    left = "\n\n".join(kept)
    return left if len(left) >= max(SHORTEST, len(text) / 2) else ""
