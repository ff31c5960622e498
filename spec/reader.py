#!/usr/bin/env python3
"""A second reader of sbnc files, written from SPEC.md alone, in plain Python (3.9 or later) with nothing but its standard library.

It is meant to be read beside SPEC.md: it goes through a file in the document's order and refuses it at the first broken rule, naming the rule. It
writes nothing but what `dump` and `unpack` are asked for. numpy, where present, speeds up the digests; every decoder works on whole columns of bytes
(`bytes.translate`, strides, long integers) and needs no help. No size that a file states is used before it has been compared with the file's length.

    reader.py verify FILE [--deep] [--json]      reader.py dump FILE TENSOR -o OUT.npy [--scales OUT.npy]
    reader.py inspect FILE [--json]              reader.py unpack FILE.sbncz -o OUT.sbnc

Exit codes: 0 good, 2 usage, 3 invalid, 4 a digest does not match, 5 unsupported, 6 input or output failed.
"""

import argparse
import contextlib
import json
import math
import mmap
import os
import re
import stat
import struct
import sys
import tempfile
from collections import namedtuple
from types import SimpleNamespace

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from blake3 import blake3  # noqa: E402

MAGIC = bytes.fromhex("D3424E430D0A1A0A")
PACKED_MAGIC = bytes.fromhex("D3424E5A0D0A1A0A")
PREFIX_BYTES, SECTION_ENTRY_BYTES, RECORD_BYTES = 96, 64, 160
PACKED_PREFIX_BYTES, PACKED_ENTRY_BYTES = 128, 40
SECTION_ALIGN, TENSOR_ALIGN = 4096, 256
MAX_SECTIONS, MAX_TENSORS, MAX_NAME_BYTES, MAX_RANK, MAX_DIM, MAX_ELEMENTS = 64, 65536, 256, 4, 2**31, 2**40
MAX_MANIFEST_BYTES, MAX_MANIFEST_DEPTH, MAX_FILES, MAX_FILE_RAW_BYTES = 4194304, 16, 64, 2**28
MAX_BYTES, MAX_SCALE, CHUNK_BYTES, MAX_PACKED_RATIO = 2**42, 10000, 4194304, 1024

TENSORS, NAMES, MANIFEST, FILES, PAYLOAD = 16, 32, 48, 64, 128
SECTION_NAMES = {TENSORS: "TENSORS", NAMES: "NAMES", MANIFEST: "MANIFEST", FILES: "FILES", PAYLOAD: "PAYLOAD"}
ROLES = {1: "linear", 2: "embedding", 3: "norm", 4: "head", 5: "other"}
F32, F16, BF16, I8, T2, T5, NM_VI, NM_6B = 1, 2, 3, 4, 16, 17, 18, 19
ENCODINGS = {F32: "f32", F16: "f16", BF16: "bf16", I8: "i8", T2: "t2", T5: "t5", NM_VI: "nm-vi", NM_6B: "nm-6b"}
TERNARY = (T2, T5, NM_VI, NM_6B)
ROWS, FRAGMENTS, WINDOWS = 0, 1, 2
ORDERS = {ROWS: "rows", FRAGMENTS: "fragments", WINDOWS: "windows"}
EXIT_CODES = {"invalid": 3, "integrity": 4, "unsupported": 5}


class Refused(Exception):
    """A file breaks a rule. `kind` is invalid, integrity (a digest does not match) or unsupported."""

    def __init__(self, rule, message, kind="invalid"):
        super().__init__(f"SBNC-{rule}: {message}")
        self.rule, self.kind = rule, kind


def require(holds, rule, where, expected, found, kind="invalid"):
    if not holds:
        raise Refused(rule, f"{where}: expected {expected}, found {found}", kind)


def up(x, a):
    return -(-x // a) * a


# ---------------------------------------------------------------------------------------------------------------------------- §3 to §8: structure

Section = namedtuple("Section", "kind flags offset bytes reserved digest")
RECORD_FIELDS = ("name_offset name_bytes role encoding order order_version n m group_axis rank reserved shape0 shape1 shape2 shape3 offset "
                 "stored_bytes data_bytes scale_count non_zero stored_digest content_digest").split()


class File:
    """An sbnc file whose structure holds (§3 to §8, all but R070). `data` is bytes or a map; tensors are read from it when asked for."""

    def __init__(self, data, to_decode=False):
        self.data = data
        self.notes = []
        self.read_prefix(to_decode)
        self.read_sections()
        self.read_records()
        self.read_names()
        self.manifest = read_manifest(self.section(MANIFEST))
        self.check_files()

    def section(self, kind):
        entry = self.sections.get(kind)
        return self.data[entry.offset:entry.offset + entry.bytes] if entry else b""

    # §3
    def read_prefix(self, to_decode):
        data = self.data
        require(len(data) >= PREFIX_BYTES, "R001", "file", f"at least {PREFIX_BYTES} bytes", len(data))
        (magic, self.major, self.minor, self.header_bytes, file_bytes, self.compatible, self.inspect_only, self.incompatible, self.section_count,
         reserved1, reserved2, self.root) = struct.unpack("<8sHHIQQQQIIQ32s", data[:PREFIX_BYTES])
        require(magic == MAGIC, "R002", "magic", MAGIC.hex(), magic_hint(magic))
        require(self.major == 1, "R003", "major", 1, self.major, "unsupported")
        require(1 <= self.section_count <= MAX_SECTIONS, "R004", "section_count", f"1 to {MAX_SECTIONS}", self.section_count)
        header_bytes = PREFIX_BYTES + SECTION_ENTRY_BYTES * self.section_count
        require(self.header_bytes == header_bytes, "R005", "header_bytes", header_bytes, self.header_bytes)
        require(file_bytes == len(data), "R006", "file_bytes", f"the file's length {len(data)}", file_bytes)
        require(file_bytes <= MAX_BYTES, "R006", "file_bytes", f"at most {MAX_BYTES}", file_bytes)
        require(header_bytes <= file_bytes, "R006", "header_bytes", f"at most the file's {file_bytes}", header_bytes)
        root = blake3(data[:64] + bytes(32) + data[96:header_bytes])
        require(self.root == root, "R007", "root digest", root.hex(), self.root.hex(), "integrity")
        require(reserved1 == 0 and reserved2 == 0, "R008", "reserved fields of the prefix", 0, reserved1 or reserved2)
        require(self.incompatible == 0, "R009", "incompatible bits", "none (version 1 has none)", hex(self.incompatible), "unsupported")
        if self.inspect_only:
            require(not to_decode, "R010", "inspect_only bits", "none, to decode tensors", hex(self.inspect_only), "unsupported")
            self.notes.append(f"unknown inspect_only bits {self.inspect_only:#x}: digests are checked, tensors are not decoded (SBNC-R010)")

    # §4
    def read_sections(self):
        data = self.data
        raw = data[PREFIX_BYTES:self.header_bytes]
        table = [Section(*entry) for entry in struct.iter_unpack("<IIQQQ32s", raw)]
        label = [f"section {i} ({SECTION_NAMES.get(entry.kind, entry.kind)})" for i, entry in enumerate(table)]
        for i in range(1, len(table)):
            require(table[i].kind > table[i - 1].kind, "R020", label[i], f"a kind above {table[i - 1].kind}", table[i].kind)
        for where, entry in zip(label, table):
            allowed = {TENSORS: (1,), NAMES: (1,), MANIFEST: (1,), PAYLOAD: (1,), FILES: (0,)}.get(entry.kind, (0, 1))
            require(entry.flags in allowed, "R021", f"{where}: flags", " or ".join(map(str, allowed)), entry.flags)
        for where, entry in zip(label, table):
            require(entry.kind in SECTION_NAMES or not entry.flags & 1, "R022", where, "a known kind (it is REQUIRED)", entry.kind, "unsupported")
        self.sections = {entry.kind: entry for entry in table}
        for kind in (TENSORS, NAMES, MANIFEST, PAYLOAD):
            require(kind in self.sections, "R023", "section table", f"a section {SECTION_NAMES[kind]}", "none")
        for where, entry in zip(label, table):
            require(entry.bytes >= 1, "R024", f"{where}: bytes", "at least 1", entry.bytes)
        end = self.header_bytes
        gaps = []
        for where, entry in zip(label, table):
            require(entry.offset == up(end, SECTION_ALIGN), "R025", f"{where}: offset", up(end, SECTION_ALIGN), entry.offset)
            gaps.append((where, end, entry.offset))
            end = entry.offset + entry.bytes
        require(end == len(data), "R026", "end of the last section", f"file_bytes {len(data)}", end)
        for where, entry in zip(label, table):
            require(entry.reserved == 0, "R027", f"{where}: reserved field", 0, entry.reserved)
        for where, start, stop in gaps:
            require(not any(data[start:stop]), "R028", f"padding before {where}", "zeros", "another byte")
        for where, entry in zip(label, table):
            digest = bytes(32) if entry.kind == PAYLOAD else blake3(data[entry.offset:entry.offset + entry.bytes])
            require(entry.digest == digest, "R029", f"{where}: digest", digest.hex(), entry.digest.hex(), "integrity")

    # §5
    def read_records(self):
        raw = self.section(TENSORS)
        require(len(raw) % RECORD_BYTES == 0, "R040", "TENSORS", f"a multiple of {RECORD_BYTES} bytes", len(raw))
        require(len(raw) // RECORD_BYTES <= MAX_TENSORS, "R040", "TENSORS", f"at most {MAX_TENSORS} records", len(raw) // RECORD_BYTES)
        self.tensors = []
        for index, values in enumerate(struct.iter_unpack("<IIHHHHBBBBI4Q5Q32s32s", raw)):
            t = SimpleNamespace(**dict(zip(RECORD_FIELDS, values)), index=index, label=f"tensor {index}", opaque=False)
            t.dims = (t.shape0, t.shape1, t.shape2, t.shape3)
            t.shape = list(t.dims[:t.rank])
            t.elements = math.prod(t.shape)
            self.tensors.append(t)
            self.relaxed(t, check_kind)
            check_shape(t)
            self.relaxed(t, check_encoding)
        payload = self.sections[PAYLOAD]
        end = 0
        for t in self.tensors:
            require(t.offset == up(end, TENSOR_ALIGN), "R053", f"{t.label}: offset", up(end, TENSOR_ALIGN), t.offset)
            end = t.offset + t.stored_bytes
        require(end == payload.bytes, "R054", "end of the last tensor", f"the length of PAYLOAD {payload.bytes}", end)
        for t in self.tensors:
            require(t.reserved == 0, "R055", f"{t.label}: reserved field", 0, t.reserved)
            self.relaxed(t, check_counts)

    def relaxed(self, t, check):
        """A file with an unknown inspect_only bit may break these rules: its tensor is then opaque."""
        try:
            if not t.opaque:
                check(t)
        except Refused:
            if not self.inspect_only:
                raise
            t.opaque = True

    # §6
    def read_names(self):
        raw = self.section(NAMES)
        end = 0
        for t in self.tensors:
            require(t.name_offset == end, "R060", f"{t.label}: name_offset", end, t.name_offset)
            end += t.name_bytes
        require(end == len(raw), "R060", "end of the last name", f"the length of NAMES {len(raw)}", end)
        seen = set()
        for t in self.tensors:
            require(1 <= t.name_bytes <= MAX_NAME_BYTES, "R061", f"{t.label}: name_bytes", f"1 to {MAX_NAME_BYTES}", t.name_bytes)
            name = raw[t.name_offset:t.name_offset + t.name_bytes]
            require(all(0x21 <= c <= 0x7E and c not in b'"\\' for c in name), "R061", f"{t.label}: name", "printable ASCII without \" and \\", name)
            t.name = name.decode("ascii")
            t.label = f"tensor '{t.name}'"
        for t in self.tensors:
            require(t.name not in seen, "R062", t.label, "a name of its own", "one used before")
            seen.add(t.name)

    # §8
    def check_files(self):
        files = self.manifest["files"]
        require(len(files) <= MAX_FILES, "R067", "files", f"at most {MAX_FILES} entries", len(files))
        members = {"name": str, "codec": str, "stored": int, "raw": int, "blake3": str}
        before = ""
        for i, entry in enumerate(files):
            where = f"files[{i}]"
            require(type(entry) is dict and entry.keys() == members.keys(), "R067", where, f"the members {', '.join(members)}", entry)
            for member, kind in members.items():
                require(type(entry[member]) is kind, "R067", f"{where}.{member}", kind.__name__, type(entry[member]).__name__)
            require(HEX_DIGEST.fullmatch(entry["blake3"]), "R067", f"{where}.blake3", "64 lower-case hexadecimal digits", entry["blake3"])
            require(FILE_NAME.fullmatch(entry["name"]), "R067", f"{where}.name", "1 to 256 of A-Z a-z 0-9 . _ -, no leading dot", entry["name"])
            require(entry["name"] > before, "R067", f"{where}.name", f"a name above '{before}'", f"'{entry['name']}'")
            before = entry["name"]
        for entry in files:
            where, codec, stored, raw = f"file '{entry['name']}'", entry["codec"], entry["stored"], entry["raw"]
            require(codec in ("raw", "zstd"), "R068", f"{where}: codec", "raw or zstd", codec)
            require(0 <= raw <= MAX_FILE_RAW_BYTES, "R068", f"{where}: raw", f"0 to {MAX_FILE_RAW_BYTES}", raw)
            require(stored == raw if codec == "raw" else stored >= 1, "R068", f"{where}: stored", raw if codec == "raw" else "at least 1", stored)
        total = sum(entry["stored"] for entry in files)
        present = self.sections[FILES].bytes if FILES in self.sections else 0
        require(total == present, "R069", "sum of the files' stored bytes", f"the length of FILES {present}", total)

    def carried_file(self, name):
        """The decoded bytes of a carried file (R070), or None where a zstd module would be needed."""
        at = 0
        for entry in self.manifest["files"]:
            if entry["name"] == name:
                break
            at += entry["stored"]
        else:
            raise KeyError(name)
        where = f"file '{name}'"
        stored = self.section(FILES)[at:at + entry["stored"]]
        decoded = stored if entry["codec"] == "raw" else zstd_decode(stored, entry["raw"], "R070", where)
        if decoded is not None:
            digest = blake3(decoded).hex()
            require(digest == entry["blake3"], "R070", f"{where}: digest of the decoded bytes", entry["blake3"], digest, "integrity")
        return decoded

    # §9, §10
    def tensor(self, name):
        for t in self.tensors:
            if t.name == name:
                return t
        raise KeyError(name)

    def extent(self, t):
        start = self.sections[PAYLOAD].offset + t.offset
        return self.data[start:start + t.stored_bytes]

    def decode(self, t, check_content=True):
        """(elements, scales): the content of §9.3 as bytes, after every rule of §9 and §10 for this tensor."""
        require(not self.inspect_only, "R010", "inspect_only bits", "none, to decode tensors", hex(self.inspect_only), "unsupported")
        return self.check_tensor(t, check_content)

    def check_tensor(self, t, check_content):
        extent = self.extent(t)
        if t.index + 1 < len(self.tensors):
            payload = self.sections[PAYLOAD].offset
            gap = self.data[payload + t.offset + t.stored_bytes:payload + self.tensors[t.index + 1].offset]
            require(not any(gap), "R071", f"{t.label}: bytes after it", "zeros", "another byte")
        scales_at = t.stored_bytes if t.opaque else t.stored_bytes - 4 * t.scale_count
        if not t.opaque:
            require(not any(extent[t.data_bytes:scales_at]), "R071", f"{t.label}: bytes between data and scales", "zeros", "another byte")
        digest = blake3(extent)
        require(digest == t.stored_digest, "R072", t.label, t.stored_digest.hex(), digest.hex(), "integrity")
        if self.inspect_only:
            return None
        data, scales = extent[:t.data_bytes], extent[scales_at:]
        for row, (scale,) in enumerate(struct.iter_unpack("<f", scales)):
            require(0 < scale <= MAX_SCALE, "R073", f"{t.label}: scale of row {row}", f"above 0 and at most {MAX_SCALE}", scale)
        if t.encoding in (F32, F16, BF16):
            check_finite(t, data)
            return data, b""
        if t.encoding == I8:
            at = data.find(b"\x80")
            require(at < 0, "R075", f"{t.label}: element {at}", "-127 to 127", -128)
            elements = data
        else:
            elements = DECODERS[t.encoding, t.order](t, data)
        if check_content:
            digest = blake3(elements + scales)
            require(digest == t.content_digest, "R076", f"{t.label}: content digest", t.content_digest.hex(), digest.hex(), "integrity")
            if t.encoding in TERNARY:
                non_zero = t.elements - elements.count(0)
                require(non_zero == t.non_zero, "R076", f"{t.label}: non_zero", t.non_zero, non_zero, "integrity")
                check_pattern(t, elements)
        return elements, scales

    def verify(self, deep=False):
        """Everything the structure leaves open: carried files (R070) and tensors (§9, §10); with `deep` also R076 and R077."""
        for entry in self.manifest["files"]:
            if self.carried_file(entry["name"]) is None:
                self.notes.append(f"file '{entry['name']}': SBNC-R070's decoded digest was not checked: no zstd module (pip install zstandard)")
        for t in self.tensors:
            self.check_tensor(t, deep)


FILE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,255}")
HEX_DIGEST = re.compile(r"[0-9a-f]{64}")


def magic_hint(magic):
    if magic == PACKED_MAGIC:
        return f"{magic.hex()}, a packed file: unpack it first"
    mangled = (bytes(b & 0x7F for b in MAGIC), MAGIC.replace(b"\r\n", b"\n"), MAGIC.replace(b"\n", b"\r\n"), MAGIC.replace(b"\r\n", b"\r"))
    if any(magic.startswith(m[:8]) for m in mangled):
        return f"{magic.hex()}, a magic mangled by a transfer that was not binary"
    return magic.hex()


# ------------------------------------------------------------------------------------------------------------------------------- §5: one record

def check_kind(t):
    where = t.label
    require(t.role in ROLES, "R041", f"{where}: role", "1 to 5", t.role)
    require(t.encoding in ENCODINGS, "R042", f"{where}: encoding", f"one of {list(ENCODINGS)}", t.encoding)
    orders = (FRAGMENTS, WINDOWS) if t.encoding == NM_VI else (ROWS,)
    require(t.order in orders, "R043", f"{where}: order", f"one of {list(orders)} for {ENCODINGS[t.encoding]}", t.order)
    require(t.order_version == 1, "R043", f"{where}: order_version", 1, t.order_version)


def check_shape(t):
    require(1 <= t.rank <= MAX_RANK, "R044", f"{t.label}: rank", f"1 to {MAX_RANK}", t.rank)
    require(all(1 <= d <= MAX_DIM for d in t.shape), "R044", f"{t.label}: shape", f"dimensions from 1 to {MAX_DIM}", t.shape)
    require(not any(t.dims[t.rank:]), "R044", f"{t.label}: unused dimensions", 0, list(t.dims[t.rank:]))
    require(t.elements <= MAX_ELEMENTS, "R044", f"{t.label}: elements", f"at most {MAX_ELEMENTS}", t.elements)


def check_encoding(t):
    where, name = t.label, ENCODINGS[t.encoding]
    ternary, scaled, pattern = t.encoding in TERNARY, t.encoding in TERNARY + (I8,), (t.n, t.m) != (0, 0)
    require(t.rank == 2 or not scaled, "R045", f"{where}: rank", f"2 for {name}", t.rank)
    require(ternary or t.role != 1, "R045", f"{where}: encoding", "a ternary one for role linear", name)
    require(not pattern or 1 <= t.n < t.m <= 16, "R046", f"{where}: pattern", "0:0, or 1 <= n < m <= 16", f"{t.n}:{t.m}")
    require(ternary or not pattern, "R046", f"{where}: pattern", f"0:0 for {name}", f"{t.n}:{t.m}")
    require(t.group_axis == int(pattern), "R047", f"{where}: group_axis", int(pattern), t.group_axis)
    t.rows, t.cols = (t.shape[0], t.shape[1]) if scaled else (None, None)
    require(not pattern or t.cols % t.m == 0, "R048", f"{where}: cols", f"a multiple of {t.m}", t.cols)
    if t.order == WINDOWS:
        legal = t.m in (6, 8, 10, 12, 14, 16) and t.n == t.m - 2
        require(legal, "R049", f"{where}: pattern", "(m-2):m with m one of 6, 8, 10, 12, 14, 16", f"{t.n}:{t.m}")
    elif t.encoding in (NM_VI, NM_6B):
        require((t.n, t.m) in ((1, 4), (2, 4)), "R049", f"{where}: pattern", "1:4 or 2:4", f"{t.n}:{t.m}")
    scale_count = t.rows if scaled else 0
    require(t.scale_count == scale_count, "R050", f"{where}: scale_count", scale_count, t.scale_count)
    size = data_bytes(t)
    require(t.data_bytes == size, "R051", f"{where}: data_bytes", size, t.data_bytes)
    stored = up(size, TENSOR_ALIGN) + 4 * scale_count if scaled else size
    require(t.stored_bytes == stored, "R052", f"{where}: stored_bytes", stored, t.stored_bytes)


def data_bytes(t):
    if t.encoding in (F32, F16, BF16, I8):
        return t.elements * {F32: 4, F16: 2, BF16: 2, I8: 1}[t.encoding]
    if t.encoding in (T2, T5):
        per_byte = 4 if t.encoding == T2 else 5
        return t.rows * (up(t.cols, per_byte) // per_byte)
    if t.encoding == NM_6B:
        return t.rows * (up(6 * (t.cols // 4), 8) // 8)
    return up(t.rows, 16) // 16 * (up(expanded_cols(t), 128) // 128) * 512


def expanded_cols(t):
    """C of §5: cols, or the width of the windows side by side."""
    return t.cols // t.m * (t.m // 2 - 1) * 4 if t.order == WINDOWS else t.cols


def check_counts(t):
    most = t.elements if t.encoding in TERNARY else 0
    require(t.non_zero <= most, "R056", f"{t.label}: non_zero", f"at most {most}", t.non_zero)
    if t.encoding in (F32, F16, BF16):
        require(t.content_digest == t.stored_digest, "R056", f"{t.label}: content_digest", "the stored_digest", t.content_digest.hex())


# -------------------------------------------------------------------------------------------------------------------------------- §7: manifest

SPACE = re.compile(r"[ \t\n\r]*")
NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
STRING = re.compile(r'"((?:[^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*)"')
ESCAPE = re.compile(r"\\(?:u(....)|(.))")
SHORT_ESCAPES = {'"': '"', "\\": "\\", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
INTEGER_LIMIT = 2**53


class Json:
    """A parser of the JSON of §7. What is not JSON at all is refused at once (R063); R064 and R065 are noted and refused at the end, in that order."""

    def __init__(self, raw):
        require(len(raw) <= MAX_MANIFEST_BYTES, "R063", "manifest", f"at most {MAX_MANIFEST_BYTES} bytes", len(raw))
        try:
            self.text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise Refused("R063", f"manifest: expected UTF-8, found another byte at {error.start}") from None
        self.at, self.faults = 0, {}
        self.space()
        self.value = self.parse(1)
        self.space()
        self.expect(self.at == len(self.text), "the end")
        self.expect(type(self.value) is dict, "an object at the top")
        for rule in sorted(self.faults):
            raise Refused(rule, self.faults[rule])

    def expect(self, holds, what):
        require(holds, "R063", f"manifest, character {self.at}", what, repr(self.text[self.at:self.at + 12]))

    def fault(self, rule, expected, found):
        self.faults.setdefault(rule, f"manifest, character {self.at}: expected {expected}, found {found[:40]!r}")

    def space(self):
        end = SPACE.match(self.text, self.at).end()
        if end > self.at:
            self.fault("R064", "no whitespace", self.text[self.at:end])
        self.at = end

    def take(self, literal):
        if self.text.startswith(literal, self.at):
            self.at += len(literal)
            return True
        return False

    def parse(self, depth):
        first = self.text[self.at:self.at + 1]
        if first in ("{", "["):
            self.expect(depth <= MAX_MANIFEST_DEPTH, f"at most {MAX_MANIFEST_DEPTH} levels")
            return self.items(depth, {}, "}") if first == "{" else self.items(depth, [], "]")
        if first == '"':
            return self.string()
        for literal, value in (("true", True), ("false", False), ("null", None)):
            if self.take(literal):
                return value
        return self.number()

    def items(self, depth, into, close):
        self.at += 1
        self.space()
        last = None
        if self.take(close):
            return into
        while True:
            if close == "}":
                self.expect(self.text.startswith('"', self.at), "a key")
                key = self.string()
                order = key.encode("utf-8", "surrogatepass")
                if last is not None and order <= last:
                    self.fault("R064", "keys in ascending order, each once", key)
                last = order
                self.space()
                self.expect(self.take(":"), "':'")
                self.space()
                into[key] = self.parse(depth + 1)
            else:
                into.append(self.parse(depth + 1))
            self.space()
            if self.take(close):
                return into
            self.expect(self.take(","), f"',' or '{close}'")
            self.space()

    def string(self):
        match = STRING.match(self.text, self.at)
        self.expect(match, "a string")
        value = ESCAPE.sub(self.unescape, match.group(1))
        self.at = match.end()
        return value

    def unescape(self, match):
        code, short = match.groups()
        char = chr(int(code, 16)) if code else SHORT_ESCAPES.get(short, short)
        canonical = short != "/" if short else char < " " and char not in "\b\f\n\r\t" and code == code.lower()
        if not canonical:
            self.fault("R064", "a canonical escape", match.group())
        return char

    def number(self):
        match = NUMBER.match(self.text, self.at)
        self.expect(match, "a value")
        text = match.group()
        # 2^53 has 16 digits: what is longer is out of range, and int() of a very long one would be slow.
        whole = match.group(1) is None and match.group(2) is None and text != "-0" and len(text) <= 17
        value = int(text) if whole else 0
        if not whole or abs(value) > INTEGER_LIMIT:
            self.fault("R065", "an integer from -2^53 to 2^53", text)
        self.at = match.end()
        return value


def read_manifest(raw):
    manifest = Json(raw).value
    check_members(manifest, "", {"files": is_array, "provenance": is_object})
    check_members(manifest["provenance"], "provenance.", {
        "compiler": is_string, "kind": is_string, "options": is_object_of_strings, "rules": is_object_of_strings, "sources": is_array})
    for i, source in enumerate(manifest["provenance"]["sources"]):
        where = f"provenance.sources[{i}]"
        require(is_object(source), "R066", where, "an object", json_text(source))
        check_members(source, f"{where}.", {"name": is_string, "bytes": is_count, "blake3": is_hex_digest})
    if "model" in manifest:
        check_members(manifest, "", {"model": is_object})
        check_model(manifest["model"])
    return manifest


def check_model(model):
    size = ranged(1, 2**24)
    members = {"family": is_string, "layers": ranged(1, 1024), "heads": ranged(1, 1024), "activation": one_of("silu", "relu2", "gelu"),
               "activation_bits": one_of(8, 4), "norm_eps": is_positive_real, "rope": is_object, "tied": is_boolean,
               "tensors": is_object_of_strings, "tokens": is_object}
    members.update({member: size for member in ("hidden", "intermediate", "kv_heads", "head_dim", "vocab", "context")})
    check_members(model, "model.", members, optional={"window": is_integer})
    require(model["heads"] % model["kv_heads"] == 0, "R066", "model.heads", f"a multiple of kv_heads {model['kv_heads']}", model["heads"])
    check_members(model["rope"], "model.rope.", {"style": one_of("half", "interleaved"), "theta": is_positive_real},
                  optional={"scaling": is_object_of_strings_and_integers})
    check_members(model["tokens"], "model.tokens.", {}, optional={"bos": is_integer, "eos": is_array_of_integers, "pad": is_integer})


def check_members(value, path, members, optional=None):
    for member, test in members.items():
        require(member in value, "R066", f"{path}{member}", test.__doc__, "nothing")
    for member, test in {**members, **(optional or {})}.items():
        if member in value:
            require(test(value[member]), "R066", f"{path}{member}", test.__doc__, json_text(value[member]))


def json_text(value):
    return json.dumps(value)[:60]


def predicate(description, test):
    test.__doc__ = description
    return test


def ranged(low, high):
    return predicate(f"an integer from {low} to {high}", lambda v: type(v) is int and low <= v <= high)


def one_of(*values):
    return predicate(f"one of {', '.join(map(str, values))}", lambda v: any(type(v) is type(x) and v == x for x in values))


def is_real(v):
    return type(v) is str and bool(NUMBER.fullmatch(v)) and math.isfinite(float(v))


is_string = predicate("a string", lambda v: type(v) is str)
is_integer = predicate("an integer", lambda v: type(v) is int)
is_boolean = predicate("true or false", lambda v: type(v) is bool)
is_object = predicate("an object", lambda v: type(v) is dict)
is_array = predicate("an array", lambda v: type(v) is list)
is_count = predicate("an integer, at least 0", lambda v: type(v) is int and v >= 0)
is_hex_digest = predicate("64 lower-case hexadecimal digits", lambda v: type(v) is str and bool(HEX_DIGEST.fullmatch(v)))
is_positive_real = predicate("a real above 0 as a string", lambda v: is_real(v) and float(v) > 0)
is_object_of_strings = predicate("an object of strings", lambda v: is_object(v) and all(map(is_string, v.values())))
is_object_of_strings_and_integers = predicate("an object of strings and integers",
                                              lambda v: is_object(v) and all(is_string(x) or is_integer(x) for x in v.values()))
is_array_of_integers = predicate("an array of integers", lambda v: is_array(v) and all(map(is_integer, v)))


# ------------------------------------------------------------------------------------------------------------------------- §9, §10: elements

def table(function):
    return bytes(function(b) & 0xFF for b in range(256))


def first_not(data, legal):
    """Where the first byte of `data` is that is not in `legal`, or None."""
    others = data.translate(None, bytes(legal))
    return data.index(others[:1]) if others else None


def either(a, b):
    """a | b, byte by byte."""
    return (int.from_bytes(a, "little") | int.from_bytes(b, "little")).to_bytes(len(a), "little")


def check_finite(t, data):
    step = 1 << 22
    for at in range(0, len(data), step):
        part = data[at:at + step]
        if t.encoding == F16:
            bad = first_not(part[1::2], FINITE_F16)
        else:
            width = 4 if t.encoding == F32 else 2
            # The exponent is bits 6..0 of the last byte and bit 7 of the one before.
            bad = first_not(either(part[width - 1::width].translate(LOW_SEVEN), part[width - 2::width].translate(TOP_BIT)), range(255))
        require(bad is None, "R074", t.label, "finite values", f"NaN or infinity near element {at}+{bad}")


FINITE_F16 = [b for b in range(256) if b & 0x7C != 0x7C]
LOW_SEVEN, TOP_BIT = table(lambda b: (b & 0x7F) << 1), table(lambda b: b >> 7)
NON_ZERO = table(lambda b: b != 0)


def check_pattern(t, elements):
    """R077. No row ends inside a group (R048), so the groups of all rows follow one another."""
    if t.m:
        flags = elements.translate(NON_ZERO)
        counts = sum(int.from_bytes(flags[i::t.m], "little") for i in range(t.m)).to_bytes(len(flags) // t.m, "little")
        bad = first_not(counts, range(t.n + 1))
        if bad is not None:
            row, group = divmod(bad, t.cols // t.m)
            raise Refused("R077", f"{t.label}: row {row}, group {group}: expected at most {t.n} non-zeros of {t.m}, found {counts[bad]}")


def crop(padded, rows, padded_cols, cols):
    if padded_cols == cols:
        return bytes(padded[:rows * cols])
    return b"".join(padded[row * padded_cols:row * padded_cols + cols] for row in range(rows))


def decode_radix(t, data, base, per_byte, legal, code_rule, padding_rule):
    """§10.1, §10.2: digit i of a byte, in base 4 or 3, is trit + 1."""
    width = up(t.cols, per_byte) // per_byte
    bad = first_not(data, legal)
    if bad is not None:
        raise Refused(code_rule, f"{t.label}: row {bad // width}, byte {bad % width}: expected digits 0, 1 and 2 only, found {data[bad]:#04x}")
    if t.cols % per_byte:
        used = base ** (t.cols % per_byte)
        padding = sum(base ** i for i in range(per_byte)) // used
        bad = first_not(data[width - 1::width], [b for b in range(256) if b // used == padding])
        require(bad is None, padding_rule, f"{t.label}: row {bad}", "trit 0 beyond cols", "another")
    out = bytearray(per_byte * len(data))
    for i in range(per_byte):
        out[i::per_byte] = data.translate(table(lambda b: b // base ** i % base - 1))
    return crop(out, t.rows, width * per_byte, t.cols)


def decode_t2(t, data):
    return decode_radix(t, data, 4, 4, T2_LEGAL, "R080", "R081")


def decode_t5(t, data):
    return decode_radix(t, data, 3, 5, range(243), "R082", "R083")


T2_LEGAL = [b for b in range(256) if all(b >> shift & 3 != 3 for shift in (0, 2, 4, 6))]


def six_bit_groups():
    """The four trits of each code of §10.3."""
    groups = [(0, 0, 0, 0)]
    for p in range(4):
        groups += [tuple(value if k == p else 0 for k in range(4)) for value in (1, -1)]
    for i in range(4):
        for j in range(i + 1, 4):
            groups += [tuple({i: u, j: v}.get(k, 0) for k in range(4)) for v in (1, -1) for u in (1, -1)]
    return groups


SIX_BIT = six_bit_groups()


def expand_groups(groups, four_trits):
    """Four trits for each byte of `groups`; `four_trits` is a list of 256 or fewer groups."""
    out = bytearray(4 * len(groups))
    for i in range(4):
        out[i::4] = groups.translate(table(lambda b: four_trits[b][i] if b < len(four_trits) else 0))
    return out


def decode_nm_6b(t, data):
    groups = t.cols // 4
    width = up(6 * groups, 8) // 8
    padded = bytearray()
    for row in range(t.rows):
        padded += data[row * width:(row + 1) * width].ljust(up(width, 3), b"\0")
    b0, b1, b2 = (bytes(padded[i::3]) for i in range(3))
    # Three bytes hold four codes.
    codes = bytearray(len(padded) // 3 * 4)
    codes[0::4] = b0.translate(table(lambda b: b & 63))
    codes[1::4] = either(b0.translate(table(lambda b: b >> 6)), b1.translate(table(lambda b: (b & 15) << 2)))
    codes[2::4] = either(b1.translate(table(lambda b: b >> 4)), b2.translate(table(lambda b: (b & 3) << 4)))
    codes[3::4] = b2.translate(table(lambda b: b >> 2))
    per_row = len(codes) // t.rows
    inside, most = crop(codes, t.rows, per_row, groups), 8 if t.n == 1 else 32
    bad = first_not(inside, range(most + 1))
    if bad is not None:
        row, group = divmod(bad, groups)
        raise Refused("R084", f"{t.label}: row {row}, group {group}: expected a code of at most {most}, found {inside[bad]}")
    for row in range(t.rows):
        require(not any(codes[row * per_row + groups:(row + 1) * per_row]), "R085", f"{t.label}: row {row}", "zero bits beyond the last group", "ones")
    return bytes(expand_groups(inside, SIX_BIT))


# nm-vi. A group is gathered into one byte: its index nibble in the high half, 3 (v0 + 1) + v1 + 1 in the low one.
PAIRS = ((1, 1), (1, 0), (0, 1), (1, -1), (-1, 1), (-1, 0), (0, -1), (-1, -1), (0, 0))
NIBBLES = (4, 8, 9, 12, 13, 14)
EMPTY_GROUP = 4 << 4 | 4
LOW_NIBBLE_UP, HIGH_NIBBLE_UP = table(lambda b: b << 4), table(lambda b: b & 0xF0)
# Two pair codes in a byte are the two slots of a group, for the upper row of the pair (0) and the lower (1).
SLOTS = [table(lambda b: 3 * (PAIRS[min(b & 15, 8)][half] + 1) + PAIRS[min(b >> 4, 8)][half] + 1) for half in (0, 1)]
TWO_PAIR_CODES = [b for b in range(256) if b & 15 <= 8 and b >> 4 <= 8]


def group_trits(byte):
    nibble, v0, v1 = byte >> 4, (byte & 15) // 3 - 1, (byte & 15) % 3 - 1
    trits = [0] * 4
    trits[nibble & 3], trits[nibble >> 2] = v0, v1
    return trits


def is_smallest(byte):
    nibble, v0, v1 = byte >> 4, (byte & 15) // 3 - 1, (byte & 15) % 3 - 1
    return (v0 != 0 or nibble & 3 == 0) and (v1 != 0 or nibble == 4)


GROUP_TRITS = [group_trits(b) if b >> 4 in NIBBLES and b & 15 <= 8 else (0,) * 4 for b in range(256)]
SMALLEST = [b for b in range(256) if is_smallest(b)]
ONE_OF_FOUR = [b for b in SMALLEST if (b & 15) // 3 == 1 or (b & 15) % 3 == 1]
NON_ZERO_MASK = table(lambda b: sum(1 << i for i in range(4) if GROUP_TRITS[b][i]))


def gather_groups(data, row_tiles, col_tiles):
    """The groups of the padded matrix, row-major, out of tiles of 512 bytes."""
    tiles = bytearray(len(data))
    for row in range(16):
        for group in range(32):
            half, quad, lane_row, h, q = row // 8, group % 16 * 2 % 16 // 4, row % 8, group // 16, group % 16
            slots = data[16 * (4 * lane_row + quad) + 8 * h + (4 * (q // 8) + 2 * q % 4) // 2::512].translate(SLOTS[half])
            nibbles = data[16 * (4 * lane_row + 2 * (q // 8) + half) + 8 * h + 4 + q % 8 // 2::512]
            tiles[32 * row + group::512] = either(slots, nibbles.translate(HIGH_NIBBLE_UP if q % 2 else LOW_NIBBLE_UP))
    return b"".join(tiles[512 * (i * col_tiles + j) + 32 * row:][:32] for i in range(row_tiles) for row in range(16) for j in range(col_tiles))


def read_nm_vi(t, data):
    """The groups of the matrix (for windows the expanded one), each legal, row-major."""
    row_tiles, col_tiles, groups = up(t.rows, 16) // 16, up(expanded_cols(t), 128) // 128, expanded_cols(t) // 4
    for byte in range(4):
        for word in (0, 8):
            bad = first_not(data[word + byte::16], TWO_PAIR_CODES)
            require(bad is None, "R086", t.label, "pair codes of at most 8", f"another in lane {(bad or 0) % 32} of tile {(bad or 0) // 32}")
    padded_groups = col_tiles * 32
    gathered = gather_groups(data, row_tiles, col_tiles)
    legal = {"R087": ([b for b in range(256) if b >> 4 in NIBBLES], "an index nibble of 4, 8, 9, 12, 13 or 14"),
             "R088": (ONE_OF_FOUR if t.n == 1 else SMALLEST, f"the smallest pair and at most {min(t.n, 2)} non-zeros")}
    for rule, (bytes_allowed, expected) in legal.items():
        bad = first_not(gathered, bytes_allowed)
        if bad is not None:
            row, group = divmod(bad, padded_groups)
            raise Refused(rule, f"{t.label}: row {row}, group {group}: expected {expected}, found nibble {gathered[bad] >> 4}, "
                                f"values {(gathered[bad] & 15) // 3 - 1} and {(gathered[bad] & 15) % 3 - 1}")
    outside = gathered[t.rows * padded_groups:] + b"".join(gathered[row * padded_groups + groups:(row + 1) * padded_groups] for row in range(t.rows))
    require(first_not(outside, [EMPTY_GROUP]) is None, "R089", t.label, "zero groups beyond the matrix", "another")
    return crop(gathered, t.rows, padded_groups, groups)


def decode_fragments(t, data):
    return bytes(expand_groups(read_nm_vi(t, data), GROUP_TRITS))


def decode_windows(t, data):
    groups = read_nm_vi(t, data)
    windows = t.m // 2 - 1
    masks = groups.translate(NON_ZERO_MASK)
    for w in range(1, windows):
        # The window before in the high half, this one in the low half of a byte.
        pairs = either(masks[w - 1::windows].translate(LOW_NIBBLE_UP), masks[w::windows])
        bad = first_not(pairs, PLACED)
        if bad is not None:
            row, block = divmod(bad, t.cols // t.m)
            raise Refused("R090", f"{t.label}: row {row}, block {block}: expected each non-zero in the first window with room, found one in window {w}")
    expanded = expand_groups(groups, GROUP_TRITS)
    out = bytearray(t.rows * t.cols)
    for column in range(t.m):
        here, before = column // 2, column // 2 - 1
        parts = [expanded[4 * w + i::4 * windows] for w, i in ((here, column % 2), (before, column % 2 + 2)) if 0 <= w < windows]
        out[column::t.m] = either(*parts) if len(parts) == 2 else parts[0]
    return bytes(out)


def is_placed(byte):
    before, here = byte >> 4, byte & 15
    return all(not here >> i & 1 or (bin(before).count("1") == 2 and before < 1 << (2 + i)) for i in (0, 1))


PLACED = [b for b in range(256) if is_placed(b)]
DECODERS = {(T2, ROWS): decode_t2, (T5, ROWS): decode_t5, (NM_6B, ROWS): decode_nm_6b, (NM_VI, FRAGMENTS): decode_fragments,
            (NM_VI, WINDOWS): decode_windows}


# -------------------------------------------------------------------------------------------------------------------------------------- zstd

def zstd_module():
    """A function from frame and size to decoded bytes, or None. Only frames with compressed blocks need it."""
    try:
        from compression import zstd
        return lambda frame, size: zstd.decompress(frame)
    except ImportError:
        pass
    try:
        import zstandard
        return lambda frame, size: zstandard.ZstdDecompressor().decompress(frame, max_output_size=size)
    except ImportError:
        return None


def zstd_frame(data):
    """(declared size or None, dictionary id, blocks) of the one frame that `data` is; a block is (type, size, start). RFC 8878, §3.1.1."""
    def number(start, count):
        if start + count > len(data):
            raise ValueError("a frame cut short")
        return int.from_bytes(data[start:start + count], "little")

    if number(0, 4) != 0xFD2FB528:
        raise ValueError(f"the magic {data[:4].hex()}")
    descriptor = number(4, 1)
    if descriptor & 0x08:
        raise ValueError("a reserved bit of the frame header")
    single = descriptor >> 5 & 1
    at = 5 + (1 - single)
    dictionary_bytes = (0, 1, 2, 4)[descriptor & 3]
    dictionary = number(at, dictionary_bytes)
    at += dictionary_bytes
    size_bytes = (single, 2, 4, 8)[descriptor >> 6]
    size = number(at, size_bytes) + (256 if size_bytes == 2 else 0) if size_bytes else None
    at += size_bytes
    blocks, last = [], False
    while not last:
        header = number(at, 3)
        last, kind, length = header & 1, header >> 1 & 3, header >> 3
        stored = 1 if kind == 1 else length
        if kind == 3 or length > 131072:
            raise ValueError("a block of unknown type or more than 128 KiB")
        number(at + 3, stored)
        blocks.append((kind, length, at + 3))
        at += 3 + stored
    if at + (4 if descriptor & 4 else 0) != len(data):
        raise ValueError("other bytes after the frame, or a frame cut short")
    return size, dictionary, blocks


def zstd_decode(data, size, rule, where):
    """`data` as one zstd frame of `size` decoded bytes, or None where its blocks are compressed and no zstd module is at hand."""
    try:
        declared, dictionary, blocks = zstd_frame(data)
        require(dictionary == 0, rule, where, "a zstd frame without dictionary", f"dictionary {dictionary}")
        require(declared == size, rule, where, f"a zstd frame that declares {size} bytes", declared)
        if any(kind == 2 for kind, _, _ in blocks):
            decompress = zstd_module()
            if decompress is None:
                return None
            try:
                decoded = decompress(data, size)
            except Exception as error:  # The two modules share no exception type.
                raise ValueError(f"a broken frame ({error})") from None
        else:
            if sum(length for _, length, _ in blocks) != size:
                raise ValueError("another number of decoded bytes")
            decoded = b"".join(data[start:start + 1] * length if kind == 1 else data[start:start + length] for kind, length, start in blocks)
    except ValueError as error:
        raise Refused(rule, f"{where}: expected one zstd frame of {size} decoded bytes, found {error}") from None
    require(len(decoded) == size, rule, where, f"{size} decoded bytes", len(decoded))
    return decoded


# ------------------------------------------------------------------------------------------------------------------------- §11: packed form

class Packed:
    """A packed file whose table holds (R100 to R103)."""

    def __init__(self, data):
        self.data = data
        require(len(data) >= PACKED_PREFIX_BYTES, "R100", "packed file", f"at least {PACKED_PREFIX_BYTES} bytes", len(data))
        (magic, major, _minor, chunk_bytes, file_bytes, self.raw_bytes, chunk_count, reserved1, reserved2, self.root,
         digest) = struct.unpack("<8sHHIQQII24s32s32s", data[:PACKED_PREFIX_BYTES])
        require(magic == PACKED_MAGIC, "R100", "magic", PACKED_MAGIC.hex(), magic.hex())
        require(major == 1, "R100", "major", 1, major)
        require(chunk_bytes == CHUNK_BYTES, "R101", "chunk_bytes", CHUNK_BYTES, chunk_bytes)
        require(reserved1 == 0 and not any(reserved2), "R101", "reserved bytes", 0, "another")
        require(file_bytes == len(data), "R101", "file_bytes", f"the file's length {len(data)}", file_bytes)
        require(PREFIX_BYTES <= self.raw_bytes <= MAX_BYTES, "R101", "raw_bytes", f"{PREFIX_BYTES} to {MAX_BYTES}", self.raw_bytes)
        most = MAX_PACKED_RATIO * file_bytes
        require(self.raw_bytes <= most, "R101", "raw_bytes", f"at most {MAX_PACKED_RATIO} times the file's length", self.raw_bytes)
        count = up(self.raw_bytes, CHUNK_BYTES) // CHUNK_BYTES
        require(chunk_count == count, "R101", "chunk_count", count, chunk_count)
        table_end = PACKED_PREFIX_BYTES + PACKED_ENTRY_BYTES * count
        require(table_end <= file_bytes, "R102", "end of the chunk table", f"at most {file_bytes}", table_end)
        computed = blake3(data[:96] + bytes(32) + data[PACKED_PREFIX_BYTES:table_end])
        require(digest == computed, "R102", "digest of prefix and table", computed.hex(), digest.hex(), "integrity")
        self.chunks = []
        at = table_end
        for i, (stored, codec, chunk_digest) in enumerate(struct.iter_unpack("<II32s", data[PACKED_PREFIX_BYTES:table_end])):
            size = min(CHUNK_BYTES, self.raw_bytes - i * CHUNK_BYTES)
            require(codec in (0, 1), "R103", f"chunk {i}: codec", "0 or 1", codec)
            require(1 <= stored <= size and (codec or stored == size), "R103", f"chunk {i}: stored bytes", f"{1 if codec else size} to {size}", stored)
            self.chunks.append((at, stored, codec, size, chunk_digest))
            at += stored
        require(at == file_bytes, "R103", "end of the chunks", f"file_bytes {file_bytes}", at)

    def decoded_chunks(self):
        """Each chunk's decoded bytes, or None (R104, R105)."""
        for i, (at, stored, codec, size, digest) in enumerate(self.chunks):
            chunk = self.data[at:at + stored]
            computed = blake3(chunk)
            require(digest == computed, "R104", f"chunk {i}", digest.hex(), computed.hex(), "integrity")
            yield zstd_decode(chunk, size, "R105", f"chunk {i}") if codec else chunk

    def unpack_into(self, out):
        """Write the unpacked file to `out`; False, with every digest checked, where a zstd module would be needed."""
        complete = True
        for chunk in self.decoded_chunks():
            complete = complete and chunk is not None
            if complete:
                out.write(chunk)
        out.flush()
        return complete

    def inner(self, data, to_decode=False):
        """R106, for the unpacked file."""
        try:
            file = File(data, to_decode)
        except Refused as refusal:
            if int(refusal.rule[1:]) > 62:
                raise
            raise Refused("R106", f"unpacked file: {refusal}", refusal.kind) from None
        require(file.root == self.root, "R106", "root digest of the unpacked file", self.root.hex(), file.root.hex(), "integrity")
        return file


# ------------------------------------------------------------------------------------------------------------------------------- commands

@contextlib.contextmanager
def mapped(path):
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(f"{path}: not a regular file")
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            yield b""
        else:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                yield data


@contextlib.contextmanager
def opened(data, to_decode=False):
    """A File out of the bytes of a file of either form; None where a packed one cannot be decoded here."""
    if data[:8] != PACKED_MAGIC:
        yield File(data, to_decode)
        return
    packed = Packed(data)
    with tempfile.TemporaryFile() as unpacked:
        if not packed.unpack_into(unpacked):
            yield None
            return
        with mmap.mmap(unpacked.fileno(), 0, access=mmap.ACCESS_READ) as inner:
            yield packed.inner(inner, to_decode)


UNDECODED = "SBNC-R105's decoded bytes and SBNC-R106 were not checked: no zstd module (pip install zstandard)"


def verify_bytes(data, deep=False):
    """(root, notes) of a good file of either form; raises Refused."""
    with opened(data, deep) as file:
        if file is None:
            return Packed(data).root.hex(), [UNDECODED]
        file.verify(deep)
        return file.root.hex(), file.notes


def describe(file):
    """What `inspect --json` prints."""
    tensors = [{
        "name": t.name, "shape": t.shape, "role": ROLES.get(t.role, t.role), "encoding": ENCODINGS.get(t.encoding, t.encoding),
        "order": ORDERS.get(t.order, t.order), "nm": f"{t.n}:{t.m}" if t.m else None, "stored_bytes": t.stored_bytes,
        "bits_per_weight": round(8 * t.stored_bytes / t.elements, 4),
        "zero_fraction": round(1 - t.non_zero / t.elements, 6) if t.encoding in TERNARY and not t.opaque else None,
        "digest": t.content_digest.hex(), "stored_digest": t.stored_digest.hex()} for t in file.tensors]
    sections = [{"kind": s.kind, "name": SECTION_NAMES.get(s.kind), "required": bool(s.flags & 1), "offset": s.offset, "bytes": s.bytes,
                 "digest": s.digest.hex()} for s in file.sections.values()]
    features = {word: f"{getattr(file, word):#x}" for word in ("compatible", "inspect_only", "incompatible")}
    return {"root": file.root.hex(), "file_bytes": len(file.data), "major": file.major, "minor": file.minor, "features": features,
            "sections": sections, "tensors": tensors, "manifest": file.manifest}


def print_table(description):
    rows = [("name", "shape", "encoding", "nm", "bits/w", "zeros", "digest")]
    for t in description["tensors"]:
        zeros = "-" if t["zero_fraction"] is None else f"{100 * t['zero_fraction']:.1f} %"
        rows.append((t["name"], "x".join(map(str, t["shape"])), f"{t['encoding']}/{t['order']}", t["nm"] or "-", f"{t['bits_per_weight']:.2f}", zeros,
                     t["digest"][:16]))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    print(f"root {description['root']}, {description['file_bytes']} bytes, {len(rows) - 1} tensors")
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def write_npy(path, dtype, shape, data):
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': ({', '.join(map(str, shape))},), }}"
    header = header.ljust(up(10 + len(header) + 1, 64) - 11) + "\n"
    with open(path, "wb") as out:
        out.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode("latin-1") + data)


def verify_command(args, data):
    root, notes = verify_bytes(data, args.deep)
    for note in notes:
        print(f"{args.file}: {note}", file=sys.stderr)
    print(json.dumps({"ok": True, "root": root, "deep": args.deep, "notes": notes}) if args.json else f"{args.file}: good, root {root}")


def inspect_command(args, data):
    with opened(data) as file:
        if file is None:
            raise Refused("R105", f"inspect: {UNDECODED}", "unsupported")
        description = describe(file)
    print(json.dumps(description, indent=2)) if args.json else print_table(description)


def dump_command(args, data):
    with opened(data, to_decode=True) as file:
        if file is None:
            raise Refused("R105", f"dump: {UNDECODED}", "unsupported")
        try:
            t = file.tensor(args.tensor)
        except KeyError:
            print(f"{args.file}: no tensor '{args.tensor}'; `inspect` lists them", file=sys.stderr)
            return 2
        elements, scales = file.decode(t)
    if t.encoding == BF16:
        # .npy has no bf16: the same values as f32.
        wide = bytearray(2 * len(elements))
        wide[2::4], wide[3::4] = elements[0::2], elements[1::2]
        elements = bytes(wide)
    write_npy(args.output, {F32: "<f4", F16: "<f2", BF16: "<f4"}.get(t.encoding, "|i1"), t.shape, elements)
    if args.scales:
        if not t.scale_count:
            print(f"{args.file}: {t.label} has no scales", file=sys.stderr)
            return 2
        write_npy(args.scales, "<f4", [t.scale_count], scales)


def unpack_command(args, data):
    packed = Packed(data)
    part = f"{args.output}.sbnc-tmp-{os.getpid()}"
    try:
        with open(part, "xb") as out:
            complete = packed.unpack_into(out)
        if not complete:
            print(f"{args.file}: has zstd chunks; install a zstd module (pip install zstandard) or use Python 3.14", file=sys.stderr)
            return 5
        with mapped(part) as unpacked:
            packed.inner(unpacked)
        os.replace(part, args.output)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part)


def parse_arguments(argv):
    parser = argparse.ArgumentParser(prog="reader.py", description="Read and verify sbnc files.")
    commands = parser.add_subparsers(dest="command", required=True)
    verify = commands.add_parser("verify", help="check every rule of the specification")
    verify.add_argument("--deep", action="store_true", help="also decode every tensor and check its content (R076, R077)")
    inspect = commands.add_parser("inspect", help="list tensors")
    dump = commands.add_parser("dump", help="write a tensor's decoded elements as .npy")
    unpack = commands.add_parser("unpack", help="unpack a packed file")
    for command, run in ((verify, verify_command), (inspect, inspect_command), (dump, dump_command), (unpack, unpack_command)):
        command.add_argument("file")
        command.set_defaults(run=run)
    for command in (verify, inspect):
        command.add_argument("--json", action="store_true", help="print one JSON document")
    dump.add_argument("tensor")
    dump.add_argument("--scales", metavar="OUT.npy")
    for command in (dump, unpack):
        command.add_argument("-o", "--output", required=True)
    return parser.parse_args(argv)


def main(argv=None):
    args = parse_arguments(argv)
    try:
        with mapped(args.file) as data:
            return args.run(args, data) or 0
    except Refused as refusal:
        print(f"{args.file}: {refusal}", file=sys.stderr)
        if getattr(args, "json", False):
            print(json.dumps({"ok": False, "rule": f"SBNC-{refusal.rule}", "kind": refusal.kind, "message": str(refusal)}))
        return EXIT_CODES[refusal.kind]
    except OSError as error:
        print(f"{args.file}: {error}", file=sys.stderr)
        return 6


if __name__ == "__main__":
    sys.exit(main())
