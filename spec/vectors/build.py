"""A tiny writer of sbnc files that can also write what the rules forbid.

`build(model)` lays a model out (SPEC.md §2) and returns an `Image`: the bytes, and where everything is. A mutation either changes the model before
`build`, or sets fields and bytes of a copy of the image and seals again those digests that shall be right.
"""

import copy
import json
import pathlib
import struct
import sys
from dataclasses import dataclass, field

from encode import encode, up

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from blake3 import blake3  # noqa: E402

MAGIC = b"\xd3BNC\r\n\x1a\n"
PACKED_MAGIC = b"\xd3BNZ\r\n\x1a\n"
PREFIX_BYTES, ENTRY_BYTES, RECORD_BYTES, PACKED_PREFIX_BYTES, CHUNK_ENTRY_BYTES = 96, 64, 160, 128, 40
SECTION_ALIGN, TENSOR_ALIGN, CHUNK_BYTES = 4096, 256, 4194304
KINDS = {16: "TENSORS", 32: "NAMES", 48: "MANIFEST", 64: "FILES", 128: "PAYLOAD"}
TENSORS, NAMES, MANIFEST, FILES, PAYLOAD = KINDS
ROLES = {"linear": 1, "embedding": 2, "norm": 3, "head": 4, "other": 5}
ENCODINGS = {"f32": 1, "f16": 2, "bf16": 3, "i8": 4, "t2": 16, "t5": 17, "nm-vi": 18, "nm-6b": 19}
ORDERS = {"rows": 0, "fragments": 1, "windows": 2}
TERNARY = ("t2", "t5", "nm-vi", "nm-6b")

PREFIX = {
    "magic": (0, "8s"), "major": (8, "H"), "minor": (10, "H"), "header_bytes": (12, "I"), "file_bytes": (16, "Q"), "compatible": (24, "Q"),
    "inspect_only": (32, "Q"), "incompatible": (40, "Q"), "section_count": (48, "I"), "reserved": (52, "I"), "reserved2": (56, "Q"), "root": (64, "32s"),
}
ENTRY = {"kind": (0, "I"), "flags": (4, "I"), "offset": (8, "Q"), "bytes": (16, "Q"), "reserved": (24, "Q"), "digest": (32, "32s")}
RECORD = {
    "name_offset": (0, "I"), "name_bytes": (4, "I"), "role": (8, "H"), "encoding": (10, "H"), "order": (12, "H"), "order_version": (14, "H"),
    "n": (16, "B"), "m": (17, "B"), "group_axis": (18, "B"), "rank": (19, "B"), "reserved": (20, "I"), "shape0": (24, "Q"), "shape1": (32, "Q"),
    "shape2": (40, "Q"), "shape3": (48, "Q"), "offset": (56, "Q"), "stored_bytes": (64, "Q"), "data_bytes": (72, "Q"), "scale_count": (80, "Q"),
    "non_zero": (88, "Q"), "stored_digest": (96, "32s"), "content_digest": (128, "32s"),
}
PACKED = {
    "magic": (0, "8s"), "major": (8, "H"), "minor": (10, "H"), "chunk_bytes": (12, "I"), "file_bytes": (16, "Q"), "raw_bytes": (24, "Q"),
    "chunk_count": (32, "I"), "reserved": (36, "I"), "reserved2": (40, "24s"), "root": (64, "32s"), "digest": (96, "32s"),
}
CHUNK = {"stored": (0, "I"), "codec": (4, "I"), "digest": (8, "32s")}


def pack(fields, values):
    out = bytearray(max(at + struct.calcsize("<" + f) for at, f in fields.values()))
    for name, value in values.items():
        struct.pack_into("<" + fields[name][1], out, fields[name][0], value)
    return bytes(out)


@dataclass
class Tensor:
    name: str
    role: str
    encoding: str
    shape: tuple
    values: object  # rows of trits; rows of i8; bytes of the float encodings
    order: str = "rows"
    nm: tuple = (0, 0)
    scales: list = field(default_factory=list)
    data: bytes = None  # in place of the encoded values
    fields: dict = field(default_factory=dict)  # in place of the record's own

    def content(self):
        """The decoded elements of §9.3, scales not included."""
        if isinstance(self.values, bytes):
            return self.values
        return bytes(v & 255 for row in self.values for v in row)

    def encoded(self):
        if self.data is not None:
            return self.data
        return encode(self.encoding, self.order, self.values, self.nm[1]) if self.encoding in TERNARY else self.content()

    def non_zero(self):
        return sum(t != 0 for row in self.values for t in row) if self.encoding in TERNARY else 0


@dataclass
class Model:
    tensors: list
    manifest: object  # a Python value, or the bytes of the section
    files: list = field(default_factory=list)  # stored bytes; the manifest holds the entries
    extra: list = field(default_factory=list)  # (kind, flags, bytes) of unknown sections
    prefix: dict = field(default_factory=dict)
    omit: tuple = ()  # kinds to leave out
    kinds: tuple = ()  # another order of the sections
    names: bytes = None
    records: object = None  # a function of the TENSORS bytes

    def with_(self, **changes):
        other = copy.deepcopy(self)
        for name, value in changes.items():
            setattr(other, name, value)
        return other


def canonical(value):
    """The canonical JSON of §7. `ensure_ascii=False` leaves exactly the escapes that R064 asks for."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


class Image:
    """The bytes of a file and where its parts are: sections as kind → (entry, offset, bytes), extents as (offset, data_bytes, stored_bytes)."""

    def __init__(self, data, sections, extents, contents):
        self.data, self.sections, self.extents, self.contents = bytearray(data), sections, extents, contents

    def copy(self):
        return Image(self.data, self.sections, self.extents, self.contents)

    def put(self, at, new):
        self.data[at:at + len(new)] = new
        return self

    def place(self, where, name=None):
        """Offset and format of a field: of "prefix", of ("entry", kind) or of a record, by its number."""
        fields, base = PREFIX, 0
        if where != "prefix":
            fields, base = (ENTRY, self.entry(where[1])) if isinstance(where, tuple) else (RECORD, self.sections[TENSORS][1] + where * RECORD_BYTES)
        return base + fields[name][0], "<" + fields[name][1]

    def entry(self, kind):
        return PREFIX_BYTES + ENTRY_BYTES * self.sections[kind][0]

    def get(self, where, name):
        at, form = self.place(where, name)
        return struct.unpack_from(form, self.data, at)[0]

    def set(self, where, **fields):
        for name, value in fields.items():
            at, form = self.place(where, name)
            struct.pack_into(form, self.data, at, value)
        return self

    def extent(self, tensor):
        at, _, stored = self.extents[tensor]
        return self.data[at:at + stored]

    def scales(self, tensor):
        _, data_bytes, stored = self.extents[tensor]
        return b"" if stored == data_bytes else self.extent(tensor)[up(data_bytes, TENSOR_ALIGN):]

    def seal_tensor(self, tensor, content=True):
        """Make the digests of an extent right again; a float's content is its data."""
        self.set(tensor, stored_digest=blake3(self.extent(tensor)))
        if content:
            decoded = self.contents[tensor]
            self.set(tensor, content_digest=blake3(self.extent(tensor) if decoded is None else decoded + self.scales(tensor)))
        return self

    def seal(self):
        """Make the section digests and the root digest right again."""
        for kind, (_, at, length) in self.sections.items():
            if kind != PAYLOAD:
                self.set(("entry", kind), digest=blake3(self.data[at:at + length]))
        return self.seal_root()

    def seal_root(self):
        self.set("prefix", root=bytes(32))
        return self.set("prefix", root=blake3(self.data[:PREFIX_BYTES + ENTRY_BYTES * len(self.sections)]))


def build(model):
    records, payload, extents, contents = [], bytearray(), [], []
    names = b"".join(t.name.encode() for t in model.tensors)
    name_offset = 0
    for t in model.tensors:
        data, scales = t.encoded(), b"".join(struct.pack("<f", s) if not isinstance(s, bytes) else s for s in t.scales)
        stored = data.ljust(up(len(data), TENSOR_ALIGN), b"\0") + scales if scales else data
        payload += bytes(up(len(payload), TENSOR_ALIGN) - len(payload))
        digest = blake3(stored)
        fields = {
            "name_offset": name_offset, "name_bytes": len(t.name.encode()), "role": ROLES[t.role], "encoding": ENCODINGS.get(t.encoding, 0),
            "order": ORDERS[t.order], "order_version": 1, "n": t.nm[0], "m": t.nm[1], "group_axis": int(t.nm != (0, 0)), "rank": len(t.shape),
            "offset": len(payload), "stored_bytes": len(stored), "data_bytes": len(data), "scale_count": len(t.scales), "non_zero": t.non_zero(),
            "stored_digest": digest, "content_digest": digest if isinstance(t.values, bytes) else blake3(t.content() + scales),
            **{f"shape{i}": dim for i, dim in enumerate(t.shape)},
        }
        records.append(pack(RECORD, {**fields, **t.fields}))
        extents.append((len(payload), len(data), len(stored)))
        contents.append(None if isinstance(t.values, bytes) else t.content())
        payload += stored
        name_offset += len(t.name.encode())
    table = b"".join(records)
    manifest = model.manifest if isinstance(model.manifest, bytes) else canonical(model.manifest)
    sections = [(TENSORS, 1, model.records(table) if model.records else table), (NAMES, 1, names if model.names is None else model.names),
                (MANIFEST, 1, manifest), (PAYLOAD, 1, bytes(payload)), *model.extra]
    if model.files:
        sections.append((FILES, 0, b"".join(model.files)))
    sections = sorted(s for s in sections if s[0] not in model.omit)
    if model.kinds:
        sections.sort(key=lambda s: model.kinds.index(s[0]))
    return lay_out(model, sections, extents, contents)


def lay_out(model, sections, extents, contents):
    header_bytes = PREFIX_BYTES + ENTRY_BYTES * len(sections)
    out, entries, places = bytearray(header_bytes), [], {}
    for number, (kind, flags, data) in enumerate(sections):
        out += bytes(up(len(out), SECTION_ALIGN) - len(out))
        digest = bytes(32) if kind == PAYLOAD else blake3(data)
        entries.append(pack(ENTRY, {"kind": kind, "flags": flags, "offset": len(out), "bytes": len(data), "digest": digest}))
        places[kind] = (number, len(out), len(data))
        if kind == PAYLOAD:
            extents = [(len(out) + at, data_bytes, stored) for at, data_bytes, stored in extents]
        out += data
    prefix = {"magic": MAGIC, "major": 1, "header_bytes": header_bytes, "file_bytes": len(out), "section_count": len(sections), **model.prefix}
    out[:header_bytes] = pack(PREFIX, prefix) + b"".join(entries)
    return Image(out, places, extents, contents).seal_root()


def chunk_table(chunks):
    return b"".join(pack(CHUNK, {"stored": len(data), "codec": codec, "digest": blake3(data)}) for codec, data in chunks)


def build_packed(raw, chunks, entries=None, **prefix):
    """A packed file (§11) of (codec, stored bytes) chunks; `entries` and `prefix` replace what would be right, and the digest covers them."""
    table = chunk_table(chunks) if entries is None else entries
    body = b"".join(data for _, data in chunks)
    fields = {"magic": PACKED_MAGIC, "major": 1, "chunk_bytes": CHUNK_BYTES, "file_bytes": PACKED_PREFIX_BYTES + len(table) + len(body),
              "raw_bytes": len(raw), "chunk_count": len(chunks), "root": bytes(raw[64:96]), **prefix}
    digest = {"digest": blake3(pack(PACKED, fields) + table)}
    return pack(PACKED, {**fields, **digest, **prefix}) + table + body
