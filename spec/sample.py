"""Small sbnc files for the tests of the reader, built element by element as the words of SPEC.md say, not as the reader does it."""

import json
import struct

from blake3 import blake3

CODES = {"f32": 1, "f16": 2, "bf16": 3, "i8": 4, "t2": 16, "t5": 17, "nm-vi": 18, "nm-6b": 19}
ORDERS = {"rows": 0, "fragments": 1, "windows": 2}
PAIRS = ((1, 1), (1, 0), (0, 1), (1, -1), (-1, 1), (-1, 0), (0, -1), (-1, -1), (0, 0))


def up(x, a):
    return (x + a - 1) // a * a


def encode(encoding, order, matrix, m=0):
    """Data bytes of `matrix`, a list of rows of trits."""
    if encoding == "t2":
        return b"".join(digits(row, 4, 4) for row in matrix)
    if encoding == "t5":
        return b"".join(digits(row, 5, 3) for row in matrix)
    if encoding == "nm-6b":
        return b"".join(six_bits(row) for row in matrix)
    return fragments([expand(row, m) for row in matrix] if order == "windows" else matrix)


def digits(row, count, base):
    row = row + [0] * (-len(row) % count)
    return bytes(sum((row[at + i] + 1) * base**i for i in range(count)) for at in range(0, len(row), count))


def six_bits(row):
    bits = 0
    for q in range(len(row) // 4):
        four = row[4 * q:4 * q + 4]
        at = [p for p in range(4) if four[p]]
        if not at:
            code = 0
        elif len(at) == 1:
            code = 1 + 2 * at[0] + (four[at[0]] < 0)
        else:
            d = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)].index(tuple(at))
            code = 9 + 4 * d + (four[at[0]] < 0) + 2 * (four[at[1]] < 0)
        bits |= code << 6 * q
    return bits.to_bytes(up(6 * (len(row) // 4), 8) // 8, "little")


def expand(row, m):
    """§10.5: every non-zero goes to the first window with room."""
    out = []
    for b in range(0, len(row), m):
        held = set()
        for w in range(m // 2 - 1):
            window = [0, 0, 0, 0]
            for i in range(4):
                column = b + 2 * w + i
                if row[column] and column not in held and sum(map(abs, window)) < 2:
                    window[i] = row[column]
                    held.add(column)
            out += window
    return out


def pair_of(four):
    at = [p for p in range(4) if four[p]]
    if len(at) == 2:
        return tuple(at)
    return (0, at[0]) if at and at[0] else (0, 1)


def fragments(matrix):
    """§10.4, lane by lane."""
    rows, cols = up(len(matrix), 16), up(len(matrix[0]), 128)
    padded = [row + [0] * (cols - len(row)) for row in matrix] + [[0] * cols for _ in range(rows - len(matrix))]
    out = b""
    for i in range(0, rows, 16):
        for j in range(0, cols, 128):
            for lane in range(32):
                for h in range(2):
                    def group(row, q):
                        at = j + 64 * h + 4 * q
                        return padded[i + row][at:at + 4]

                    def value(row, kc):
                        four = group(row, kc // 2)
                        return four[pair_of(four)[kc % 2]]

                    g, c = lane // 4, lane % 4
                    v = m = 0
                    for e in range(8):
                        kc = 4 * c + e % 4 + 16 * (e // 4)
                        v |= PAIRS.index((value(g, kc), value(8 + g, kc))) << 4 * e
                        i0, i1 = pair_of(group(8 * (lane % 2) + lane // 4, 8 * (lane // 2 % 2) + e))
                        m |= (i0 + 4 * i1) << 4 * e
                    out += struct.pack("<II", v, m)
    return out


def tensor(name, role, encoding, order, values, nm=(0, 0), scales=None):
    """A record's fields and the extent. `values`: rows of integers, or a shape and bytes."""
    scales = b"" if scales is None else struct.pack(f"<{len(scales)}f", *scales)
    if isinstance(values, tuple):
        shape, content = values
        data = content
    else:
        shape = (len(values), len(values[0]))
        content = bytes(v & 255 for row in values for v in row)
        data = content if encoding == "i8" else encode(encoding, order, values, nm[1])
    extent = data + (bytes(-len(data) % 256) + scales if scales else b"")
    ternary = encoding in ("t2", "t5", "nm-vi", "nm-6b")
    fields = dict(name=name, role=role, encoding=CODES[encoding], order=ORDERS[order], order_version=1, n=nm[0], m=nm[1],
                  group_axis=1 if nm[1] else 0, rank=len(shape), reserved=0, shape=tuple(shape) + (0,) * (4 - len(shape)), data_bytes=len(data),
                  scale_count=len(scales) // 4, non_zero=len(content) - content.count(0) if ternary else 0,
                  stored_digest=blake3(extent), content_digest=blake3(content + scales))
    return fields, extent


def file(tensors, manifest=None, files=b"", extra=(), prefix=None):
    """A whole file. `extra` holds (kind, flags, bytes); `prefix` replaces (minor, compatible, inspect_only, incompatible)."""
    records, names, payload = b"", b"", b""
    for t, extent in tensors:
        payload += bytes(-len(payload) % 256)
        records += struct.pack("<IIHHHHBBBBI4Q5Q32s32s", len(names), len(t["name"]), t["role"], t["encoding"], t["order"], t["order_version"], t["n"],
                               t["m"], t["group_axis"], t["rank"], t["reserved"], *t["shape"], len(payload), len(extent), t["data_bytes"],
                               t["scale_count"], t["non_zero"], t["stored_digest"], t["content_digest"])
        names += t["name"].encode()
        payload += extent
    text = manifest if isinstance(manifest, bytes) else json.dumps(manifest or MANIFEST, sort_keys=True, separators=(",", ":")).encode()
    parts = [(16, 1, records), (32, 1, names), (48, 1, text), *([(64, 0, files)] if files else []), (128, 1, payload), *extra]
    parts.sort(key=lambda part: part[0])
    header_bytes = 96 + 64 * len(parts)
    body, table = b"", b""
    for kind, flags, data in parts:
        body += bytes(-(header_bytes + len(body)) % 4096)
        table += struct.pack("<IIQQQ32s", kind, flags, header_bytes + len(body), len(data), 0, bytes(32) if kind == 128 else blake3(data))
        body += data
    minor, compatible, inspect_only, incompatible = prefix or (0, 0, 0, 0)
    head = struct.pack("<8sHHIQQQQIIQ", b"\xd3BNC\r\n\x1a\n", 1, minor, header_bytes, header_bytes + len(body), compatible, inspect_only, incompatible,
                       len(parts), 0, 0)
    return head + blake3(head + bytes(32) + table) + table + body


def pack(data, chunks=None):
    """A packed file; `chunks` holds (codec, stored bytes), by default all raw."""
    chunks = chunks or [(0, data[at:at + 4194304]) for at in range(0, len(data), 4194304)]
    table = b"".join(struct.pack("<II32s", len(stored), codec, blake3(stored)) for codec, stored in chunks)
    stored = b"".join(stored for _, stored in chunks)
    head = struct.pack("<8sHHIQQI28s32s", b"\xd3BNZ\r\n\x1a\n", 1, 0, 4194304, 128 + len(table) + len(stored), len(data), len(chunks), bytes(28), data[64:96])
    return head + blake3(head + bytes(32) + table) + table + stored


def frame(content, checksum=None, kind=0):
    """A zstd frame of one raw (0) or RLE (1) block, in a single segment; `checksum` is 4 bytes."""
    size, flag = (bytes([len(content)]), 0) if len(content) < 256 else (struct.pack("<I", len(content)), 0x80)
    header = b"\x28\xb5\x2f\xfd" + bytes([0x20 | flag | (4 if checksum else 0)]) + size
    return header + struct.pack("<I", 1 | kind << 1 | len(content) << 3)[:3] + (content[:1] if kind else content) + (checksum or b"")


MANIFEST = {"files": [], "provenance": {"compiler": "sample 1", "kind": "hf-latent", "options": {}, "rules": {}, "sources": []}}
