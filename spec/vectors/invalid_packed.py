"""Packed files with a fault: SPEC.md §11."""

import valid
from build import CHUNK, CHUNK_ENTRY_BYTES, MAGIC, PACKED_PREFIX_BYTES, blake3, build, build_packed, pack
from encode import zstd_frame
from invalid import BOUNDARIES, Table, flip
from invalid_manifest import broken_frames


class Packed(Table):
    """A table whose base is a packed file: its chunks, and the bytes they unpack to."""

    def __init__(self, bases, base):
        self.base, self.found = base, []
        self.chunks, self.raw = bases[base]
        self.data = build_packed(self.raw, self.chunks)

    def prefixed(self, rule, name, why, kind="invalid", **prefix):
        self.add(rule, name, why, build_packed(self.raw, self.chunks, **prefix), kind=kind)

    def chunked(self, rule, name, why, frame, kind="invalid", raw=None, **entry):
        """One chunk, with a right digest; `entry` replaces fields of its entry."""
        raw = self.raw if raw is None else raw
        codec = self.chunks[0][0]
        fields = {"stored": len(frame), "codec": codec, "digest": blake3(frame), **entry}
        self.add(rule, name, why, build_packed(raw, [(codec, frame)], pack(CHUNK, fields)), kind=kind)


def vectors(bases):
    plain, zstd, two = (Packed(bases, name) for name in ("packed-raw", "packed-zstd", "packed-two-chunks"))
    prefix(zstd)
    table(plain, zstd, two)
    decoded(plain, zstd)
    return plain.found + zstd.found + two.found


def prefix(t):
    for n in (0, 8, 127):
        t.add(100, f"length-{n}", f"{n} bytes are fewer than a packed file's prefix", t.data[:n])
    magics = {"bit-7": "53424e5a0d0a1a0a", "crlf-to-lf": "d3424e5a0a1a0a01", "lf-to-crlf": "d3424e5a0d0d0a1a", "plain": MAGIC.hex(), "zstd": "28b52ffd00000000"}
    for name, magic in magics.items():
        t.prefixed(100, f"magic-{name}", f"the magic is wrong ({name})", magic=bytes.fromhex(magic))
    for major in (0, 2, 65535):
        t.prefixed(100, f"major-{major}", f"major is {major}, not 1", major=major, kind="unsupported")
    for value in (0, 1, 4194303, 8388608, 2**32 - 1):
        t.prefixed(101, f"chunk-bytes-{value}", f"chunk_bytes is {value}, not 4194304", chunk_bytes=value)
    for name, fields in {"u32": {"reserved": 1}, "first": {"reserved2": b"\1".ljust(24, b"\0")}, "last": {"reserved2": b"\1".rjust(24, b"\0")}}.items():
        t.prefixed(101, f"reserved-{name}", "a reserved byte is not zero", **fields)
    size = len(t.data)
    for name, value in {"0": 0, "minus-1": size - 1, "plus-1": size + 1, **BOUNDARIES}.items():
        t.prefixed(101, f"file-bytes-{name}", f"file_bytes is {value}, not the length of the file", file_bytes=value)
    t.add(101, "cut", "the file is cut by a byte", t.data[:-1])
    t.add(101, "cut-prefix", "the file is cut to its prefix", t.data[:PACKED_PREFIX_BYTES])
    t.add(101, "byte-behind", "a byte follows the file", t.data + b"\0")
    for name, value in {"0": 0, "95": 95, "2p42+1": 2**42 + 1, "2p63": 2**63, "max": 2**64 - 1}.items():
        t.prefixed(101, f"raw-bytes-{name}", f"raw_bytes is {value}, outside 96 to 2^42", raw_bytes=value, chunk_count=max(1, -(-value // 2**22)) % 2**32)
    for name, value in {"plus-1": 1024 * size + 1, "2p42": 2**42, "2p32": 2**32}.items():
        t.prefixed(101, f"ratio-{name}", f"raw_bytes is {value}, more than 1024 for each of {size} bytes", raw_bytes=value, chunk_count=-(-value // 2**22))
    for name, value in {"0": 0, "2": 2, "2p31": 2**31, "max": 2**32 - 1}.items():
        t.prefixed(101, f"chunk-count-{name}", f"chunk_count is {value} for one chunk", chunk_count=value)


def table(plain, zstd, two):
    for n in (128, 167):
        head = build_packed(zstd.raw, zstd.chunks, file_bytes=n)[:n]
        zstd.add(102, f"table-past-end-{n}", f"the file has {n} bytes, and the chunk table ends at 168", head)
    for name, at in {"minor": 10, "root": 64, "digest": 127, "entry-stored": 128, "entry-digest": 136}.items():
        zstd.add(102, f"byte-{name}", f"byte {at} is changed and digest is not", flip_bytes(zstd.data, at), kind="integrity")
    two.add(102, "byte-last-entry", "the last byte of the chunk table is changed and digest is not", flip_bytes(two.data, 128 + 2 * CHUNK_ENTRY_BYTES - 1), kind="integrity")
    right = zstd.chunks[0][1]
    for codec in (2, 2**31, 2**32 - 1):
        zstd.chunked(103, f"codec-{codec}", f"the codec is {codec}, which is none", right, codec=codec)
    for name, value in {"0": 0, "minus-1": len(right) - 1, "plus-1": len(right) + 1, "above-decoded": len(zstd.raw) + 1, "max": 2**32 - 1}.items():
        zstd.chunked(103, f"stored-{name}", f"a chunk is said to have {value} stored bytes, not {len(right)}", right, stored=value)
    plain.chunked(103, "raw-short", "a raw chunk has one byte less than it decodes to", bytes(plain.raw[:-1]), raw=plain.raw)
    plain.chunked(103, "raw-long", "a raw chunk has one byte more than it decodes to", bytes(plain.raw) + b"\0")
    zstd.chunked(103, "expanding", "a zstd chunk has more stored bytes than it decodes to", right.ljust(len(zstd.raw) + 1, b"\0"))
    zstd.add(103, "byte-behind", "a byte that file_bytes counts follows the chunks", build_packed(zstd.raw, zstd.chunks, file_bytes=len(zstd.data) + 1) + b"\0")
    zstd.add(103, "no-chunks", "the file ends behind the chunk table", build_packed(zstd.raw, zstd.chunks, file_bytes=168)[:168])
    (c0, s0), (c1, s1) = two.chunks
    entries = [pack(CHUNK, {"stored": len(s), "codec": c, "digest": blake3(s)}) for c, s in two.chunks]
    longer = pack(CHUNK, {"stored": len(s0) + 1, "codec": c0, "digest": blake3(s0 + s1[:1])})
    two.add(103, "boundary-moved", "the first chunk takes a byte of the second, which is raw", build_packed(two.raw, two.chunks, longer + pack(CHUNK, {"stored": len(s1) - 1, "codec": c1, "digest": blake3(s1[1:])})))
    two.add(104, "digests-swapped", "two chunks have each other's digest",
            build_packed(two.raw, two.chunks, entries[0][:8] + entries[1][8:] + entries[1][:8] + entries[0][8:]), kind="integrity")
    for name, t, at in (("first", zstd, 168), ("last", zstd, len(zstd.data) - 1), ("raw", plain, 9000), ("second-chunk", two, len(two.data) - 1)):
        t.add(104, f"byte-{name}", "a stored byte of a chunk is changed and its digest is not", flip_bytes(t.data, at), kind="integrity")
    zstd.chunked(104, "digest-zero", "the digest of a chunk is zero", right, digest=bytes(32), kind="integrity")
    zstd.chunked(104, "digest-of-decoded", "the digest of a chunk is that of its decoded bytes", right, digest=blake3(zstd.raw), kind="integrity")


def decoded(plain, zstd):
    raw = bytes(zstd.raw)
    for name, (frame, why) in broken_frames(raw).items():
        zstd.chunked(105, f"frame-{name}", f"the frame of a chunk {why}", frame)
    zstd.chunked(105, "frame-bomb", "the frame of a chunk decodes to 2^22 bytes and declares the few of the chunk", zstd_frame(bytes(2**22), len(raw)))
    zstd.prefixed(106, "root", "root is not the root digest of the unpacked file", root=b"\1" * 32, kind="integrity")
    zstd.prefixed(106, "root-zero", "root is zero", root=bytes(32), kind="integrity")
    image = build(valid.worked())
    inner = {
        "magic": image.copy().set("prefix", magic=MAGIC[::-1]).seal(), "file-bytes": image.copy().set("prefix", file_bytes=len(raw) + 1).seal(),
        "role": image.copy().set(0, role=0).seal(), "padding": flip(image, 4095), "name": image.copy().set(1, name_offset=2).seal(),
        "section-digest": flip(image, image.sections[32][1]),
    }
    for name, made in inner.items():
        zstd.chunked(106, f"inner-{name}", f"the unpacked file is invalid ({name})", zstd_frame(bytes(made.data)), raw=made.data, kind="integrity" if name == "section-digest" else "invalid")
    rooted = flip(image, 24)
    zstd.chunked(106, "inner-root", "the unpacked file has a wrong root, the same as in the prefix", zstd_frame(bytes(rooted.data)), raw=rooted.data, kind="integrity")
    plain.chunked(106, "inner-cut", "the unpacked file lacks its last byte", raw[:-1], raw=image.data[:-1])
    plain.chunked(106, "inner-packed", "the unpacked file is a packed file", zstd.data, raw=bytearray(zstd.data))


def flip_bytes(data, at):
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1:]
