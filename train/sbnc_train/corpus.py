"""`sbnc-train corpus`: text with permissive licences that is on a developer's machine already, as one file of documents.

| source | where | licence |
|---|---|---|
| `rust-books` | the books of rustup's `rust-docs`: The Rust Programming Language, the reference, the Rustonomicon, Rust by Example, … | MIT or Apache-2.0 |
| `rust-std` | the pages of `std`, `core` and `alloc` in the same place, without `core::arch` | MIT or Apache-2.0 |
| `rust-source` | the sources of these crates, in the same place | MIT or Apache-2.0 |
| `python-docs` | the language reference in `pydoc_data.topics` and the documentation strings of CPython's library | PSF-2.0 |
| `python-source` | the sources of CPython's library | PSF-2.0 |

Sources are left out unless they are asked for: they repeat the documentation. `--folders` adds files of folders of one's own (see `folders`). The Embedded Rust Book is left out: its prose is under CC-BY-SA. The output is JSON lines, `{"source", "name", "text"}`, in an order that depends on
the names alone, so the same toolchain gives the same bytes.
"""

import ast
import hashlib
import json
import math
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from .files import write_atomically
from .folders import documents_below
from .pages import text_of

SOURCES = ["rust-books", "rust-std", "rust-source", "python-docs", "python-source"]
BOOKS = ["book", "reference", "nomicon", "rust-by-example", "cargo", "edition-guide", "error_codes", "rustc", "rustdoc", "clippy", "style-guide"]
CRATES = ["std", "core", "alloc"]
# Thousands of intrinsics, one page each.
SKIPPED_MODULES = {"arch", "core_arch", "core_simd", "simd", "intrinsics", "legacy_int_modules"}
# Pages that gather or list the others.
SKIPPED_PAGES = {"print.html", "toc.html", "all.html", "SUMMARY.html", "404.html", "searchindex.html", "CHANGELOG.html", "test-summary.html"}
# Older editions of the book, which repeat the newest, and translations of Rust by Example.
SKIPPED_EDITIONS = {"first-edition", "second-edition", "2018-edition", "es", "ja", "ko", "zh"}
SKIPPED_PACKAGES = {"site-packages", "test", "tests", "idlelib", "lib2to3", "turtledemo", "__pycache__", "ensurepip", "encodings"}
SHORTEST = 200


def rust_books(docs: Path) -> Iterator[tuple[str, str]]:
    for book in BOOKS:
        seen: set[str] = set()
        for path in pages(docs / book):
            if path.name not in SKIPPED_PAGES and not SKIPPED_EDITIONS & set(path.relative_to(docs).parts):
                yield str(path.relative_to(docs)), text_of(path.read_text(encoding="utf-8"), seen, SHORTEST)


def rust_source(docs: Path) -> Iterator[tuple[str, str]]:
    for crate in CRATES:
        for path in pages(docs / "src" / crate):
            yield str(path.relative_to(docs)), text_of(path.read_text(encoding="utf-8"), set(), SHORTEST)


def rust_std(docs: Path) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    for crate in CRATES:
        for path in pages(docs / crate):
            modules = set(path.relative_to(docs).parts[1:-1])
            if path.name not in SKIPPED_PAGES and not modules & SKIPPED_MODULES:
                yield str(path.relative_to(docs)), text_of(path.read_text(encoding="utf-8"), seen, SHORTEST)


def pages(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.html"))


def python_docs() -> Iterator[tuple[str, str]]:
    from pydoc_data import topics

    for name, text in sorted(topics.topics.items()):
        yield f"topics/{name}", text.strip() + "\n"
    for name, path in library():
        text = docstrings(path)
        if len(text) >= SHORTEST:
            yield name, text


def python_source() -> Iterator[tuple[str, str]]:
    for name, path in library():
        text = path.read_text(encoding="utf-8", errors="replace")
        if len(text) >= SHORTEST:
            yield f"source/{name}", text


def library() -> Iterator[tuple[str, Path]]:
    """The files of CPython's library, without its tests and tools."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(folder.rglob("*.py")):
        relative = path.relative_to(folder)
        if not SKIPPED_PACKAGES & set(relative.parts) and not relative.parts[0].startswith("config-"):
            yield f"lib/{relative}", path


def docstrings(path: Path) -> str:
    """The documentation of a module and of what it defines, below the line that defines it."""
    source = path.read_text(encoding="utf-8", errors="replace")
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return ""
    lines = source.splitlines()
    blocks = []
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            text = ast.get_docstring(node)
            if text and len(text) >= 30:
                line = 0 if isinstance(node, ast.Module) else node.lineno
                blocks.append((line, text if line == 0 else f"{lines[line - 1].strip()}\n    " + text.replace("\n", "\n    ")))
    return "\n\n".join(text for _, text in sorted(blocks))


def rust_docs_folder() -> Path:
    try:
        run = subprocess.run(["rustup", "doc", "--path"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SystemExit(f"rustup doc --path failed ({error}): install the component rust-docs, or name its folder with --rust-docs") from error
    return Path(run.stdout.strip()).parent


def collect(sources: list[str], docs: Path | None, folders: Path | None = None, most: float = math.inf) -> Iterator[dict[str, str]]:
    """Documents of the sources, and of every folder in `folders`, each text once."""
    if docs is None and any(source.startswith("rust") for source in sources):
        docs = rust_docs_folder()
    readers = {
        "rust-books": lambda: rust_books(docs),
        "rust-std": lambda: rust_std(docs),
        "rust-source": lambda: rust_source(docs),
        "python-docs": python_docs,
        "python-source": python_source,
    }
    seen: set[bytes] = set()
    for folder in sorted(folders.iterdir()) if folders else []:
        readers[folder.name] = partial(documents_below, folder.name, folder, seen, most)
    digests = set()
    for source in [*sources, *(name for name in readers if name not in SOURCES)]:
        for name, text in readers[source]():
            digest = hashlib.sha256(text.encode()).digest()
            if text and digest not in digests:
                digests.add(digest)
                yield {"source": source, "name": name, "text": text}


def add_arguments(parser) -> None:
    parser.add_argument("--out", type=Path, required=True, help="the file of JSON lines to write")
    parser.add_argument("--sources", nargs="*", default=["rust-books", "rust-std", "python-docs"], choices=SOURCES)
    parser.add_argument("--folders", type=Path, help="a folder of folders: text and source files below each are a source with its name")
    parser.add_argument("--folder-megabytes", type=float, default=math.inf, help="at most so much text of each of them")
    parser.add_argument("--rust-docs", type=Path, help="the folder share/doc/rust/html of a toolchain (default: what rustup says)")


def run(arguments) -> None:
    totals: dict[str, list[int]] = {}
    lines = []
    for document in collect(arguments.sources, arguments.rust_docs, arguments.folders, arguments.folder_megabytes * 1e6):
        lines.append(json.dumps(document, ensure_ascii=False) + "\n")
        total = totals.setdefault(document["source"], [0, 0])
        total[0] += 1
        total[1] += len(document["text"].encode())
    write_atomically(arguments.out, "".join(lines).encode())
    for source, (documents, size) in totals.items():
        print(f"{source:<20} {documents:>6} documents {size / 1e6:8.2f} MB", file=sys.stderr)
