"""Prefix and section table (§3, §4) of an sbnc file: bytes become checked fields, in the order of the rules.

Nothing here allocates by a number from the file: a size is compared with the file's own length before bytes are taken.
"""

import struct

from blake3 import blake3
from refusal import compare_digest, refuse

MAGIC = bytes.fromhex("D3424E430D0A1A0A")
PACKED_MAGIC = bytes.fromhex("D3424E5A0D0A1A0A")
MAJOR = 1
PREFIX_BYTES = 96
SECTION_ENTRY_BYTES = 64
SECTION_ALIGN = 4096
TENSOR_ALIGN = 256
MAX_SECTIONS = 64
MAX_BYTES = 2**42
REQUIRED = 1

TENSORS, NAMES, MANIFEST, FILES, PAYLOAD = 16, 32, 48, 64, 128
SECTION_NAMES = {TENSORS: "TENSORS", NAMES: "NAMES", MANIFEST: "MANIFEST", FILES: "FILES", PAYLOAD: "PAYLOAD"}

# What the usual accidents of transfer make of the magic.
MANGLED = (
    (b"SBNC\r\n\x1a\n", "a magic whose bit 7 was cleared: the file went through a 7-bit channel"),
    (MAGIC.replace(b"\r\n", b"\n"), "a magic whose CR LF became LF: the file was transferred as text"),
    (MAGIC.replace(b"\x1a\n", b"\x1a\r\n"), "a magic whose LF became CR LF: the file was transferred as text"),
    (MAGIC.replace(b"\r\n", b"\r\r\n"), "a magic whose LF became CR LF: the file was transferred as text"),
    (PACKED_MAGIC, "the magic of a packed file, which is to be unpacked first"),
)


def up(x, a):
    return -(-x // a) * a


class Prefix:
    FIELDS = struct.Struct("<8sHHIQQQQIIQ32s")

    def __init__(self, data):
        (self.magic, self.major, self.minor, self.header_bytes, self.file_bytes, self.compatible, self.inspect_only, self.incompatible,
         self.section_count, self.reserved_52, self.reserved_56, self.root) = self.FIELDS.unpack(bytes(data[:PREFIX_BYTES]))


def read_prefix(data, decoding):
    """The prefix of `data`, with R001 to R010 checked. R010 is broken only when `decoding` is asked for."""
    where = "prefix"
    if len(data) < PREFIX_BYTES:
        refuse("R001", where, f"at least {PREFIX_BYTES} bytes", len(data))
    p = Prefix(data)
    if p.magic != MAGIC:
        found = next((story for start, story in MANGLED if bytes(data[:10]).startswith(start)), p.magic.hex())
        refuse("R002", where, f"magic {MAGIC.hex()}", found)
    if p.major != MAJOR:
        refuse("R003", where, f"major {MAJOR}", p.major, "unsupported")
    if not 1 <= p.section_count <= MAX_SECTIONS:
        refuse("R004", where, f"section_count 1 to {MAX_SECTIONS}", p.section_count)
    if p.header_bytes != PREFIX_BYTES + SECTION_ENTRY_BYTES * p.section_count:
        refuse("R005", where, f"header_bytes {PREFIX_BYTES + SECTION_ENTRY_BYTES * p.section_count}", p.header_bytes)
    if p.file_bytes != len(data) or p.file_bytes > MAX_BYTES or p.header_bytes > p.file_bytes:
        refuse("R006", where, f"file_bytes {len(data)}, the file's length, from header_bytes {p.header_bytes} to {MAX_BYTES}", p.file_bytes)
    header = bytes(data[:p.header_bytes])
    compare_digest("R007", where, p.root, blake3(header[:64] + bytes(32) + header[96:]))
    if p.reserved_52 or p.reserved_56:
        refuse("R008", where, "reserved fields 0", f"{p.reserved_52:#x} and {p.reserved_56:#x}")
    if p.incompatible:
        refuse("R009", where, "no incompatible feature bits", f"{p.incompatible:#x}", "unsupported")
    if p.inspect_only and decoding:
        refuse("R010", where, "no inspect_only feature bits in a file to be decoded", f"{p.inspect_only:#x}", "unsupported")
    return p


class Section:
    FIELDS = struct.Struct("<IIQQQ32s")

    def __init__(self, entry):
        self.kind, self.flags, self.offset, self.bytes, self.reserved, self.digest = self.FIELDS.unpack(entry)
        self.end = self.offset + self.bytes
        self.name = SECTION_NAMES.get(self.kind, f"of kind {self.kind}")
        self.where = f"section {self.name}"


def read_sections(data, prefix):
    """The sections of `data` by kind, with R020 to R029 checked."""
    table = bytes(data[PREFIX_BYTES:prefix.header_bytes])
    sections = [Section(table[at:at + SECTION_ENTRY_BYTES]) for at in range(0, len(table), SECTION_ENTRY_BYTES)]
    for before, s in zip(sections, sections[1:]):
        if s.kind <= before.kind:
            refuse("R020", s.where, f"a kind above {before.kind}", s.kind)
    for s in sections:
        known = (REQUIRED if s.kind != FILES else 0,) if s.kind in SECTION_NAMES else (0, REQUIRED)
        if s.flags not in known:
            refuse("R021", s.where, "flags " + " or ".join(map(str, known)), f"{s.flags:#x}")
    for s in sections:
        if s.kind not in SECTION_NAMES and s.flags & REQUIRED:
            refuse("R022", s.where, "a known kind, since the section is required", s.kind, "unsupported")
    kinds = {s.kind: s for s in sections}
    for kind, name in SECTION_NAMES.items():
        if kind != FILES and kind not in kinds:
            refuse("R023", "section table", f"a section {name}", "none")
    for s in sections:
        if s.bytes < 1:
            refuse("R024", s.where, "at least 1 byte", s.bytes)
    end = prefix.header_bytes
    for s in sections:
        if s.offset != up(end, SECTION_ALIGN):
            refuse("R025", s.where, f"offset {up(end, SECTION_ALIGN)}", s.offset)
        end = s.end
    if end != prefix.file_bytes:
        refuse("R026", "section table", f"the last section to end at {prefix.file_bytes}", end)
    for s in sections:
        if s.reserved:
            refuse("R027", s.where, "reserved field 0", f"{s.reserved:#x}")
    # Every section lies within the file from here on: offsets are strictly ascending and the last end is the file's.
    end = prefix.header_bytes
    for s in sections:
        check_zero("R028", f"padding before {s.where}", data[end:s.offset])
        end = s.end
    for s in sections:
        expected = bytes(32) if s.kind == PAYLOAD else blake3(data[s.offset:s.end])
        compare_digest("R029", s.where, s.digest, expected)
    return kinds


def check_zero(rule, where, padding):
    padding = bytes(padding)
    left = padding.lstrip(b"\0")
    if left:
        refuse(rule, where, "zero bytes", f"{left[0]:#04x} at byte {len(padding) - len(left)} of the padding")
