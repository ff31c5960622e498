"""HTML pages of mdBook and rustdoc as plain text in the style of Markdown.

Not a general converter: it knows the two generators whose pages ship with the Rust toolchain, keeps prose, headings, lists and code, and drops
navigation. A block of text that was seen before is dropped, because rustdoc repeats the documentation of a trait on every type.
"""

import re
from enum import Enum
from html.parser import HTMLParser
from typing import NamedTuple

BLOCKS = {"p", "h1", "h2", "h3", "h4", "h5", "h6", "li", "pre", "blockquote", "dt", "dd", "tr"}
SKIPPED = {"script", "style", "nav", "button", "svg", "rustdoc-toolbar", "footer", "form", "aside"}
# Parts of a rustdoc page that are not documentation.
SKIPPED_CLASSES = {"rightside", "anchor", "doc-anchor", "test-arrow", "since", "rustdoc-breadcrumbs", "sub-heading", "hideme", "buttons", "sidebar", "boring"}
VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
# The reference labels every rule.
RULE = re.compile(r"\[[\w.-]+\]")


class Kind(Enum):
    PROSE = "prose"
    HEADING = "heading"
    CODE = "code"
    SIGNATURE = "signature"


class Block(NamedTuple):
    text: str
    kind: Kind


class Text(HTMLParser):
    """Collects the blocks of the part of a page that holds the text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.blocks: list[Block] = []
        self.inside = 0
        self.skipping = 0
        self.open: list[tuple[str, bool, bool]] = []
        self.buffer: list[str] = []
        self.prefix = ""
        self.kind = Kind.PROSE

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "br":
            self.buffer.append("\n")
        if tag in VOID:
            return
        values = {key: value or "" for key, value in attrs}
        classes = set(values.get("class", "").split())
        main = tag == "main" or values.get("id") == "main-content"
        # Links to sources, and numbers of lines, which have an attribute of their own.
        aside = (tag == "a" and "src" in classes) or "data-nosnippet" in values
        skip = tag in SKIPPED or bool(classes & SKIPPED_CLASSES) or aside
        self.open.append((tag, main, skip))
        self.inside += main
        self.skipping += skip
        if self.skipping or not self.inside:
            return
        if tag in BLOCKS:
            self.flush()
            if tag[0] == "h" and tag[1:].isdigit():
                # rustdoc sets signatures as headings.
                self.kind = Kind.SIGNATURE if "code-header" in classes else Kind.HEADING
                self.prefix = "#" * int(tag[1]) + " " if self.kind is Kind.HEADING else ""
            elif tag == "li":
                self.prefix = "- "
            elif tag == "pre":
                self.kind = Kind.CODE
        elif tag == "code" and self.kind in (Kind.PROSE, Kind.HEADING):
            self.buffer.append("`")
        elif tag == "td" and self.buffer:
            self.buffer.append(" | ")

    def handle_endtag(self, tag: str) -> None:
        if all(open_tag != tag for open_tag, _, _ in self.open):
            return
        while True:
            name, main, skip = self.open.pop()
            if not self.skipping and self.inside:
                if name == "code" and self.kind in (Kind.PROSE, Kind.HEADING):
                    self.buffer.append("`")
                if name in BLOCKS:
                    self.flush()
            self.inside -= main
            self.skipping -= skip
            if name == tag:
                return

    def handle_data(self, data: str) -> None:
        if self.inside and not self.skipping:
            self.buffer.append(data)

    def flush(self) -> None:
        text, prefix, kind = "".join(self.buffer).replace("\xa0", " "), self.prefix, self.kind
        self.buffer, self.prefix, self.kind = [], "", Kind.PROSE
        code = kind in (Kind.CODE, Kind.SIGNATURE)
        text = text.strip("\n").rstrip() if code else " ".join(text.replace("§", "").split())
        if text.strip() and not RULE.fullmatch(text):
            self.blocks.append(Block(f"```\n{text}\n```" if code else prefix + text, kind))


def text_of(page: str, seen: set[str], shortest: int) -> str:
    """The text of a page, without long blocks that `seen` knows; empty where less than `shortest` characters remain."""
    parser = Text()
    parser.feed(page)
    parser.close()
    parser.flush()
    fresh = []
    for block in parser.blocks:
        # Short ones, such as headings, recur for good reason.
        if len(block.text) < 40 or block.text not in seen:
            seen.add(block.text)
            fresh.append(block)
    kept = [block.text for block, following in zip(fresh, [*fresh[1:], None]) if not dangling(block, following)]
    text = ascii_marks("\n\n".join(kept)).replace("\n\n- ", "\n- ") + "\n"
    return text if len(text) >= shortest else ""


def dangling(block: Block, following: Block | None) -> bool:
    """Whether a heading or a signature has lost, or never had, the text below it."""
    match block.kind:
        case Kind.SIGNATURE:
            return following is None or following.kind in (Kind.SIGNATURE, Kind.HEADING)
        case Kind.HEADING:
            return following is None or (following.kind is Kind.HEADING and level(following) <= level(block))
        case _:
            return False


def level(heading: Block) -> int:
    return len(heading.text) - len(heading.text.lstrip("#"))


def ascii_marks(text: str) -> str:
    """Typographic marks as a keyboard has them: a small vocabulary has better uses for its tokens."""
    return text.translate({0x2018: "'", 0x2019: "'", 0x201C: '"', 0x201D: '"', 0x2026: "...", 0x200B: None})
