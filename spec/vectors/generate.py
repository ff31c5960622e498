#!/usr/bin/env python3
"""Writes the conformance kit: `valid/` (files and what a reader must find in them) and `invalid.json` (files to refuse, as edits of valid ones).

The writer here is small and its own: nothing of `reader.py` is used, so that a shared mistake would have to be made twice. Every byte is determined by
this source: data comes from a fixed generator, and nothing depends on time or place.

    generate.py            write the kit beside this file
    generate.py --check    exit 1 if the kit beside this file is not what would be written
"""

import argparse
import copy
import json
import os
import struct
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))
from blake3 import blake3  # noqa: E402

LINEAR, EMBEDDING, NORM, HEAD, OTHER = 1, 2, 3, 4, 5
F32, F16, BF16, I8, T2, T5, NM_VI, NM_6B = 1, 2, 3, 4, 16, 17, 18, 19
ROWS, FRAGMENTS, WINDOWS = 0, 1, 2
TENSORS, NAMES, MANIFEST, FILES, PAYLOAD = 16, 32, 48, 64, 128


def up(x, a):
    return (x + a - 1) // a * a


class Random:
    """Knuth's 64-bit linear congruential generator; its high bits are good enough here."""

    def __init__(self, seed):
        self.state = seed

    def below(self, n):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (self.state >> 33) % n


# ---------------------------------------------------------------------------------------------------------------------------- matrices of trits

def random_matrix(seed, rows, cols, n=0, m=0):
    """Trits that satisfy n:m, with groups of every weight up to n; without a pattern, a third of each trit."""
    random = Random(seed)
    matrix = []
    for _ in range(rows):
        row = []
        for _ in range(cols // (m or 1)):
            if not m:
                row.append(random.below(3) - 1)
                continue
            group = [0] * m
            weight = n if random.below(4) else random.below(n + 1)
            while sum(map(abs, group)) < weight:
                group[random.below(m)] = 1 - 2 * random.below(2)
            row += group
        matrix.append(row)
    return matrix


def encode_t2(matrix):
    out = bytearray()
    for row in matrix:
        row = row + [0] * (-len(row) % 4)
        for j in range(0, len(row), 4):
            out.append(sum((row[j + i] + 1) << 2 * i for i in range(4)))
    return bytes(out)


def encode_t5(matrix):
    out = bytearray()
    for row in matrix:
        row = row + [0] * (-len(row) % 5)
        for j in range(0, len(row), 5):
            out.append(sum((row[j + i] + 1) * 3**i for i in range(5)))
    return bytes(out)


def six_bit_code(group):
    at = [p for p in range(4) if group[p]]
    sign = {1: 0, -1: 1}
    if not at:
        return 0
    if len(at) == 1:
        return 1 + 2 * at[0] + sign[group[at[0]]]
    d = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)].index(tuple(at))
    return 9 + 4 * d + sign[group[at[0]]] + 2 * sign[group[at[1]]]


def encode_nm_6b(matrix):
    out = b""
    for row in matrix:
        bits = sum(six_bit_code(row[4 * q:4 * q + 4]) << 6 * q for q in range(len(row) // 4))
        out += bits.to_bytes(up(6 * (len(row) // 4), 8) // 8, "little")
    return out


def slots(group):
    """(i0, i1, v0, v1) of a group of four."""
    at = [p for p in range(4) if group[p]]
    pair = (0, 1) if not at or at == [0] else (0, at[0]) if len(at) == 1 else tuple(at)
    return (*pair, group[pair[0]], group[pair[1]])


def encode_fragments(matrix):
    rows, cols = up(len(matrix), 16), up(len(matrix[0]), 128)
    padded = [row + [0] * (cols - len(row)) for row in matrix] + [[0] * cols] * (rows - len(matrix))
    pair_codes = [(1, 1), (1, 0), (0, 1), (1, -1), (-1, 1), (-1, 0), (0, -1), (-1, -1), (0, 0)]
    out = bytearray()
    for i in range(0, rows, 16):
        for j in range(0, cols, 128):
            for lane in range(32):
                for h in (0, 1):
                    groups = [[slots(padded[i + r][j + 64 * h + 4 * q:][:4]) for q in range(16)] for r in range(16)]
                    value_word = index_word = 0
                    for e in range(8):
                        kc = 4 * (lane % 4) + e % 4 + 16 * (e // 4)
                        u = groups[lane // 4][kc // 2][2 + kc % 2]
                        w = groups[lane // 4 + 8][kc // 2][2 + kc % 2]
                        value_word |= pair_codes.index((u, w)) << 4 * e
                        i0, i1, _, _ = groups[8 * (lane % 2) + lane // 4][8 * (lane // 2 % 2) + e]
                        index_word |= (i0 + 4 * i1) << 4 * e
                    out += struct.pack("<II", value_word, index_word)
    return bytes(out)


def spread_over_windows(matrix, m):
    """The expanded matrix of order windows."""
    windows = m // 2 - 1
    expanded = []
    for row in matrix:
        wide = []
        for block in (row[b:b + m] for b in range(0, len(row), m)):
            left = list(block)
            for w in range(windows):
                window, held = [0] * 4, 0
                for i in range(4):
                    if left[2 * w + i] and held < 2:
                        window[i], left[2 * w + i] = left[2 * w + i], 0
                        held += 1
                wide += window
            assert not any(left)
        expanded.append(wide)
    return expanded


# ----------------------------------------------------------------------------------------------------------------------------------- the writer

class Tensor:
    """A record, its bytes and its content. `fields` overrides any field of the record."""

    def __init__(self, name, shape, encoding, data, scales=(), content=None, **fields):
        self.name, self.data, self.matrix = name, data, fields.pop("matrix", None)
        scale_bytes = b"".join(scale if isinstance(scale, bytes) else struct.pack("<f", scale) for scale in scales)
        self.bytes = data.ljust(up(len(data), 256), b"\0") + scale_bytes if scales else data
        content = self.bytes if content is None else content + scale_bytes
        self.fields = dict(role=OTHER, encoding=encoding, order=ROWS, order_version=1, n=0, m=0, group_axis=0, rank=len(shape), reserved=0,
                           shape=(list(shape) + [0] * 4)[:4], stored_bytes=len(self.bytes), data_bytes=len(data), scale_count=len(scales), non_zero=0,
                           stored_digest=blake3(self.bytes), content_digest=blake3(content))
        self.fields.update(fields)
        self.first_scale = scale_bytes[:4].hex() or None


def ternary(name, matrix, encoding, n=0, m=0, order=None, scales=None, **fields):
    rows, cols = len(matrix), len(matrix[0])
    order = (FRAGMENTS if encoding == NM_VI else ROWS) if order is None else order
    data = {(T2, ROWS): encode_t2, (T5, ROWS): encode_t5, (NM_6B, ROWS): encode_nm_6b, (NM_VI, FRAGMENTS): encode_fragments,
            (NM_VI, WINDOWS): lambda x: encode_fragments(spread_over_windows(x, m))}[encoding, order](matrix)
    scales = scales or [(3 + row % 13) / 64 for row in range(rows)]
    content = bytes(trit & 0xFF for row in matrix for trit in row)
    non_zero = sum(trit != 0 for row in matrix for trit in row)
    fields = {**dict(role=LINEAR, order=order, n=n, m=m, group_axis=int(m > 0), non_zero=non_zero), **fields}
    return Tensor(name, (rows, cols), encoding, data, scales, content, matrix=matrix, **fields)


def dense(name, shape, encoding, data, role=NORM, scales=(), **fields):
    content = data if encoding == I8 else None
    matrix = [[b - 256 if b > 127 else b for b in data[:shape[1]]]] if encoding == I8 else None
    return Tensor(name, shape, encoding, data, scales, content, role=role, matrix=matrix, **fields)


def ones(name, count=4):
    return dense(name, (count,), F32, struct.pack("<f", 1.0) * count)


def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def weights_manifest(**members):
    provenance = {"compiler": "sbnc-vectors 1", "kind": "synthetic", "options": {}, "rules": {"scale": "given"},
                  "sources": [{"blake3": "00" * 32, "bytes": 0, "name": "none"}]}
    return {"files": [], "provenance": provenance, **members}


def carried(name, raw, stored=None, codec="raw"):
    stored = raw if stored is None else stored
    return {"blake3": blake3(raw).hex(), "codec": codec, "name": name, "raw": len(raw), "stored": len(stored)}, stored


class Layout:
    """A whole file; `sections` is {kind: (offset, bytes)}."""

    def __init__(self, tensors, manifest=None, files=(), extra=(), **prefix):
        self.tensors = tensors
        self.manifest = weights_manifest() if manifest is None else manifest
        if files:
            self.manifest = {**self.manifest, "files": [entry for entry, _ in files]}
        self.carried = b"".join(stored for _, stored in files)
        self.extra, self.prefix = extra, prefix

    def build(self, names=None, manifest=None, records=None, carried=None, payload=None, entries=None):
        """The file's bytes; each argument stands in for a section, `entries` changes the list of sections before it is laid out."""
        end, name_end, table, extents = 0, 0, b"", b""
        for t in self.tensors:
            f = dict(t.fields)
            f.setdefault("offset", up(end, 256))
            f.setdefault("name_offset", name_end)
            f.setdefault("name_bytes", len(t.name))
            table += struct.pack("<IIHHHHBBBBI4Q5Q32s32s", f["name_offset"], f["name_bytes"], f["role"], f["encoding"], f["order"], f["order_version"],
                                 f["n"], f["m"], f["group_axis"], f["rank"], f["reserved"], *f["shape"], f["offset"], f["stored_bytes"],
                                 f["data_bytes"], f["scale_count"], f["non_zero"], f["stored_digest"], f["content_digest"])
            extents = extents.ljust(up(end, 256), b"\0") + t.bytes
            name_end += len(t.name)
            end = len(extents)
        self.manifest_bytes = canonical(self.manifest) if manifest is None else manifest
        carried = self.carried if carried is None else carried
        bodies = [(TENSORS, 1, table if records is None else records), (NAMES, 1, "".join(t.name for t in self.tensors).encode() if names is None
                  else names), (MANIFEST, 1, self.manifest_bytes)]
        bodies += [(FILES, 0, carried)] if carried else []
        bodies += [(PAYLOAD, 1, extents if payload is None else payload)]
        bodies = sorted(bodies + list(self.extra), key=lambda body: body[0])
        if entries:
            bodies = entries(bodies)
        header_bytes = 96 + 64 * len(bodies)
        end, section_table, body_bytes, self.sections = header_bytes, b"", b"", {}
        for kind, flags, body in bodies:
            offset = up(end, 4096)
            digest = bytes(32) if kind == PAYLOAD else blake3(body)
            section_table += struct.pack("<IIQQQ32s", kind, flags, offset, len(body), 0, digest)
            body_bytes += bytes(offset - end) + body
            self.sections[kind] = (offset, len(body))
            end = offset + len(body)
        p = {**dict(minor=0, compatible=0, inspect_only=0, incompatible=0), **self.prefix}
        prefix = struct.pack("<8sHHIQQQQIIQ32s", bytes.fromhex("D3424E430D0A1A0A"), 1, p["minor"], header_bytes, end, p["compatible"],
                             p["inspect_only"], p["incompatible"], len(bodies), 0, 0, bytes(32))
        root = blake3(prefix + section_table)
        return prefix[:64] + root + section_table + body_bytes

    def expected(self):
        """What a reader must find."""
        data = self.build()
        sections = []
        for i in range(struct.unpack_from("<I", data, 48)[0]):
            kind, flags, offset, size, _, digest = struct.unpack_from("<IIQQQ32s", data, 96 + 64 * i)
            sections.append({"kind": kind, "flags": flags, "offset": offset, "bytes": size, "digest": digest.hex()})
        tensors, end = [], 0
        for t in self.tensors:
            f = {**t.fields, "offset": up(end, 256)}
            end = f["offset"] + f["stored_bytes"]
            f["shape"] = f["shape"][:f["rank"]]
            f["stored_digest"], f["content_digest"] = f["stored_digest"].hex(), f["content_digest"].hex()
            del f["reserved"]
            tensors.append({"name": t.name, **f, "first_row": t.matrix and t.matrix[0], "first_scale": t.first_scale})
        p = {**dict(minor=0, compatible=0, inspect_only=0), **self.prefix}
        return {"root": data[64:96].hex(), "file_bytes": len(data), "minor": p["minor"], "compatible": f"{p['compatible']:#x}",
                "inspect_only": f"{p['inspect_only']:#x}", "decodable": not p["inspect_only"], "sections": sections, "tensors": tensors,
                "manifest": self.manifest}


# ----------------------------------------------------------------------------------------------------------- zstd frames and packed files by hand

def zstd_block(kind, body, last, size=None):
    return ((len(body) if size is None else size) << 3 | kind << 1 | last).to_bytes(3, "little") + body


def zstd_frame(blocks, size, descriptor=0xA0, size_bytes=4, before_size=b""):
    """One frame of given blocks; descriptor 0xA0 is a single segment with four bytes of content size."""
    return struct.pack("<IB", 0xFD2FB528, descriptor) + before_size + size.to_bytes(size_bytes, "little") + b"".join(blocks)


def zstd_raw(data):
    """A frame that stores `data` in raw blocks."""
    return zstd_frame([zstd_block(0, data, 1)], len(data))


def zstd_literals(data):
    """A frame with one compressed block of raw literals and no sequences: what needs a decompressor, without a compressor."""
    assert len(data) < 4096
    header = (len(data) << 4 | 1 << 2).to_bytes(2, "little")
    return zstd_frame([zstd_block(2, header + data + b"\0", 1)], len(data))


def zstd_runs(data):
    """A frame that stores long runs of zeros in RLE blocks, everything else in raw ones."""
    pieces, at = [], 0
    while at < len(data):
        end = at
        while end < len(data) and end - at < 131072 and not any(data[end:end + 64]):
            end = min(len(data), end + 64, at + 131072)
        if end > at:
            pieces.append((1, b"\0", end - at))
        else:
            while end < len(data) and end - at < 65536 and any(data[end:end + 64]):
                end = min(len(data), end + 64)
            pieces.append((0, data[at:end], end - at))
        at = end
    blocks = [zstd_block(kind, body, int(i == len(pieces) - 1), size) for i, (kind, body, size) in enumerate(pieces)]
    return zstd_frame(blocks, len(data))


CHUNK = 4194304


def packed(data, codecs, frames=None, **fields):
    """A packed file: codecs[i] is the codec of chunk i; `frames` stands in for stored chunks, `fields` for the prefix's."""
    chunks = [data[at:at + CHUNK] for at in range(0, len(data), CHUNK)]
    stored = frames or [zstd_runs(chunk) if codec else chunk for chunk, codec in zip(chunks, codecs)]
    table = b"".join(struct.pack("<II32s", len(s), codec, blake3(s)) for s, codec in zip(stored, codecs))
    f = {**dict(major=1, chunk_bytes=CHUNK, file_bytes=128 + len(table) + sum(map(len, stored)), raw_bytes=len(data), chunk_count=len(chunks),
                reserved1=0, reserved2=bytes(24), root=data[64:96]), **fields}
    prefix = struct.pack("<8sHHIQQII24s32s32s", bytes.fromhex("D3424E5A0D0A1A0A"), f["major"], 0, f["chunk_bytes"], f["file_bytes"], f["raw_bytes"],
                         f["chunk_count"], f["reserved1"], f["reserved2"], f["root"], bytes(32))
    return prefix[:96] + blake3(prefix + table) + table + b"".join(stored)


# ------------------------------------------------------------------------------------------------------------------------------ valid vectors

PATTERNS = ((0, 0), (1, 4), (2, 4), (4, 6), (6, 8), (8, 10), (14, 16), (3, 8))
WINDOW_PATTERNS = ((4, 6), (6, 8), (8, 10), (10, 12), (12, 14), (14, 16))


def label(n, m):
    return f"{n}of{m}" if m else "dense"


def every_pattern(encoding):
    tensors = [ternary(f"w.{label(n, m)}", random_matrix(10 + i, 3, 3 * (m or 7), n, m), encoding, n, m) for i, (n, m) in enumerate(PATTERNS)]
    shapes = ((1, 1), (1, 4), (17, 12), (33, 260), (5, 67), (2, 64), (3, 65))
    return tensors + [ternary(f"w.{rows}x{cols}", random_matrix(40 + i, rows, cols), encoding) for i, (rows, cols) in enumerate(shapes)]


def every_group():
    """All 33 groups of four with at most two non-zeros."""
    trits = (0, 1, -1)
    groups = [[a, b, c, d] for a in trits for b in trits for c in trits for d in trits]
    return [group for group in groups if sum(map(abs, group)) <= 2]


def every_block(m):
    """Every mask of a block of m with at most m−2 non-zeros, signs alternating; one a row."""
    masks = [mask for mask in range(2**m) if bin(mask).count("1") <= m - 2]
    return [[(1 if (i + mask) % 3 else -1) if mask >> i & 1 else 0 for i in range(m)] for mask in masks]


def model_manifest():
    layer = {key: "layers.{}." + key for key in ("attn_norm", "q", "k", "v", "o", "ffn_norm", "gate", "up", "down")}
    return weights_manifest(model={
        "activation": "silu", "activation_bits": 8, "context": 128, "family": "llama", "head_dim": 4, "heads": 2, "hidden": 8, "intermediate": 12,
        "kv_heads": 1, "layers": 1, "norm_eps": "1e-5", "rope": {"scaling": {"factor": 8, "kind": "linear"}, "style": "half", "theta": "10000.0"},
        "tensors": {"embed": "embed", "norm": "norm", **layer}, "tied": True, "tokens": {"bos": 1, "eos": [2, 3], "pad": 0}, "vocab": 16, "window": 64})


def model_tensors():
    def linear(name, rows, cols, seed):
        return ternary("layers.0." + name, random_matrix(seed, rows, cols, 2, 4), T2, 2, 4)

    embedding = bytes((i * 37) % 120 for i in range(2 * 16 * 8))
    return [dense("embed", (16, 8), BF16, embedding, EMBEDDING), ones("layers.0.attn_norm", 8), linear("q", 8, 8, 1), linear("k", 4, 8, 2),
            linear("v", 4, 8, 3), linear("o", 8, 8, 4), ones("layers.0.ffn_norm", 8), linear("gate", 12, 8, 5), linear("up", 12, 8, 6),
            linear("down", 8, 12, 7), ones("norm", 8)]


def one(seed, rows, cols, encoding, n=0, m=0, order=None, **fields):
    """The usual base of invalid vectors: a ternary matrix and a norm."""
    return Layout([ternary("w", random_matrix(seed, rows, cols, n, m), encoding, n, m, order, **fields), ones("norm")])


def valid_files():
    v = {}
    v["minimal"] = Layout([ternary("w", [[1, 0, -1, 0]], T2)])
    v["worked"] = worked()
    v["t2"], v["t5"] = Layout(every_pattern(T2)), Layout(every_pattern(T5))
    legal_t2 = [[a, b, c, d] for a in (-1, 0, 1) for b in (-1, 0, 1) for c in (-1, 0, 1) for d in (-1, 0, 1)]
    v["t2-every-byte"] = Layout([ternary("w", [sum(legal_t2, [])], T2)])
    v["t5-every-byte"] = Layout([ternary("w", [[byte // 3**i % 3 - 1 for byte in range(243) for i in range(5)]], T5)])
    shapes = ((1, 4), (17, 12), (33, 260), (3, 16))
    v["nm-6b"] = Layout([ternary(f"w.{label(n, 4)}.{r}x{c}", random_matrix(60 + n, r, c, n, 4), NM_6B, n, 4) for n in (1, 2) for r, c in shapes])
    v["nm-6b-every-code"] = Layout([ternary("w", [sum(every_group(), [])], NM_6B, 2, 4)])
    shapes = ((1, 4), (17, 12), (16, 128), (33, 260))
    v["nm-vi-fragments"] = Layout([ternary(f"w.{label(n, 4)}.{r}x{c}", random_matrix(70 + n, r, c, n, 4), NM_VI, n, 4) for n in (1, 2) for r, c in shapes])
    v["nm-vi-one-group"] = Layout([ternary("w", [[0, 0, -1, 1]], NM_VI, 2, 4)])
    groups = every_group()
    v["nm-vi-every-group"] = Layout([ternary("w", [sum((groups[(q + 5 * r) % 33] for q in range(33)), []) for r in range(17)], NM_VI, 2, 4)])
    tensors = [ternary(f"w.{label(n, m)}.{r}x{b * m}", random_matrix(80 + i + r, r, b * m, n, m), NM_VI, n, m, WINDOWS)
               for i, (n, m) in enumerate(WINDOW_PATTERNS) for r, b in ((1, 1), (17, 7))]
    v["nm-vi-windows"] = Layout(tensors)
    v["nm-vi-windows-every-block"] = Layout([ternary(f"w.{label(m - 2, m)}", every_block(m), NM_VI, m - 2, m, WINDOWS) for m in (6, 8)])
    v["same-content"] = Layout([ternary(f"w.{name}", random_matrix(90, 5, 24, 2, 4), encoding, 2, 4, order) for name, encoding, order in
                                (("t2", T2, ROWS), ("t5", T5, ROWS), ("nm-6b", NM_6B, ROWS), ("nm-vi", NM_VI, FRAGMENTS))])
    v["all-zero"] = Layout([ternary(f"w.{name}", [[0] * 24] * 3, encoding, n, m, order) for name, encoding, n, m, order in
                            (("t2", T2, 0, 0, ROWS), ("t5", T5, 0, 0, ROWS), ("nm-6b", NM_6B, 1, 4, ROWS), ("nm-vi", NM_VI, 1, 4, FRAGMENTS),
                             ("windows", NM_VI, 6, 8, WINDOWS))])
    half, brain, i8 = struct.pack("<4e", 0.5, -2.0, 65504.0, 0.0), bytes.fromhex("803f00c07f7f0000"), bytes(range(128)) + bytes(range(129, 256))
    v["dense-types"] = Layout([
        dense("f32", (2, 3), F32, struct.pack("<6f", 0.5, -0.0, 1e-45, 3.4e38, -1.0, 2.0), HEAD), dense("f16", (4,), F16, half),
        dense("bf16", (1, 2, 1, 2), BF16, brain, OTHER), dense("i8", (5, 51), I8, i8, EMBEDDING, [0.125, 1.0, 2.0, 3.0, 4.0]),
        dense("f32.rank3", (1, 1, 1), F32, struct.pack("<f", 1.0), OTHER)])
    v["roles"] = Layout([ternary(f"w.{role}", [[1, -1, 0, 0]], T2, role=role) for role in (1, 2, 3, 4, 5)])
    v["scale-3"] = Layout([ternary("w", [[1, 0, -1, 0], [0, 1, 1, -1]], T2, scales=[3.0, 3.0])])
    v["scale-limits"] = Layout([ternary("w", [[1, 0], [0, 1]], T2, scales=[b"\1\0\0\0", 10000.0])])
    v["name-limits"] = Layout([ones("!"), ones("~" * 256), ones("../../etc/passwd"), ones("a/b:c<d>e*f?g|h'i`j$k%l&m")])
    v["model"] = Layout(model_tensors(), model_manifest(), [
        carried("chat_template.jinja", b"{{ messages }}"), carried("tokenizer.json", b'{"model":{}}' * 20, zstd_raw(b'{"model":{}}' * 20), "zstd")])
    bare = model_manifest()
    bare["model"].update(tokens={}, family="another", activation_bits=4)
    bare["model"]["rope"] = {"style": "interleaved", "theta": "5E+5"}
    del bare["model"]["window"]
    v["model-bare"] = Layout(model_tensors(), bare)
    v["files-raw"] = Layout([ones("norm")], files=[carried("A", b"x"), carried("_-.9", b"\0" * 5), carried("a", b"y" * 300), carried("z", b"")])
    v["files-only-empty"] = Layout([ones("norm")], files=[carried("empty", b"")])
    zeros = bytes(70000)
    v["files-zstd"] = Layout([ones("norm")], files=[
        carried("empty", b"", zstd_frame([zstd_block(0, b"", 1)], 0, 0x20, 1), "zstd"), carried("raw", b"abc" * 9, zstd_raw(b"abc" * 9), "zstd"),
        carried("rle", zeros, zstd_runs(zeros), "zstd"), carried("two-blocks", b"ab" * 8, zstd_frame([zstd_block(0, b"ab" * 4, 0)] + [
            zstd_block(0, b"ab" * 4, 1)], 16, 0xE0, 8), "zstd"),
        carried("windowed", b"q" * 300, zstd_frame([zstd_block(1, b"q", 1, 300)], 300 - 256, 0x40, 2, b"\x00"), "zstd")])
    v["files-zstd-compressed"] = Layout([ones("norm")], files=[carried("literals", b"literals " * 9, zstd_literals(b"literals " * 9), "zstd")])
    v["unknown-section"] = Layout([ones("norm")], extra=[(17, 0, b"skip me"), (200, 0, b"and me, after PAYLOAD")])
    v["unknown-section-first"] = Layout([ones("norm")], extra=[(0, 0, b"kind 0"), (2**32 - 1, 0, b"last")])
    v["unknown-compatible"] = Layout([ones("norm")], compatible=1 << 63 | 1)
    v["newer-minor"] = Layout([ones("norm")], minor=65535)
    strange = Tensor("strange", (3, 5), 99, b"an encoding to come", role=77, order=9, order_version=4, n=9, m=3, group_axis=7, data_bytes=2**63,
                     scale_count=2**64 - 1, non_zero=2**40 + 1, content_digest=bytes(32))
    v["unknown-inspect-only"] = Layout([strange, ternary("w", [[1, 0, -1, 0]], T2), ones("norm")], inspect_only=1 << 63)
    v["unknown-inspect-only-known-encodings"] = Layout([ternary("w", [[1, 0, -1, 0]], T2)], inspect_only=1)
    strings = weights_manifest(**{"ключ": "é", "\U0001F600": "above U+FFFF", "\uff5e": "below", "a": "\b\f\n\r\t\"\\/\x00\x1f\x7f\u2028", "": [], "A": {}})
    v["manifest-strings"] = Layout([ones("norm")], strings)
    deep = 1
    for _ in range(13):
        deep = [deep, {}]
    v["manifest-limits"] = Layout([ones("norm")], weights_manifest(deep=[deep], least=-2**53, most=2**53, nothing=None, zero=0, yes=True))
    v["kinds-of-source"] = Layout([ones("norm")], weights_manifest(provenance={
        "compiler": "", "kind": "", "options": {"nm": "2:4"}, "rules": {}, "sources": [], "more": 1}))
    v["base-t2"], v["base-t5"] = one(1, 3, 6, T2), one(2, 3, 7, T5)
    v["base-t2-2of4"], v["base-t5-6of8"] = one(3, 3, 8, T2, 2, 4), one(4, 3, 16, T5, 6, 8)
    v["base-nm-6b"], v["base-nm-6b-1of4"] = one(5, 3, 12, NM_6B, 2, 4), one(6, 3, 12, NM_6B, 1, 4)
    v["base-nm-vi"], v["base-nm-vi-1of4"] = one(7, 3, 12, NM_VI, 2, 4), one(8, 3, 12, NM_VI, 1, 4)
    v["base-windows"] = Layout([ternary("w", [[1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]], NM_VI, 6, 8, WINDOWS), ones("norm")])
    v["base-i8"] = Layout([dense("e", (2, 3), I8, bytes([1, 2, 3, 255, 129, 127]), EMBEDDING, [1.0, 0.5]), ones("norm")])
    return v


def worked():
    """The file that is dumped byte by byte: small enough to read, with one of the common cases each."""
    matrix = [[1, 0, -1, -1, 0, 1], [0, 0, 0, 1, 1, -1]]
    six = [[1, 0, 0, -1, 0, 0, 0, 0, 0, -1, 0, 0]]
    files = [carried("note.txt", b"hello\n")]
    return Layout([ternary("a.weight", matrix, T2, scales=[0.5, 3.0]), ternary("b.weight", six, NM_6B, 2, 4, scales=[0.25]), ones("norm", 2)], files=files)


def packed_files(valid):
    big = Layout([dense("zeros", (1048576 + 256,), F32, bytes(4 * (1048576 + 256))), ternary("w", random_matrix(99, 64, 700), T2)])
    minimal, model = valid["minimal"].build(), valid["model"].build()
    return {"packed-raw": (valid["minimal"], packed(minimal, [0])), "packed-zstd": (valid["model"], packed(model, [1])),
            "packed-two-chunks": (big, packed(big.build(), [1, 0]))}


# ---------------------------------------------------------------------------------------------------------------------------- invalid vectors

PREFIX_FIELDS = {"magic": (0, 8), "major": (8, 2), "minor": (10, 2), "header_bytes": (12, 4), "file_bytes": (16, 8), "compatible": (24, 8),
                 "inspect_only": (32, 8), "incompatible": (40, 8), "section_count": (48, 4), "reserved1": (52, 4), "reserved2": (56, 8), "root": (64, 32)}
ENTRY_FIELDS = {"kind": (0, 4), "flags": (4, 4), "offset": (8, 8), "bytes": (16, 8), "reserved": (24, 8), "digest": (32, 32)}
RECORD_FIELDS = {"name_offset": (0, 4), "name_bytes": (4, 4), "role": (8, 2), "encoding": (10, 2), "order": (12, 2), "order_version": (14, 2),
                 "n": (16, 1), "m": (17, 1), "group_axis": (18, 1), "rank": (19, 1), "reserved": (20, 4), "shape0": (24, 8), "shape1": (32, 8),
                 "shape2": (40, 8), "shape3": (48, 8), "offset": (56, 8), "stored_bytes": (64, 8), "data_bytes": (72, 8), "scale_count": (80, 8),
                 "non_zero": (88, 8), "stored_digest": (96, 32), "content_digest": (128, 32)}
PACKED_FIELDS = {"major": (8, 2), "chunk_bytes": (12, 4), "file_bytes": (16, 8), "raw_bytes": (24, 8), "chunk_count": (32, 4), "reserved1": (36, 4),
                 "reserved2": (40, 24), "root": (64, 32), "digest": (96, 32)}
BOUNDARIES = (0, 1, 2**31 - 1, 2**31, 2**31 + 1, 2**32 - 1, 2**53, 2**63, 2**64 - 1)


def bits_of(text):
    return bytes.fromhex(text)


class Edit:
    """A valid file taken apart for a change; `sealed` makes every digest above the change right again."""

    def __init__(self, layout):
        self.bytes = bytearray(layout.build())
        self.sections = layout.sections
        self.kinds = sorted(layout.sections)

    def put(self, at, value, size=None):
        value = value if isinstance(value, (bytes, bytearray)) else value.to_bytes(size, "little")
        assert size is None or len(value) == size
        self.bytes[at:at + len(value)] = value
        return self

    def prefix(self, **fields):
        for field, value in fields.items():
            self.put(PREFIX_FIELDS[field][0], value, PREFIX_FIELDS[field][1])
        return self

    def entry(self, section, **fields):
        for field, value in fields.items():
            at, size = ENTRY_FIELDS[field]
            self.put(96 + 64 * self.kinds.index(section) + at, value, size)
        return self

    def record_at(self, index, field):
        return self.sections[TENSORS][0] + 160 * index + RECORD_FIELDS[field][0]

    def record(self, index, **fields):
        for field, value in fields.items():
            self.put(self.record_at(index, field), value, RECORD_FIELDS[field][1])
        return self

    def get(self, index, field):
        at = self.record_at(index, field)
        return int.from_bytes(self.bytes[at:at + RECORD_FIELDS[field][1]], "little")

    def extent(self, index):
        start = self.sections[PAYLOAD][0] + self.get(index, "offset")
        return start, start + self.get(index, "stored_bytes")

    def data(self, index, at, value, both=False):
        """Change bytes of a tensor and its stored_digest (and content_digest, for encodings where they are equal)."""
        start, end = self.extent(index)
        self.put(start + at, value)
        digest = blake3(self.bytes[start:end])
        return self.record(index, stored_digest=digest, **({"content_digest": digest} if both else {}))

    def scale(self, index, row, value):
        start, end = self.extent(index)
        return self.data(index, end - start - 4 * self.get(index, "scale_count") + 4 * row, value)

    def in_section(self, kind, at, value):
        return self.put(self.sections[kind][0] + at, value)

    def sealed(self, sections=True):
        for kind in self.kinds if sections else ():
            offset, size = self.sections[kind]
            if kind != PAYLOAD:
                self.entry(kind, digest=blake3(self.bytes[offset:offset + size]))
        header = bytes(self.bytes[:96 + 64 * len(self.kinds)])
        return self.prefix(root=blake3(header[:64] + bytes(32) + header[96:])).bytes


class Kit:
    def __init__(self, valid, packed_valid):
        self.valid, self.packed_valid, self.vectors = valid, packed_valid, {}

    def add(self, name, rule, base, data, why, deep=False, kind=None):
        assert name not in self.vectors, name
        unsupported = rule in ("R003", "R009", "R010", "R022")
        self.vectors[name] = (rule, base, bytes(data), why, deep, kind or ("unsupported" if unsupported else "invalid"))

    def edit(self, base):
        return Edit(self.valid[base])

    def index(self):
        index = {}
        originals = {base: self.packed_valid[base][1] if base in self.packed_valid else self.valid[base].build()
                     for _, base, *_ in self.vectors.values()}
        for name, (rule, base, data, why, deep, kind) in self.vectors.items():
            is_packed = base in self.packed_valid
            index[name] = {"rule": f"SBNC-{rule}", "kind": kind, "deep": deep, "why": why, "base": f"valid/{base}.{'sbncz' if is_packed else 'sbnc'}",
                           **patch(originals[base], data)}
        return index


def patch(base, data):
    """Edits that turn `base` into `data`: runs of bytes, then the new length or the bytes to append."""
    common = min(len(base), len(data))
    edits, at = [], 0
    while at < common:
        if base[at:at + 256] == data[at:at + 256]:
            at += 256
            continue
        if base[at] == data[at]:
            at += 1
            continue
        end = at + 1
        while end < common and base[end:end + 8] != data[end:end + 8]:
            end += 1
        edits.append([at, data[at:min(end, common)].hex()])
        at = end
    return {"edits": edits, "truncate": len(data) if len(data) < len(base) else None, "append": data[len(base):].hex()}


def prefix_vectors(kit):
    add, edit, whole = kit.add, lambda: kit.edit("minimal"), bytes(kit.edit("minimal").bytes)
    add("empty", "R001", "minimal", b"", "the file is empty")
    add("prefix-cut", "R001", "minimal", whole[:95], "one byte short of a prefix")
    magic = whole[:8]
    for name, mangled, why in (
            ("magic-bit-7-cleared", bytes(b & 0x7F for b in magic), "a transfer cleared bit 7 of every byte"),
            ("magic-crlf-to-lf", magic.replace(b"\r\n", b"\n") + whole[8:9], "a transfer turned CR LF into LF"),
            ("magic-lf-to-crlf", magic.replace(b"\n", b"\r\n")[:8], "a transfer turned LF into CR LF"),
            ("magic-other", b"\x89PNG\r\n\x1a\n", "another format's magic"), ("magic-zero", bytes(8), "no magic")):
        add(name, "R002", "minimal", edit().prefix(magic=mangled[:8]).sealed(), why)
    for value in (0, 2, 65535):
        add(f"major-{value}", "R003", "minimal", edit().prefix(major=value).sealed(), f"major is {value}")
    for value in (0, 65, 2**31, 2**32 - 1):
        add(f"section-count-{value}", "R004", "minimal", edit().prefix(section_count=value).sealed(), f"section_count is {value}")
    for value in (1, 3, 5, 64):
        add(f"section-count-{value}", "R005", "minimal", edit().prefix(section_count=value).sealed(), f"section_count is {value}, header_bytes says 4")
    for value in (0, 1, 96, 351, 353, 416, 2**31, 2**32 - 1):
        add(f"header-bytes-{value}", "R005", "minimal", edit().prefix(header_bytes=value).sealed(), f"header_bytes is {value}, not 352")
    for value in BOUNDARIES + (len(whole) - 1, len(whole) + 1, 2**42, 2**42 + 1):
        add(f"file-bytes-{value}", "R006", "minimal", edit().prefix(file_bytes=value).sealed(), f"file_bytes is {value}, not the file's length")
    for cut in (96, 351, 352, 4096, len(whole) - 1):
        add(f"truncated-{cut}", "R006", "minimal", whole[:cut], f"the file ends after {cut} bytes")
    add("trailing-byte", "R006", "minimal", whole + b"\0", "a byte follows the end")
    add("trailing-zip", "R006", "minimal", whole + b"PK\5\6" + bytes(18), "an empty zip archive is appended")
    add("header-beyond-file", "R006", "minimal", edit().prefix(section_count=64, header_bytes=4192, file_bytes=96).bytes[:96],
        "a file of 96 bytes says that its header has 4192")
    add("root-flipped", "R007", "minimal", edit().put(64, whole[64] ^ 1, 1).bytes, "one bit of root differs", kind="integrity")
    add("minor-not-resealed", "R007", "minimal", edit().prefix(minor=1).bytes, "minor changed and root did not", kind="integrity")
    add("entry-not-resealed", "R007", "minimal", edit().entry(PAYLOAD, reserved=1).bytes, "the section table changed and root did not", kind="integrity")
    for field, value in (("reserved1", 1), ("reserved1", 2**31), ("reserved2", 1), ("reserved2", 2**63)):
        add(f"prefix-{field}-{value}", "R008", "minimal", edit().prefix(**{field: value}).sealed(), f"a reserved field of the prefix is {value}")
    for value in (1, 2**31, 2**63, 2**64 - 1):
        add(f"incompatible-{value}", "R009", "minimal", edit().prefix(incompatible=value).sealed(), f"unknown incompatible bits {value:#x}")
    for base in ("unknown-inspect-only", "unknown-inspect-only-known-encodings"):
        add(f"decode-{base}", "R010", base, kit.edit(base).bytes, "a good file to list, which a reader must not decode", deep=True)
    add("inspect-only-all", "R010", "minimal", edit().prefix(inspect_only=2**64 - 1).sealed(), "unknown inspect_only bits: not to be decoded", deep=True)


def section_vectors(kit):
    add, edit = kit.add, lambda base="files-raw": kit.edit(base)
    rebuilt = kit.valid["files-raw"].build

    def reordered(bodies):
        return [bodies[1], bodies[0]] + bodies[2:]

    add("sections-swapped", "R020", "files-raw", rebuilt(entries=reordered), "NAMES comes before TENSORS, each where its entry says")
    add("section-twice", "R020", "files-raw", rebuilt(entries=lambda b: b[:2] + b[1:]), "NAMES occurs twice")
    add("kind-0-second", "R020", "files-raw", edit().entry(NAMES, kind=0, flags=0).sealed(), "kinds descend from 16 to 0")
    for kind, flags in ((TENSORS, 0), (NAMES, 0), (MANIFEST, 0), (PAYLOAD, 0), (FILES, 1), (TENSORS, 3), (PAYLOAD, 2**31 + 1), (FILES, 2), (NAMES, 2**32 - 1)):
        add(f"flags-{kind}-{flags}", "R021", "files-raw", edit().entry(kind, flags=flags).sealed(), f"flags of section kind {kind} are {flags:#x}")
    add("flags-unknown-section", "R021", "unknown-section", edit("unknown-section").entry(17, flags=2).sealed(), "an undefined flag on an unknown section")
    for kind in (17, 200):
        add(f"required-{kind}", "R022", "unknown-section", edit("unknown-section").entry(kind, flags=1).sealed(), f"unknown section {kind} is REQUIRED")
    add("required-last", "R022", "unknown-section-first", edit("unknown-section-first").entry(2**32 - 1, flags=1).sealed(), "the last kind is REQUIRED")
    for kind in (TENSORS, NAMES, MANIFEST, PAYLOAD):
        add(f"missing-{kind}", "R023", "files-raw", rebuilt(entries=lambda bodies, kind=kind: [b for b in bodies if b[0] != kind]),
            f"no section of kind {kind}")
        add(f"empty-{kind}", "R024", "files-raw", edit().entry(kind, bytes=0).sealed(sections=False), f"the section of kind {kind} is empty")
    for kind in (TENSORS, NAMES, MANIFEST, FILES, PAYLOAD):
        right = edit().sections[kind][0]
        for value in sorted({0, 1, 4096, right - 4096, right - 1, right + 1, right + 4096, 2**63, 2**64 - 4096, 2**64 - 1} - {right}):
            if kind in (TENSORS, PAYLOAD) or value in (right - 4096, right + 4096, 2**64 - 4096):
                add(f"offset-{kind}-{value}", "R025", "files-raw", edit().entry(kind, offset=value).sealed(sections=False),
                    f"the section of kind {kind} is at {value}, not {right}")
    for value in (2**31, 2**32, 2**53, 2**63, 2**64 - 4096, 2**64 - 1):
        add(f"bytes-tensors-{value}", "R025", "files-raw", edit().entry(TENSORS, bytes=value).sealed(sections=False),
            f"TENSORS has {value} bytes, so that what follows is out of place")
    for value in BOUNDARIES[1:] + (15, 17, 2**64 - 20480):
        add(f"bytes-payload-{value}", "R026", "files-raw", edit().entry(PAYLOAD, bytes=value).sealed(sections=False),
            f"PAYLOAD has {value} bytes, not 16, and ends elsewhere than the file")
    whole = bytes(edit().bytes)
    grown = edit().prefix(file_bytes=len(whole) + 1)
    add("trailing-byte-sealed", "R026", "files-raw", grown.sealed() + b"\0", "a byte follows the last section, counted by file_bytes")
    grown = edit().prefix(file_bytes=len(whole) + 4096)
    add("trailing-page-sealed", "R026", "files-raw", grown.sealed() + bytes(4096), "a page follows the last section, counted by file_bytes")
    for kind, value in ((TENSORS, 1), (PAYLOAD, 2**63), (FILES, 2**64 - 1)):
        add(f"entry-reserved-{kind}", "R027", "files-raw", edit().entry(kind, reserved=value).sealed(), f"the reserved field of entry {kind} is {value}")
    header, tensors, payload = 96 + 64 * 5, edit().sections[TENSORS], edit().sections[PAYLOAD]
    for name, at in (("after-header", header), ("before-tensors", 4095), ("after-tensors", sum(tensors)), ("before-payload", payload[0] - 1)):
        add(f"padding-{name}", "R028", "files-raw", edit().put(at, 1, 1).bytes, f"the padding byte at {at} is 1")
    for kind in (TENSORS, NAMES, MANIFEST, FILES):
        data = edit()
        at = data.sections[kind][0]
        add(f"section-flipped-{kind}", "R029", "files-raw", data.put(at, data.bytes[at] ^ 1, 1).bytes, f"one bit of section {kind} differs", kind="integrity")
    data = edit("unknown-section")
    add("section-flipped-unknown", "R029", "unknown-section", data.put(data.sections[17][0], b"K").bytes, "a byte of an unknown section differs",
        kind="integrity")
    add("payload-with-digest", "R029", "files-raw", edit().entry(PAYLOAD, digest=blake3(whole[payload[0]:])).sealed(), "PAYLOAD's entry has a digest",
        kind="integrity")
    add("section-digest-zero", "R029", "files-raw", edit().entry(NAMES, digest=bytes(32)).sealed(sections=False), "the digest of NAMES is zero",
        kind="integrity")


def record_vectors(kit):
    def field(rule, base, index, why=None, name=None, **fields):
        text = ", ".join(f"{field} {value}" for field, value in fields.items())
        name = name or f"{base.replace('base-', '')}-{index}-" + "-".join(f"{field}-{value}" for field, value in fields.items()).replace("_", "-")
        kit.add(name, rule, base, kit.edit(base).record(index, **fields).sealed(), why or f"tensor {index} has {text}")

    layout = kit.valid["base-t2"]
    records = layout.build()[4096:4096 + 320]
    for name, raw in (("short", records[:-1]), ("long", records + b"\0"), ("half", records[:240])):
        kit.add(f"records-{name}", "R040", "base-t2", layout.build(records=raw), f"TENSORS has {len(raw)} bytes")
    for value in (0, 6, 255, 256, 65535):
        field("R041", "base-t2", 0, role=value)
    for value in (0, 5, 15, 20, 272, 65535):
        field("R042", "base-t2", 0, encoding=value)
    for base, order in (("base-t2", 1), ("base-t2", 2), ("base-t2", 3), ("base-t5", 1), ("base-nm-6b", 1), ("base-nm-6b", 2), ("base-nm-vi", 0),
                        ("base-nm-vi", 3), ("base-nm-vi", 65535), ("base-i8", 1)):
        field("R043", base, 0, order=order)
    field("R043", "base-t2", 1, order=1, why="an f32 tensor in order fragments")
    for value in (0, 2, 65535):
        field("R043", "base-nm-vi", 0, order_version=value)
    for value in (0, 5, 255):
        field("R044", "base-t2", 1, rank=value)
    for value in (0, 2**31 + 1, 2**32 - 1, 2**32 + 3, 2**53, 2**63, 2**64 - 1):
        field("R044", "base-t2", 0, shape0=value)
        field("R044", "base-t2", 0, shape1=value)
    field("R044", "base-t2", 0, shape2=1, why="an unused dimension is 1")
    field("R044", "base-t2", 0, shape3=2**64 - 1, why="an unused dimension is not 0")
    field("R044", "base-t2", 1, rank=2, why="the second of two dimensions is 0")
    field("R044", "base-t2", 1, rank=2, shape0=2**31, shape1=513, name="elements-just-too-many", why="2^40 + 2^31 elements")
    field("R044", "base-t2", 1, rank=4, shape0=2**16, shape1=2**16, shape2=2**16, shape3=2**16, name="elements-wrap-to-0", why="2^64 elements: 0 in 64 bits")
    field("R044", "base-t2", 1, rank=4, shape0=2**31, shape1=2**31, shape2=4, shape3=4, name="elements-wrap-further",
          why="2^66 elements: 0 in 64 bits")
    field("R044", "base-t2", 1, rank=3, shape0=2**31, shape1=2**31, shape2=2**31, name="elements-wrap-signed", why="2^93 elements")
    field("R045", "base-t2", 0, rank=1, shape0=18, shape1=0, name="t2-rank-1", why="a t2 tensor of rank 1")
    field("R045", "base-t2", 0, rank=3, shape2=1, name="t2-rank-3", why="a t2 tensor of rank 3")
    field("R045", "base-i8", 0, rank=1, shape0=6, shape1=0, name="i8-rank-1", why="an i8 tensor of rank 1")
    field("R045", "base-t2", 1, role=LINEAR, name="f32-linear", why="role linear with encoding f32")
    field("R045", "base-i8", 0, role=LINEAR, name="i8-linear", why="role linear with encoding i8")
    for n, m in ((1, 0), (0, 4), (4, 4), (5, 4), (255, 255), (0, 255), (2, 17), (15, 17)):
        field("R046", "base-t2-2of4", 0, n=n, m=m)
    field("R046", "base-t2", 1, n=2, m=4, group_axis=1, name="f32-pattern", why="an f32 tensor with a pattern")
    field("R046", "base-i8", 0, n=1, m=3, group_axis=1, name="i8-pattern", why="an i8 tensor with a pattern")
    for value in (0, 2, 255):
        field("R047", "base-t2-2of4", 0, group_axis=value)
    field("R047", "base-t2", 0, group_axis=1, why="a group axis without a pattern")
    field("R047", "base-t2", 1, group_axis=1, why="a group axis for f32")
    for m in (3, 5, 6, 7, 16):
        field("R048", "base-t2-2of4", 0, m=m, why=f"8 columns do not fall into groups of {m}")
    field("R048", "base-nm-6b", 0, shape1=10, why="10 columns do not fall into groups of 4")
    for base in ("base-nm-6b", "base-nm-vi"):
        for n, m in ((0, 0), (3, 4), (1, 2), (2, 3), (4, 6), (2, 12)):
            field("R049", base, 0, n=n, m=m, group_axis=int(m > 0))
    for n, m in ((0, 0), (2, 4), (5, 8), (7, 8), (2, 8), (1, 2), (2, 16), (13, 16)):
        field("R049", "base-windows", 0, n=n, m=m, group_axis=int(m > 0))
    for value in (*BOUNDARIES, 2, 4, 2**62):
        field("R050", "base-t2", 0, scale_count=value)
    for value in (1, 2**62, 2**64 - 1):
        field("R050", "base-t2", 1, scale_count=value)
    field("R050", "base-t2", 0, shape0=2**31, why="2^31 rows with 3 scales")
    for base in ("base-t2", "base-t5", "base-nm-6b", "base-nm-vi", "base-windows", "base-i8"):
        right = kit.edit(base).get(0, "data_bytes")
        for value in (right - 1, right + 1, 2**64 - 1) + (BOUNDARIES[:-1] if base == "base-t2" else ()):
            field("R051", base, 0, data_bytes=value)
    field("R051", "base-t2", 1, shape0=2**31, why="2^31 values of f32 in 16 bytes")
    field("R051", "base-nm-vi", 0, shape1=132, why="132 columns in one tile")
    field("R051", "base-t2", 0, shape1=9, why="9 columns in two bytes a row")
    right = kit.edit("base-t2").get(0, "stored_bytes")
    for value in (*BOUNDARIES, right - 1, right + 1, right + 256, 2**64 - 256):
        field("R052", "base-t2", 0, stored_bytes=value)
    for value in (15, 17, 256, 272):
        field("R052", "base-t2", 1, stored_bytes=value)
    for value in (1, 256, 2**63, 2**64 - 256, 2**64 - 1):
        field("R053", "base-t2", 0, offset=value)
    for value in (0, 1, 256, 511, 513, 768, 2**31, 2**32 + 512, 2**53, 2**63, 2**64 - 256, 2**64 - 1):
        field("R053", "base-t2", 1, offset=value)
    payload = layout.build()[layout.sections[PAYLOAD][0]:]
    for name, data in (("longer", payload + b"\0"), ("a-page-longer", payload + bytes(4096)), ("shorter", payload[:-1])):
        kit.add(f"payload-{name}", "R054", "base-t2", layout.build(payload=data), f"PAYLOAD is {name} than its tensors")
    layout.build()
    for value in (1, 2**31, 2**32 - 1):
        field("R055", "base-t2", 0, reserved=value)
    field("R055", "base-t2", 1, reserved=1)
    for value in (19, 2**31, 2**53, 2**63, 2**64 - 1):
        field("R056", "base-t2", 0, non_zero=value)
    field("R056", "base-t2", 1, non_zero=1, why="non_zero of an f32 tensor is 1")
    field("R056", "base-i8", 0, non_zero=1, why="non_zero of an i8 tensor is 1")
    field("R056", "base-t2", 1, content_digest=bytes(32), name="f32-content-digest", why="content_digest of an f32 tensor is not its stored_digest")
    edit = kit.edit("unknown-inspect-only").record(0, shape0=0).sealed()
    kit.add("opaque-shape", "R044", "unknown-inspect-only", edit, "a dimension of an opaque tensor is 0: that rule holds for every tensor")
    edit = kit.edit("unknown-inspect-only").record(0, stored_bytes=2**64 - 1).sealed()
    kit.add("opaque-stored-bytes", "R053", "unknown-inspect-only", edit, "an opaque tensor says that it reaches beyond what follows")
    edit = kit.edit("unknown-inspect-only")
    edit.put(edit.sections[PAYLOAD][0], b"A")
    kit.add("opaque-flipped", "R072", "unknown-inspect-only", edit.bytes, "a byte of an opaque tensor differs", kind="integrity")


def name_vectors(kit):
    edit = lambda: kit.edit("base-t2")  # noqa: E731
    for index, field, value in ((0, "name_offset", 1), (0, "name_offset", 2**32 - 1), (1, "name_offset", 0), (1, "name_offset", 2),
                                (1, "name_offset", 2**31), (1, "name_offset", 2**32 - 1), (1, "name_bytes", 3), (1, "name_bytes", 5),
                                (1, "name_bytes", 2**31), (1, "name_bytes", 2**32 - 1), (1, "name_bytes", 2**32 - 2)):
        kit.add(f"{field.replace('_', '-')}-{index}-{value}", "R060", "base-t2", edit().record(index, **{field: value}).sealed(),
                f"{field} of tensor {index} is {value}")
    layout = kit.valid["base-t2"]
    kit.add("names-longer", "R060", "base-t2", layout.build(names=b"wnorm!"), "NAMES goes on after the last name")
    kit.add("names-shorter", "R060", "base-t2", layout.build(names=b"wnor"), "NAMES ends within the last name")
    layout.build()
    for name, byte in (("space", 0x20), ("quote", 0x22), ("backslash", 0x5C), ("del", 0x7F), ("nul", 0), ("newline", 0x0A), ("utf8", 0xC3), ("ff", 0xFF)):
        kit.add(f"name-{name}", "R061", "base-t2", edit().in_section(NAMES, 0, bytes([byte])).sealed(), f"a name holds the byte {byte:#04x}")
    kit.add("name-empty", "R061", "minimal", Layout([ones("norm"), ones("")]).build(), "a name is empty")
    kit.add("name-257", "R061", "minimal", Layout([ones("n" * 257)]).build(), "a name has 257 bytes")
    kit.add("name-twice", "R062", "minimal", Layout([ones("norm"), ones("norm")]).build(), "two tensors of one name")
    kit.add("name-twice-apart", "R062", "minimal", Layout([ones("a"), ones("b"), ones("a")]).build(), "the first and the third tensor have one name")


def manifest_vectors(kit):
    layout = kit.valid["minimal"]
    good = canonical(layout.manifest)
    provenance = canonical(layout.manifest["provenance"])

    def raw(name, rule, data, why):
        kit.add(f"manifest-{name}", rule, "minimal", layout.build(manifest=data), why)
        layout.build()

    def member(name, rule, text, why):
        """`text` is a member after the others."""
        raw(name, rule, good[:-1] + b"," + text + b"}", why)

    for name, data, why in (
            ("cut", good[:-1], "the object is not closed"), ("two-values", good + b"{}", "something follows the object"),
            ("array", b"[" + good + b"]", "an array at the top"), ("string", b'"files"', "a string at the top"), ("number", b"1", "a number at the top"),
            ("bom", b"\xef\xbb\xbf" + good, "a byte order mark"), ("nul", good + b"\0", "a zero byte follows"), ("utf16", good.decode().encode("utf-16-le"), "UTF-16"),
            ("comment", b"/**/" + good, "a comment"), ("single-quotes", good.replace(b'"', b"'"), "strings in single quotes")):
        raw(name, "R063", data, why)
    for name, text, why in (
            ("trailing-comma", b'"z":1,', "a comma before the end"), ("no-value", b'"z":', "a member without value"), ("no-key", b"1", "a member without key"),
            ("nan", b'"z":NaN', "NaN"), ("infinity", b'"z":Infinity', "Infinity"), ("true-upper", b'"z":True', "True"), ("hex", b'"z":0x10', "a hexadecimal number"),
            ("leading-zero", b'"z":01', "a leading zero, which JSON has not"), ("plus", b'"z":+1', "a plus sign, which JSON has not"),
            ("bare-fraction", b'"z":.5', "a fraction without digit before"), ("bad-escape", b'"z":"\\x41"', "an escape that JSON has not"),
            ("short-escape", b'"z":"\\u12"', "an escape cut short"), ("raw-control", b'"z":"\n"', "a line feed in a string"),
            ("not-utf8", b'"z":"\xff"', "a byte that UTF-8 has not"), ("overlong", b'"z":"\xc0\xaf"', "an overlong form"),
            ("surrogate-bytes", b'"z":"\xed\xa0\x80"', "a surrogate in UTF-8"), ("cut-utf8", b'"z":"\xe2\x82"', "a character cut short"),
            ("deep-arrays", b'"z":' + b"[" * 16 + b"]" * 16, "17 levels of nesting, arrays"),
            ("deep-objects", b'"z":' + b'{"a":' * 16 + b"1" + b"}" * 16, "17 levels of nesting, objects"),
            ("very-deep", b'"z":' + b"[" * 900 + b"]" * 900, "901 levels of nesting")):
        member(name, "R063", text, why)
    for name, data, why in (
            ("space-after-colon", good.replace(b":", b": ", 1), "a space"), ("newline-at-end", good + b"\n", "a line feed at the end"),
            ("tab-at-start", b"\t" + good, "a tab at the start"), ("unsorted", b'{"provenance":' + provenance + b',"files":[]}', "keys out of order"),
            ("duplicate", good[:-1] + b',"provenance":' + provenance + b"}", "a key twice"),
            ("duplicate-escaped", good[:-1] + b',"z":1,"\\u007a":2}', "a key twice, once escaped")):
        raw(name, "R064", data, why)
    for name, text, why in (
            ("escaped-solidus", b'"z":"\\/"', "an escaped solidus"), ("escaped-letter", b'"z":"\\u0041"', "an escaped letter"),
            ("escaped-upper", b'"z":"\\u001F"', "upper-case hexadecimal in an escape"), ("escaped-newline-long", b'"z":"\\u000a"', "a long escape of LF"),
            ("escaped-quote-long", b'"z":"\\u0022"', "a long escape of a quotation mark"), ("escaped-pair", b'"z":"\\ud83d\\ude00"', "an escaped surrogate pair"),
            ("lone-surrogate", b'"z":"\\ud800"', "a lone surrogate, escaped"), ("escaped-key", b'"\\u007a":1', "a key with a needless escape"),
            ("space-in-array", b'"z":[1, 2]', "a space in an array"), ("unsorted-inside", b'"z":{"b":1,"a":2}', "keys out of order inside"),
            ("utf16-order", '"z":{"\U0001F600":1,"\uff5e":2}'.encode(), "keys in the order of UTF-16"),
            ("duplicate-inside", b'"z":{"a":1,"a":1}', "a key twice inside"), ("empty-with-space", b'"z":{ }', "a space in an empty object")):
        member(name, "R064", text, why)
    for name, text in (("float", b"1.5"), ("whole-float", b"1.0"), ("exponent", b"1e3"), ("minus-zero", b"-0"), ("minus-zero-float", b"-0.0"),
                       ("above-2-53", b"9007199254740993"), ("below-2-53", b"-9007199254740993"), ("u64", b"18446744073709551615"),
                       ("i64", b"9223372036854775808"), ("huge", b"1" + b"0" * 400), ("huge-exponent", b"1e400")):
        member(name, "R065", b'"z":' + text, f"the number {text[:24].decode()}")
    member_vectors(kit)


def member_vectors(kit):
    def changed(name, base, path, value, why=None):
        """One member replaced (or removed, for value KeyError)."""
        layout = kit.valid[base]
        manifest = copy.deepcopy(layout.manifest)
        *parents, last = path.split(".")
        at = manifest
        for parent in parents:
            at = at[int(parent) if parent.isdigit() else parent]
        last = int(last) if last.isdigit() else last
        if value is KeyError:
            del at[last]
        else:
            at[last] = value
        text = "is absent" if value is KeyError else f"is {json.dumps(value)[:40]}"
        kit.add(name, "R066", base, layout.build(manifest=canonical(manifest)), why or f"{path} {text}")
        layout.build()

    model = kit.valid["model"].manifest["model"]
    for path in ("files", "provenance", "provenance.compiler", "provenance.sources", "provenance.kind", "provenance.options", "provenance.rules",
                 "provenance.sources.0.name", "provenance.sources.0.bytes", "provenance.sources.0.blake3"):
        changed(f"no-{path.replace('.', '-')}", "minimal", path, KeyError)
        changed(f"null-{path.replace('.', '-')}", "minimal", path, None)
    for path, value in (("files", {}), ("provenance", []), ("provenance.compiler", 1), ("provenance.sources", {}), ("provenance.sources.0", "x"),
                        ("provenance.options", {"threads": 1}), ("provenance.rules", ["x"]), ("provenance.sources.0.bytes", -1),
                        ("provenance.sources.0.bytes", "1"), ("provenance.sources.0.bytes", True), ("provenance.sources.0.blake3", "AB" * 32),
                        ("provenance.sources.0.blake3", "00" * 31), ("provenance.sources.0.blake3", "0g" * 32), ("model", None), ("model", [])):
        text = "".join(c for c in json.dumps(value).replace("-", "minus") if c.isalnum())[:12]
        changed(f"wrong-{path.replace('.', '-')}-{type(value).__name__}-{text}".rstrip("-"), "minimal", path, value)
    for path in [f"model.{member}" for member in model if member != "window"] + ["model.rope.style", "model.rope.theta"]:
        changed(f"no-{path.replace('.', '-')}", "model", path, KeyError)
        changed(f"null-{path.replace('.', '-')}", "model", path, None)
    for path in ("layers", "hidden", "intermediate", "heads", "kv_heads", "head_dim", "vocab", "context"):
        for value in (0, -1, 1025 if path in ("layers", "heads") else 2**24 + 1, 2**53, "8", True):
            changed(f"model-{path}-{value}", "model", f"model.{path}", value)
    for name, path, value in (
            ("kv-heads-uneven", "kv_heads", 3), ("kv-heads-more", "kv_heads", 4), ("activation-unknown", "activation", "tanh"),
            ("activation-bits-1", "activation_bits", 1), ("activation-bits-true", "activation_bits", True), ("activation-bits-string", "activation_bits", "8"),
            ("norm-eps-integer", "norm_eps", 1), ("norm-eps-zero", "norm_eps", "0"), ("norm-eps-negative", "norm_eps", "-1e-5"),
            ("norm-eps-nan", "norm_eps", "nan"), ("norm-eps-inf", "norm_eps", "inf"), ("norm-eps-overflow", "norm_eps", "1e400"),
            ("norm-eps-underflow", "norm_eps", "1e-400"), ("norm-eps-plus", "norm_eps", "+1"), ("norm-eps-space", "norm_eps", " 1"),
            ("norm-eps-empty", "norm_eps", ""), ("norm-eps-hex", "norm_eps", "0x1p-5"), ("norm-eps-digits", "norm_eps", "\u0661"),
            ("theta-zero", "rope.theta", "0.0"), ("theta-integer", "rope.theta", 10000), ("rope-style", "rope.style", "full"),
            ("rope-scaling-array", "rope.scaling", []), ("rope-scaling-nested", "rope.scaling", {"a": {}}), ("rope-scaling-null", "rope.scaling", None),
            ("rope-scaling-boolean", "rope.scaling", {"a": True}), ("tied-integer", "tied", 1), ("tied-string", "tied", "true"), ("window-null", "window", None),
            ("window-string", "window", "64"), ("window-boolean", "window", True), ("tensors-integer", "tensors", {"embed": 1}),
            ("tokens-array", "tokens", []), ("tokens-bos-string", "tokens", {"bos": "1"}), ("tokens-eos-integer", "tokens", {"eos": 2}),
            ("tokens-eos-null", "tokens", {"eos": [None]}), ("tokens-pad-boolean", "tokens", {"pad": False}), ("family-integer", "family", 1)):
        changed(f"model-{name}", "model", f"model.{path}", value)


def carried_vectors(kit):
    base = kit.valid["files-raw"]

    def entries(name, rule, change, why, kind=None, layout=base, base_name="files-raw", **sections):
        manifest = copy.deepcopy(layout.manifest)
        manifest["files"] = change(manifest["files"]) or manifest["files"]
        kit.add(f"files-{name}", rule, base_name, layout.build(manifest=canonical(manifest), **sections), why, kind=kind)
        layout.build()

    def member(rule, field, value, why=None, name=None):
        def change(files):
            if value is KeyError:
                del files[1][field]
            else:
                files[1][field] = value
        text = str(value)[:12].replace("/", "_").replace("\n", "_")
        entries(name or f"{field}-{'absent' if value is KeyError else text}", rule, change, why or f"{field} of a carried file is {value!r:.40}")

    for field in ("name", "codec", "stored", "raw", "blake3"):
        member("R067", field, KeyError, f"an entry without {field}")
        member("R067", field, None)
    member("R067", "mode", 493, "an entry has another member")
    member("R067", "stored", "5", name="stored-string")
    member("R067", "raw", True)
    member("R067", "codec", 0)
    member("R067", "blake3", "00" * 31, name="blake3-short")
    member("R067", "blake3", blake3(b"\0" * 5).hex().upper(), name="blake3-upper")
    for label_, name in (("empty", ""), ("dot", "."), ("hidden", ".a"), ("parent", "../a"), ("slash", "_/a"), ("absolute", "/a"), ("backslash", "_\\a"),
                         ("drive", "C:a"), ("space", "_ a"), ("utf8", "_é"), ("newline", "_a\n"), ("nul", "_\0"), ("long", "_" * 257)):
        member("R067", "name", name, name=f"name-{label_}")
    member("R067", "name", "zz", "a name above the next one's", name="name-unsorted")
    member("R067", "name", "A", "two files of one name", name="name-twice")
    entries("entry-string", "R067", lambda files: ["A"] + files[1:], "an entry is a string")
    entries("entry-null", "R067", lambda files: [None] + files[1:], "an entry is null")
    many = [carried(f"f{i:02}", b"x") for i in range(65)]
    kit.add("files-65", "R067", "files-raw", Layout([ones("norm")], files=many).build(), "65 carried files")
    for codec in ("", "RAW", "gzip", "zstd "):
        member("R068", "codec", codec)
    member("R068", "raw", -1)
    member("R068", "raw", 6, "raw and stored differ, codec raw")
    member("R068", "raw", 2**28 + 1)
    member("R068", "raw", 2**53)
    member("R068", "stored", -1)
    member("R068", "stored", 0, "stored is 0 and raw is 5")
    member("R068", "stored", 2**53)

    def zstd_nothing(files):
        files[3].update(codec="zstd")
    entries("zstd-stored-0", "R068", zstd_nothing, "an empty zstd frame")

    def larger(files):
        files[1].update(stored=6, raw=6)
    entries("sum-larger", "R069", larger, "the files have one byte more than FILES")
    entries("sum-smaller", "R069", lambda files: files[:2], "FILES has bytes that belong to no file")
    entries("section-without-files", "R069", lambda files: files[:0] or files.clear(), "FILES is present and there are no files")
    entries("section-for-empty", "R069", lambda files: files[3:], "FILES is present and all files are empty")
    entries("no-section", "R069", lambda files: None, "there are files and no FILES", carried=b"")
    layout = Layout([ones("norm")], files=[carried(f"f{i:02}", b"") for i in range(64)])
    manifest = copy.deepcopy(layout.manifest)
    for entry in manifest["files"]:
        entry.update(codec="zstd", raw=1, stored=2**53)
    kit.add("files-sum-large", "R069", "files-raw", layout.build(manifest=canonical(manifest)), "64 files of 2^53 bytes each")

    def digest(files):
        files[0]["blake3"] = "00" * 32
    entries("digest-raw", "R070", digest, "the digest of a raw file differs", kind="integrity")
    zstd = kit.valid["files-zstd"]
    entries("digest-zstd", "R070", lambda files: files[1].update(blake3="00" * 32), "the digest of a decoded file differs", kind="integrity", layout=zstd,
            base_name="files-zstd")

    def frame(name, stored, why, raw=b"hello"):
        layout = Layout([ones("norm")], files=[carried("f", raw, stored, "zstd")])
        kit.add(f"zstd-{name}", "R070", "files-zstd", layout.build(), why)

    block, good = zstd_block(0, b"hello", 1), zstd_raw(b"hello")
    frame("no-size", zstd_frame([block], 0, 0x00, 0, b"\x00"), "a frame that does not declare its content size")
    frame("size-smaller", zstd_frame([block], 4), "a frame that declares 4 bytes and holds 5")
    frame("size-larger", zstd_frame([block], 6), "a frame that declares 6 bytes and holds 5")
    frame("size-huge", zstd_frame([block], 2**64 - 1, 0xE0, 8), "a frame that declares 2^64 - 1 bytes")
    frame("decodes-to-less", zstd_frame([zstd_block(0, b"hell", 1)], 5), "a frame that declares 5 bytes, as stated, and holds 4")
    frame("decodes-to-more", zstd_frame([zstd_block(0, b"hello!", 1)], 5), "a frame that declares 5 bytes, as stated, and holds 6")
    frame("bomb", zstd_frame([zstd_block(1, b"h", int(i == 63), 131072) for i in range(64)], 5), "8 MiB of runs in a frame that declares 5 bytes")
    frame("dictionary", zstd_frame([block], 5, 0xA1, 4, b"\x07"), "a frame with a dictionary")
    frame("two-frames", good + good, "two frames", b"hello" * 2)
    frame("trailing-byte", good + b"\0", "a byte after the frame")
    frame("trailing-skippable", good + struct.pack("<II", 0x184D2A50, 0), "a skippable frame after the frame")
    frame("skippable", struct.pack("<II", 0x184D2A50, 5) + b"hello", "a skippable frame alone")
    frame("magic", b"\0" + good[1:], "no zstd frame")
    frame("raw-bytes", b"hello", "no zstd frame, the bytes themselves")
    frame("cut", good[:-1], "a frame cut short")
    frame("no-last-block", zstd_frame([zstd_block(0, b"hello", 0)], 5), "a frame without last block")
    frame("reserved-block", zstd_frame([zstd_block(3, b"hello", 1)], 5), "a block of the reserved type")
    frame("reserved-bit", zstd_frame([block], 5, 0xA8), "the reserved bit of the frame header")


def payload_vectors(kit):
    edit = kit.edit
    for base, why in (("base-t2", "data"), ("base-i8", "data"), ("base-nm-6b", "data")):
        e = edit(base)
        for name, at in (("first", e.get(0, "data_bytes")), ("last", up(e.get(0, "data_bytes"), 256) - 1)):
            kit.add(f"padding-{name}-{base[5:]}", "R071", base, edit(base).data(0, at, b"\1").sealed(), f"a padding byte between {why} and scales is 1")
        _, end = e.extent(0)
        kit.add(f"padding-after-{base[5:]}", "R071", base, edit(base).put(end, 1, 1).bytes, "a padding byte between two extents is 1")
    for base in ("base-t2", "base-t5", "base-nm-6b", "base-nm-vi", "base-windows", "base-i8"):
        e = edit(base)
        start, end = e.extent(0)
        kit.add(f"flipped-data-{base[5:]}", "R072", base, edit(base).put(start, e.bytes[start] ^ 1, 1).bytes, "one bit of a tensor's data differs",
                kind="integrity")
        kit.add(f"flipped-scale-{base[5:]}", "R072", base, edit(base).put(end - 4, e.bytes[end - 4] ^ 1, 1).bytes, "one bit of a scale differs",
                kind="integrity")
    kit.add("stored-digest", "R072", "base-t2", edit("base-t2").record(0, stored_digest=bytes(32)).sealed(), "stored_digest is zero", kind="integrity")
    for name, text in (("zero", "00000000"), ("minus-zero", "00000080"), ("negative", "000080bf"), ("nan", "0000c07f"), ("signalling-nan", "0100807f"),
                       ("infinity", "0000807f"), ("minus-infinity", "000080ff"), ("above-10000", "01401c46"), ("largest", "ffff7f7f"),
                       ("minus-subnormal", "01000080")):
        for base in ("base-t2", "base-i8"):
            kit.add(f"scale-{name}-{base[5:]}", "R073", base, edit(base).scale(0, 1, bits_of(text)).sealed(), f"a scale has the bits {text}, little-endian")
    for index, tensor, bad in ((0, "f32", ("0000c07f", "0100807f", "0000807f", "000080ff", "ffffffff")), (1, "f16", ("007e", "017c", "007c", "00fc", "ffff")),
                               (2, "bf16", ("c07f", "817f", "807f", "80ff", "ffff"))):
        for text in bad:
            e = edit("dense-types")
            last = e.get(index, "data_bytes") - len(text) // 2
            kit.add(f"{tensor}-{text}", "R074", "dense-types", e.data(index, last, bits_of(text), both=True).sealed(),
                    f"an {tensor} value has the bits {text}, little-endian")
    for at in (0, 5):
        kit.add(f"i8-minus-128-at-{at}", "R075", "base-i8", edit("base-i8").data(0, at, b"\x80").sealed(), "an i8 value is -128")
    for base in ("base-t2", "base-t5", "base-nm-6b", "base-nm-vi", "base-windows", "base-i8"):
        kit.add(f"content-{base[5:]}", "R076", base, edit(base).record(0, content_digest=bytes(32)).sealed(), "content_digest is another's", deep=True,
                kind="integrity")
    for base in ("base-t2", "base-t5", "base-nm-6b", "base-nm-vi", "base-windows"):
        value = edit(base).get(0, "non_zero")
        for other in (value - 1, value + 1, 0):
            kit.add(f"non-zero-{other}-{base[5:]}", "R076", base, edit(base).record(0, non_zero=other).sealed(), f"non_zero is {other}, not {value}",
                    deep=True, kind="integrity")
    for base, encoding, matrix, n, m in (
            ("base-t2-2of4", T2, [[0] * 8, [0] * 4 + [1, -1, 1, 0], [0] * 8], 2, 4), ("base-t2-2of4", T2, [[0] * 8, [0] * 8, [1] * 8], 2, 4),
            ("base-t2-2of4", T2, [[1, 1, 0, 0, 0, 0, 0, 0]], 1, 4), ("base-t5-6of8", T5, [[0] * 8 + [1, -1, 1, 0, 1, -1, 1, 1]], 6, 8),
            ("base-t5-6of8", T5, [[1] * 15 + [0]], 14, 15), ("base-t2-2of4", T2, [[1] * 16], 15, 16), ("base-t2-2of4", T2, [[1, 1]], 1, 2)):
        bad = Layout([ternary("w", [row[:len(row) // m * m] for row in matrix], encoding, n, m), ones("norm")]).build()
        kit.add(f"pattern-{n}of{m}-{'t2' if encoding == T2 else 't5'}-{sum(map(abs, sum(matrix, [])))}", "R077", base, bad, f"more than {n} non-zeros in a group of {m}", deep=True)


def encoding_vectors(kit):
    def data(name, rule, base, at, value, why, **fields):
        edit = kit.edit(base)
        kit.add(name, rule, base, edit.data(0, at, value).record(0, **fields).sealed(), why)

    def byte(base, at):
        edit = kit.edit(base)
        return edit.bytes[edit.extent(0)[0] + at]

    for i in range(4):
        data(f"t2-code-3-at-{i}", "R080", "base-t2", 2, bytes([byte("base-t2", 2) | 3 << 2 * i]), f"code 3 in column {i}")
    data("t2-code-3-last", "R080", "base-t2", 5, bytes([byte("base-t2", 5) | 3]), "code 3 in the last byte")
    data("t2-all-3", "R080", "base-t2", 0, b"\xff" * 6, "every code is 3")
    data("t2-code-3-padding", "R080", "base-t2", 5, bytes([byte("base-t2", 5) | 0xC0]), "code 3 beyond cols")
    for row in (0, 2):
        for code in (0, 2):
            at, rest = 2 * row + 1, byte("base-t2", 2 * row + 1)
            data(f"t2-padding-{row}-{code}", "R081", "base-t2", at, bytes([rest & 0x3F | code << 6]), f"code {code} beyond cols in row {row}")
    data("t2-padding-third", "R081", "base-t2", 1, bytes([byte("base-t2", 1) & 0xCF]), "code 0 beyond cols, in column 6")
    for value in (243, 244, 255):
        for at in (0, 5):
            data(f"t5-{value}-at-{at}", "R082", "base-t5", at, bytes([value]), f"the byte {value}")
    for row, digits in ((0, (0, 1, 1)), (1, (1, 1, 2)), (2, (2, 2, 2)), (2, (1, 0, 1))):
        value = byte("base-t5", 2 * row + 1) % 9 + sum(digit * 3**(2 + i) for i, digit in enumerate(digits))
        data(f"t5-padding-{row}-{''.join(map(str, digits))}", "R083", "base-t5", 2 * row + 1, bytes([value]), f"digits {digits} beyond cols in row {row}")
    for code in (33, 40, 62, 63):
        for group in (0, 2):
            row = int.from_bytes(bytes(byte("base-nm-6b", i) for i in range(3)), "little")
            row = row & ~(63 << 6 * group) | code << 6 * group
            data(f"nm-6b-code-{code}-at-{group}", "R084", "base-nm-6b", 0, row.to_bytes(3, "little"), f"the code {code} in group {group}")
    for code in (9, 32, 33):
        data(f"nm-6b-1of4-code-{code}", "R084", "base-nm-6b-1of4", 3, bytes([byte("base-nm-6b-1of4", 3) & 0xC0 | code]), f"the code {code} with 1:4")
    for bit in range(2, 8):
        data(f"nm-6b-bit-{bit}", "R085", "base-nm-6b", 5, bytes([byte("base-nm-6b", 5) | 1 << bit]), f"bit {bit} beyond the last group of row 1 is set")
    tile_vectors(kit, data, byte)
    window_vectors(kit)


def tile_vectors(kit, data, byte):
    """nm-vi tiles: lane l has V0, M0, V1, M1 at 16 l. The matrix has 3 rows and 12 columns: groups 0 to 2 of rows 0 to 2."""
    for base in ("base-nm-vi", "base-windows"):
        for code in range(9, 16):
            data(f"{base[5:]}-pair-code-{code}", "R086", base, 0, bytes([byte(base, 0) & 0xF0 | code]), f"the pair code {code}")
    for name, at in (("last-lane", 16 * 31 + 11), ("second-half", 8), ("lane-5", 16 * 5 + 3)):
        data(f"nm-vi-pair-code-{name}", "R086", "base-nm-vi", at, bytes([byte("base-nm-vi", at) | 0xF0]), f"the pair code 15 in {name}")
    for nibble in (0, 1, 2, 3, 5, 6, 7, 10, 11, 15):
        for base in ("base-nm-vi", "base-windows"):
            data(f"{base[5:]}-nibble-{nibble}", "R087", base, 4, bytes([byte(base, 4) & 0xF0 | nibble]), f"the index nibble {nibble}")
    for name, at in (("last-lane", 16 * 31 + 15), ("second-half", 12), ("lane-9", 16 * 9 + 5)):
        data(f"nm-vi-nibble-{name}", "R087", "base-nm-vi", at, bytes([byte("base-nm-vi", at) & 0x0F]), f"the index nibble 0 in {name}")

    def first_group(group, lower=(0, 0)):
        """The first bytes of lane 0: V0 with the slots of group 0 of rows 0 and 8, and M0, whose first nibble is row 0's."""
        pair_codes = [(1, 1), (1, 0), (0, 1), (1, -1), (-1, 1), (-1, 0), (0, -1), (-1, -1), (0, 0)]
        i0, i1, v0, v1 = group
        return bytes([pair_codes.index((v0, lower[0])) | pair_codes.index((v1, lower[1])) << 4]), i0 + 4 * i1

    def group(name, base, group_, why, rule="R088"):
        values, nibble = first_group(group_)
        edit = kit.edit(base).data(0, 0, values)
        at = edit.extent(0)[0] + 4
        kit.add(name, rule, base, edit.data(0, 4, bytes([edit.bytes[at] & 0xF0 | nibble])).sealed(), why)

    for i0, i1 in ((0, 2), (0, 3), (1, 2), (1, 3), (2, 3)):
        group(f"nm-vi-empty-pair-{i0}{i1}", "base-nm-vi", (i0, i1, 0, 0), f"an empty group has the pair ({i0},{i1})")
    for i0, i1, v0, v1 in ((0, 2, 1, 0), (0, 3, -1, 0), (1, 2, 1, 0), (1, 3, 1, 0), (2, 3, 1, 0), (1, 2, 0, 1), (1, 3, 0, -1), (2, 3, 0, 1)):
        group(f"nm-vi-pair-{i0}{i1}-{v0}-{v1}", "base-nm-vi", (i0, i1, v0, v1), f"the pair ({i0},{i1}) with values {v0}, {v1} is not the smallest")
    group("windows-pair-23-0-1", "base-windows", (2, 3, 0, 1), "a pair of a window is not the smallest")
    for i0, i1 in ((0, 1), (1, 3), (2, 3)):
        group(f"nm-vi-1of4-two-{i0}{i1}", "base-nm-vi-1of4", (i0, i1, 1, -1), "two non-zeros in a group of 1:4")
    # Row 3 of the tile is lane 12, row 11 the other half of the pair codes in lane 12 and nibbles of lane 13; group 3 of row 0 is in lane 1 and 0.
    data("nm-vi-value-in-row-3", "R089", "base-nm-vi", 16 * 12, b"\x81", "a non-zero in row 3 of 3 rows")
    data("nm-vi-value-in-row-11", "R089", "base-nm-vi", 16 * 12, b"\x82", "a non-zero in row 11 of 3 rows")
    data("nm-vi-value-in-group-3", "R089", "base-nm-vi", 16 * 1 + 1, b"\x81", "a non-zero in group 3 of 3 groups")
    data("nm-vi-value-in-second-half", "R089", "base-nm-vi", 8, b"\x81", "a non-zero in column 64 of 12 columns")
    data("windows-value-outside", "R089", "base-windows", 16 * 12, b"\x81", "a non-zero in row 3 of one row, order windows")
    # A 1:4 matrix has no business with rows or columns outside either.
    data("nm-vi-1of4-value-in-row-3", "R089", "base-nm-vi-1of4", 16 * 12, b"\x81", "a non-zero in row 3 of 3 rows, pattern 1:4")


def window_vectors(kit):
    def expanded(name, wide, matrix, why, m=8):
        tensor = ternary("w", matrix, NM_VI, m - 2, m, WINDOWS)
        bad = ternary("w", wide, NM_VI, 2, 4)
        content = bytes(trit & 0xFF for row in matrix for trit in row)
        tensor = Tensor("w", (len(matrix), len(matrix[0])), NM_VI, bad.data, [0.5] * len(matrix), content, role=LINEAR, order=WINDOWS, n=m - 2, m=m,
                        group_axis=1, non_zero=sum(trit != 0 for row in matrix for trit in row))
        kit.add(name, "R090", "base-windows", Layout([tensor, ones("norm")]).build(), why)

    late = [[0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]]
    expanded("window-late", late, [[0, 0, 1, 0, 0, 0, 0, 0]], "a non-zero of column 2 in window 1, where window 0 has room")
    expanded("window-late-second", [[1, 0, 0, 0, 0, -1, 0, 0, 0, 0, 0, 0]], [[1, 0, 0, -1, 0, 0, 0, 0]], "window 0 holds one, and column 3 is in window 1")
    expanded("window-late-third", [[0] * 8 + [0, 1, 0, 0]], [[0, 0, 0, 0, 0, 1, 0, 0]], "a non-zero of column 5 in window 2, where window 1 has room")
    expanded("window-twice", [[1, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0]], [[1, 0, 1, 0, 0, 0, 0, 0]], "column 2 is in window 0 and in window 1")
    expanded("window-twice-signs", [[1, 0, 1, 0, -1, 0, 0, 0, 0, 0, 0, 0]], [[1, 0, 0, 0, 0, 0, 0, 0]], "column 2 is 1 in window 0 and -1 in window 1")
    expanded("window-wrong-one", [[1, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0]], [[1, 0, 1, 1, 0, 0, 0, 0]], "window 0 took column 3 and left column 2")
    expanded("window-second-row", [[0] * 12, *late], [[0] * 8, [0, 0, 1, 0, 0, 0, 0, 0]], "a late non-zero in the second row")
    expanded("window-second-block", [[0] * 12 + late[0]], [[0] * 8 + [0, 0, 1, 0, 0, 0, 0, 0]], "a late non-zero in the second block")
    expanded("window-4of6", [[0, 0, 0, 0, 0, 1, 0, 0]], [[0, 0, 0, 1, 0, 0]], "a late non-zero with 4:6", 6)
    wide = [0] * 28
    wide[24] = 1
    expanded("window-14of16", [wide], [[0] * 12 + [1, 0, 0, 0]], "a late non-zero in the last window of 14:16", 16)


def packed_vectors(kit):
    def reseal(data, **fields):
        data = bytearray(data)
        for field, value in fields.items():
            at, size = PACKED_FIELDS[field]
            data[at:at + size] = value if isinstance(value, bytes) else value.to_bytes(size, "little")
        count = int.from_bytes(data[32:36], "little")
        end = 128 + 40 * count
        if end <= len(data):
            data[96:128] = blake3(data[:96] + bytes(32) + data[128:end])
        return bytes(data)

    def entry(data, index, stored=None, codec=None, digest=None):
        data = bytearray(data)
        for at, value, size in ((0, stored, 4), (4, codec, 4), (8, digest, 32)):
            if value is not None:
                start = 128 + 40 * index + at
                data[start:start + size] = value if isinstance(value, bytes) else value.to_bytes(size, "little")
        return reseal(data)

    def add(name, rule, data, why, kind=None, base="packed-raw"):
        kit.add(f"packed-{name}", rule, base, data, why, kind=kind)

    layout, whole = kit.packed_valid["packed-raw"]
    inner = layout.build()
    zstd = kit.packed_valid["packed-zstd"][1]
    add("cut-8", "R100", whole[:8], "the magic alone")
    add("cut-127", "R100", whole[:127], "one byte short of a prefix")
    for value in (0, 2, 65535):
        add(f"major-{value}", "R100", reseal(whole, major=value), f"major is {value}")
    for value in (0, 1, 4194303, 8388608, 2**32 - 1):
        add(f"chunk-bytes-{value}", "R101", reseal(whole, chunk_bytes=value), f"chunk_bytes is {value}")
    add("reserved-word", "R101", reseal(whole, reserved1=1), "a reserved word is 1")
    add("reserved-bytes", "R101", reseal(whole, reserved2=bytes(23) + b"\1"), "the last reserved byte is 1")
    for value in BOUNDARIES + (len(whole) - 1, len(whole) + 1):
        add(f"file-bytes-{value}", "R101", reseal(whole, file_bytes=value), f"file_bytes is {value}")
    for value in (0, 1, 95, 2**31, 2**42, 2**42 + 1, 2**63, 2**64 - 1):
        add(f"raw-bytes-{value}", "R101", reseal(whole, raw_bytes=value), f"raw_bytes is {value}")
    ratio = 1024 * len(whole)
    add("ratio-bomb", "R101", reseal(whole, raw_bytes=ratio + 1), "raw_bytes is one more than 1024 times the file's length")
    for value in (0, 2, 2**31, 2**32 - 1):
        add(f"chunk-count-{value}", "R101", reseal(whole, chunk_count=value), f"chunk_count is {value}, not 1")
    add("truncated", "R101", whole[:-1], "the last byte is missing")
    add("trailing-byte", "R101", whole + b"\0", "a byte follows the last chunk")
    cut = reseal(whole, file_bytes=128, raw_bytes=4096)[:128]
    add("table-beyond-file", "R102", cut, "the file ends before its chunk table")
    cut = reseal(whole, file_bytes=167, raw_bytes=4096)[:167]
    add("table-cut", "R102", cut, "the file ends within its chunk table")
    for name, at in (("digest", 96), ("root", 64), ("minor", 10), ("table", 130)):
        flipped = bytearray(whole)
        flipped[at] ^= 1
        add(f"flipped-{name}", "R102", flipped, f"one bit of {name} differs", "integrity")
    for value in (2, 3, 2**32 - 1):
        add(f"codec-{value}", "R103", entry(whole, 0, codec=value), f"the codec of a chunk is {value}")
    for value in (0, 1, len(inner) - 1, len(inner) + 1, 4194304, 2**32 - 1):
        add(f"stored-{value}", "R103", entry(whole, 0, stored=value), f"a raw chunk of {len(inner)} bytes has {value} stored ones")
    add("stored-zstd-0", "R103", entry(zstd, 0, stored=0), "a zstd chunk of no bytes", base="packed-zstd")
    for name, delta in (("less", -1), ("more", 1)):
        stored = int.from_bytes(zstd[128:132], "little") + delta
        add(f"stored-zstd-{name}", "R103", entry(zstd, 0, stored=stored), "the chunks end elsewhere than the file", base="packed-zstd")
    expanding = packed(inner, [1], [zstd_raw(inner)])
    add("stored-expands", "R103", expanding, "a zstd chunk has more stored bytes than decoded ones")
    add("trailing-byte-sealed", "R103", reseal(whole + b"\0", file_bytes=len(whole) + 1), "a byte follows the last chunk, counted by file_bytes")
    for base, data in (("packed-raw", whole), ("packed-zstd", zstd)):
        flipped = bytearray(data)
        flipped[-1] ^= 1
        add(f"chunk-flipped-{base[7:]}", "R104", flipped, "one bit of a chunk differs", "integrity", base)
    add("chunk-digest", "R104", entry(whole, 0, digest=bytes(32)), "the digest of a chunk is zero", "integrity")

    runs = zstd_runs(inner)
    body = runs[9:]

    def frame(name, stored, why):
        add(f"zstd-{name}", "R105", packed(inner, [1], [stored]), why, base="packed-zstd")

    frame("no-size", zstd_frame([body], 0, 0x00, 0, b"\x38"), "a chunk's frame does not declare its content size")
    frame("size-less", zstd_frame([body], len(inner) - 1), "a chunk's frame declares a byte less")
    frame("size-more", zstd_frame([body], len(inner) + 1), "a chunk's frame declares a byte more")
    frame("size-huge", zstd_frame([body], 2**64 - 1, 0xE0, 8), "a chunk's frame declares 2^64 - 1 bytes")
    frame("dictionary", zstd_frame([body], len(inner), 0xA1, 4, b"\x01"), "a chunk's frame has a dictionary")
    frame("trailing", runs + b"\0", "a byte follows a chunk's frame")
    frame("two-frames", runs + runs, "a chunk of two frames")
    frame("magic", b"\0" + runs[1:], "a chunk is no zstd frame")
    frame("decodes-to-less", zstd_frame([zstd_block(1, b"\0", 1, 128)], len(inner)), "a chunk's frame decodes to less than it declares")
    frame("bomb", zstd_frame([zstd_block(1, b"\0", int(i == 31), 131072) for i in range(32)], len(inner)), "a chunk's frame decodes to 4 MiB, not as declared")

    broken = Edit(layout).entry(PAYLOAD, reserved=1).sealed()
    add("inner-reserved", "R106", packed(bytes(broken), [0]), "the unpacked file breaks SBNC-R027")
    broken = Edit(layout).record(0, role=9).sealed()
    add("inner-role", "R106", packed(bytes(broken), [0]), "the unpacked file breaks SBNC-R041")
    broken = Edit(layout).in_section(NAMES, 0, b" ").sealed()
    add("inner-name", "R106", packed(bytes(broken), [0]), "the unpacked file breaks SBNC-R061")
    add("inner-magic", "R106", packed(b"\0" + inner[1:], [0]), "the unpacked file has no magic")
    add("inner-packed", "R106", packed(whole, [0], root=bytes(32)), "the unpacked file is packed")
    add("root", "R106", packed(inner, [0], root=bytes(32)), "root is not the unpacked file's", "integrity")
    add("root-of-another", "R106", packed(inner, [0], root=kit.valid["model"].build()[64:96]), "root is another file's", "integrity")


# ------------------------------------------------------------------------------------------------------------------------------ the worked file

def worked_dump(layout):
    """worked.sbnc, every byte with its meaning."""
    data = layout.build()
    lines = ["worked.sbnc, byte by byte. Columns: offset, bytes, meaning. Runs of zeros are one line.", ""]
    done = 0

    def line(at, size, meaning):
        nonlocal done
        assert at == done, (at, done)
        raw = data[at:at + size]
        if size > 32 and not any(raw):
            lines.append(f"{at:06x}  00 x {size:<44}  {meaning}")
        else:
            for i in range(0, size, 16):
                lines.append(f"{at + i:06x}  {raw[i:i + 16].hex(' '):<47}  {meaning if i == 0 else ''}".rstrip())
        done = at + size

    def fields(start, table, name):
        for field, (at, size) in table.items():
            value = int.from_bytes(data[start + at:start + at + size], "little")
            line(start + at, size, f"{name}{field}" + (f" = {value}" if size <= 8 and field != "magic" else ""))

    fields(0, PREFIX_FIELDS, "")
    names = {TENSORS: "TENSORS", NAMES: "NAMES", MANIFEST: "MANIFEST", FILES: "FILES", PAYLOAD: "PAYLOAD"}
    for i, kind in enumerate(layout.sections):
        fields(96 + 64 * i, ENTRY_FIELDS, f"{names[kind]}: ")
    for kind, (offset, size) in layout.sections.items():
        line(done, offset - done, f"padding to {names[kind]}")
        if kind == TENSORS:
            for i, t in enumerate(layout.tensors):
                fields(offset + 160 * i, RECORD_FIELDS, f"{t.name}: ")
        elif kind == NAMES:
            for t in layout.tensors:
                line(done, len(t.name), f"the name {t.name}")
        elif kind == PAYLOAD:
            for t in layout.tensors:
                if (done - offset) % 256:
                    line(done, -(done - offset) % 256, "padding between extents")
                end = done + t.fields["stored_bytes"]
                line(done, t.fields["data_bytes"], f"{t.name}: data" + (f", trits {t.matrix}" if t.matrix else ""))
                if t.fields["scale_count"]:
                    line(done, end - done - 4 * t.fields["scale_count"], f"{t.name}: padding to the scales")
                    for row in range(t.fields["scale_count"]):
                        line(done, 4, f"{t.name}: scale of row {row} = {struct.unpack_from('<f', data, done)[0]}")
        else:
            line(done, size, "the manifest: " + data[offset:offset + size].decode() if kind == MANIFEST else "note.txt: 'hello\\n'")
    assert done == len(data)
    return "\n".join(lines) + "\n"


# ---------------------------------------------------------------------------------------------------------------------------------- the kit

def json_bytes(value):
    return (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=True) + "\n").encode()


def invalid_json(index):
    """One vector a line."""
    return ("{\n" + ",\n".join(f'"{name}": {json.dumps(vector)}' for name, vector in index.items()) + "\n}\n").encode()


def kit():
    """Every file of the kit: {path: bytes}."""
    valid = valid_files()
    packed_valid = packed_files(valid)
    files = {}
    for name, layout in valid.items():
        files[f"valid/{name}.sbnc"] = layout.build()
        files[f"valid/{name}.json"] = json_bytes(layout.expected())
    for name, (layout, data) in packed_valid.items():
        files[f"valid/{name}.sbncz"] = data
        files[f"valid/{name}.json"] = json_bytes({**layout.expected(), "packed": True})
    files["valid/worked.txt"] = worked_dump(valid["worked"]).encode()
    vectors = Kit(valid, packed_valid)
    for family in (prefix_vectors, section_vectors, record_vectors, name_vectors, manifest_vectors, carried_vectors, payload_vectors, encoding_vectors,
                   packed_vectors):
        family(vectors)
    files["invalid.json"] = invalid_json(vectors.index())
    return files


def main():
    parser = argparse.ArgumentParser(description="Write the conformance kit beside this file.")
    parser.add_argument("--check", action="store_true", help="only say whether the kit is up to date")
    check = parser.parse_args().check
    wanted = kit()
    present = {os.path.join("valid", name) for name in os.listdir(os.path.join(HERE, "valid"))} if os.path.isdir(os.path.join(HERE, "valid")) else set()
    present |= {name for name in ("invalid.json",) if os.path.exists(os.path.join(HERE, name))}
    stale = sorted(present - wanted.keys())
    for path, data in wanted.items():
        target = os.path.join(HERE, path)
        if path in present and open(target, "rb").read() == data:
            continue
        stale.append(path)
        if not check:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with open(target, "wb") as out:
                out.write(data)
    for path in stale:
        print(f"{path}: {'not up to date' if check else 'removed' if path not in wanted else 'written'}", file=sys.stderr)
        if not check and path not in wanted:
            os.unlink(os.path.join(HERE, path))
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
