"""The packed form (§11): header, chunk table and chunks of an .sbncz file."""

import struct

import zstd_frame
from blake3 import blake3
from layout import MAJOR, MAX_BYTES, PACKED_MAGIC, PREFIX_BYTES
from refusal import compare_digest, refuse

PACKED_PREFIX_BYTES = 128
CHUNK_ENTRY_BYTES = 40
CHUNK_BYTES = 4194304
MAX_PACKED_RATIO = 1024
RAW, ZSTD = 0, 1


class PackedPrefix:
    FIELDS = struct.Struct("<8sHHIQQII24s32s32s")

    def __init__(self, data):
        (self.magic, self.major, self.minor, self.chunk_bytes, self.file_bytes, self.raw_bytes, self.chunk_count, self.reserved_36,
         self.reserved_40, self.root, self.digest) = self.FIELDS.unpack(bytes(data[:PACKED_PREFIX_BYTES]))


class Chunk:
    FIELDS = struct.Struct("<II32s")

    def __init__(self, index, entry, at, raw):
        self.stored, self.codec, self.digest = self.FIELDS.unpack(entry)
        self.at, self.raw, self.where = at, raw, f"chunk {index}"


def read_packed(data):
    """Prefix and chunks of a packed file, with R100 to R103 checked."""
    where = "packed prefix"
    if len(data) < PACKED_PREFIX_BYTES:
        refuse("R100", where, f"at least {PACKED_PREFIX_BYTES} bytes", len(data))
    p = PackedPrefix(data)
    if p.magic != PACKED_MAGIC:
        refuse("R100", where, f"magic {PACKED_MAGIC.hex()}", p.magic.hex())
    if p.major != MAJOR:
        refuse("R100", where, f"major {MAJOR}", p.major, "unsupported")
    if p.chunk_bytes != CHUNK_BYTES:
        refuse("R101", where, f"chunk_bytes {CHUNK_BYTES}", p.chunk_bytes)
    if p.reserved_36 or any(p.reserved_40):
        refuse("R101", where, "reserved bytes 0", f"{p.reserved_36:#x} and {p.reserved_40.hex()}")
    if p.file_bytes != len(data):
        refuse("R101", where, f"file_bytes {len(data)}, the file's length", p.file_bytes)
    most = min(MAX_BYTES, MAX_PACKED_RATIO * p.file_bytes)
    if not PREFIX_BYTES <= p.raw_bytes <= most:
        refuse("R101", where, f"raw_bytes from {PREFIX_BYTES} to {most}", p.raw_bytes)
    count = -(-p.raw_bytes // CHUNK_BYTES)
    if p.chunk_count != count:
        refuse("R101", where, f"chunk_count {count}", p.chunk_count)
    end = PACKED_PREFIX_BYTES + CHUNK_ENTRY_BYTES * count
    if end > len(data):
        refuse("R102", where, f"a chunk table that ends by {len(data)}", end)
    table = bytes(data[PACKED_PREFIX_BYTES:end])
    compare_digest("R102", where, p.digest, blake3(bytes(data[:96]) + bytes(32) + table))
    return p, read_chunks(p, table, end)


def read_chunks(p, table, at):
    chunks = []
    for index in range(p.chunk_count):
        entry = table[index * CHUNK_ENTRY_BYTES:(index + 1) * CHUNK_ENTRY_BYTES]
        c = Chunk(index, entry, at, min(CHUNK_BYTES, p.raw_bytes - index * CHUNK_BYTES))
        if c.codec not in (RAW, ZSTD):
            refuse("R103", c.where, "codec 0 or 1", c.codec)
        if not 1 <= c.stored <= c.raw or (c.codec == RAW and c.stored != c.raw):
            refuse("R103", c.where, f"{'' if c.codec == RAW else '1 to '}{c.raw} stored bytes", c.stored)
        chunks.append(c)
        at += c.stored
    if at != p.file_bytes:
        refuse("R103", "chunk table", f"chunks that end at {p.file_bytes}", at)
    return chunks


def unpack_chunks(data, chunks):
    """Each chunk's decoded bytes in turn, with R104 and R105 checked; None for a chunk that cannot be decoded without a zstd module."""
    for c in chunks:
        stored = data[c.at:c.at + c.stored]
        compare_digest("R104", c.where, c.digest, blake3(stored))
        yield bytes(stored) if c.codec == RAW else zstd_frame.decode(stored, c.raw, "R105", c.where)
