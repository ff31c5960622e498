#!/usr/bin/env python3
"""The steps of compiling in numpy: an independent implementation to compare with, and the rival to beat.

    python3 quantise.py LATENTS.safetensors [--nm N:M] [-o TRITS.safetensors]
    python3 quantise.py LATENTS.safetensors [--nm N:M] --compare EXPORTED.safetensors   # what `sbnc export --trits` wrote
    python3 quantise.py LATENTS.safetensors [--nm N:M] --golden GOLDEN.safetensors      # NAME.partK.trits and NAME.partK.scale
    python3 quantise.py --time (LATENTS.safetensors | --synthetic ROWSxCOLS) [--nm N:M] [--threads T]

Of each linear weight: the scale is max(mean |W|, 1e-5) over a part, before masking; trits are clamp(round_half_even(W / scale), -1, 1); of every M
consecutive inputs the N largest |W| stay, the lower index between equals. Parts of fused matrices come from metadata.json beside the input.
Exit codes: 0 equal, 1 different, 2 usage.
"""

import argparse
import fnmatch
import hashlib
import json
import os
import struct
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

LINEAR = ("_proj.weight", "wqkv.weight", "wo.weight", "w13.weight", "w2.weight", "wq.weight", "wk.weight", "wv.weight", "w1.weight", "w3.weight")
CHUNK = 1 << 18  # elements at a time: what the caches hold
DTYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "I8": "|i1", "U8": "|u1"}


def read_safetensors(path):
    """Every tensor as a (dtype, array) view of the mapped file; bf16 as its bits."""
    data = np.memmap(path, np.uint8, "r")
    length = struct.unpack("<Q", data[:8].tobytes())[0]
    header = json.loads(data[8 : 8 + length].tobytes())
    header.pop("__metadata__", None)
    out = {}
    for name, entry in header.items():
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        array = np.frombuffer(data[begin:end].data, DTYPES[entry["dtype"]])
        out[name] = entry["dtype"], array.reshape(entry["shape"])
    return out


def write_safetensors(path, tensors):
    header, offset = {}, 0
    for name, array in tensors.items():
        dtype = {"i1": "I8", "f4": "F32"}[array.dtype.str[1:]]
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for array in tensors.values():
            out.write(array.tobytes())


class Latent:
    """A matrix of latent weights. Only chunks are widened to f32; the order of magnitudes is that of the bits without the sign."""

    def __init__(self, dtype, array):
        self.dtype, self.array, self.shape = dtype, array, array.shape

    def values(self, rows):
        part = self.array[rows]
        if self.dtype == "BF16":
            return (part.astype(np.uint32) << 16).view(np.float32)
        return part.astype(np.float32, copy=False)

    def order(self, rows):
        part = self.array[rows]
        if self.dtype == "F32":
            return part.view(np.uint32) & np.uint32(0x7FFFFFFF)
        return part.view(np.uint16) & np.uint16(0x7FFF)

    def chunks(self, start, end):
        step = max(1, CHUNK // self.shape[1])
        return [slice(at, min(at + step, end)) for at in range(start, end, step)]


def keep(order, n, m):
    """Whether each element is among the N of its group. Small groups: its rank by pairwise comparisons, on one contiguous row for each place in the
    group. Large ones: keys that tell equals apart by their place, sorted. Each is the fastest of the ways that were tried for its sizes."""
    if m > 8:
        wide = np.uint64 if order.itemsize == 4 else np.uint32
        keys = (order.reshape(-1, m).astype(wide) << wide(4)) | (wide(15) - np.arange(m, dtype=wide))
        return (keys >= np.sort(keys, axis=1)[:, m - n, None]).reshape(order.shape)
    places = np.ascontiguousarray(order.reshape(-1, m).T)
    rank = np.zeros(places.shape, np.uint8)
    for i in range(m):
        for j in range(i + 1, m):
            first = places[i] >= places[j]
            rank[j] += first
            rank[i] += ~first
    return np.ascontiguousarray((rank < n).T).reshape(order.shape)


def ternarise(latent, rows, inverse, nm):
    """The trits of a chunk."""
    scaled = latent.values(rows) * inverse
    # Half to even makes a zero of ±0.5, so this is round and clamp.
    trits = (scaled > 0.5).view(np.int8) - (scaled < -0.5).view(np.int8)
    if nm:
        trits *= keep(latent.order(rows), *nm).view(np.int8)
    return trits


def counts(flags, m):
    """How many of every M flags are set; a multiplication adds the bytes of a word."""
    if m in (2, 4, 8):
        word = np.dtype("<u%d" % m).type
        return (flags.view(word) * word(0x0101010101010101 & ((1 << 8 * m) - 1))) >> word(8 * m - 8)
    return flags.reshape(-1, m).sum(axis=1, dtype=np.uint8)


def quantise(latent, parts, nm, pool=None):
    """(trits, scale of each row)."""
    run = pool.map if pool else map
    rows, cols = latent.shape
    if sum(parts) != rows:
        sys.exit("parts %r do not make %d rows" % (parts, rows))
    if nm and cols % nm[1]:
        sys.exit("%d inputs are not a multiple of %d" % (cols, nm[1]))
    trits, scales, start = np.empty((rows, cols), np.int8), np.empty(rows, np.float32), 0
    for count in parts:
        end = start + count
        sums = list(run(lambda at: np.abs(latent.values(at)).sum(dtype=np.float64), latent.chunks(start, end)))
        total = float(np.sum(sums))
        if not np.isfinite(total):
            sys.exit("a weight is NaN or infinite")
        scale = max(np.float32(total / (count * cols)), np.float32(1e-5))
        inverse = np.float32(1) / scale

        def fill(at, inverse=inverse):
            trits[at] = ternarise(latent, at, inverse, nm)

        list(run(fill, latent.chunks(start, end)))
        scales[start:end] = scale
        start = end
    return trits, scales


def pack_and_check(trits, nm):
    """Four trits to a byte, after counting the non-zeros of every group."""
    flat = trits.reshape(-1)
    if nm:
        if (counts(flat != 0, nm[1]) > nm[0]).any():
            sys.exit("a group breaks the pattern")
    codes = (flat[: flat.size // 4 * 4] + np.int8(1)).view(np.uint8).reshape(-1, 4)
    words = codes.view("<u4")[:, 0] * np.uint32(0x01041040)  # the four codes meet in the top byte
    return (words >> np.uint32(24)).astype(np.uint8)


def digest():
    try:
        import blake3

        return blake3.blake3()
    except ImportError:
        return hashlib.blake2b()


def parts_of(name, shape, args):
    """Rows of each part that has a scale of its own."""
    if args and name.endswith("wqkv.weight"):
        width = args["d_model"] // args["head"] * args["kv_head"]
        return [args["d_model"], width, width]
    if args and name.endswith("w13.weight"):
        return [args["d_ffn"]] * 2
    return [shape[0]]


def linears(path, include):
    """{name: (Latent, parts)}, and the pattern that the trainer declares."""
    beside = os.path.join(os.path.dirname(os.path.abspath(path)), "metadata.json")
    args = json.load(open(beside))["modelargs"] if os.path.exists(beside) else None
    declared = (args["sparse_n"], args["sparse_m"]) if args and args["use_weight_semi_sparse"] else None
    out = {}
    for name, (dtype, array) in read_safetensors(path).items():
        chosen = any(fnmatch.fnmatchcase(name, glob) for glob in include) if include else name.endswith(LINEAR)
        if chosen and array.ndim == 2 and dtype in ("F32", "F16", "BF16"):
            out[name] = Latent(dtype, array), parts_of(name, array.shape, args)
    return out, declared


def difference(name, ours, theirs):
    """A line about two arrays, or nothing."""
    if theirs is None:
        return "%s: missing" % name
    if ours.dtype != theirs.dtype or ours.size != theirs.size or (ours.ndim == 2 and ours.shape != theirs.shape):
        return "%s: expected %s %s, found %s %s" % (name, ours.dtype, ours.shape, theirs.dtype, theirs.shape)
    wrong = np.flatnonzero(ours.reshape(-1) != theirs.reshape(-1))
    if wrong.size:
        at = np.unravel_index(wrong[0], ours.shape)
        first = [int(i) for i in at], ours[at], theirs.reshape(ours.shape)[at]
        return "%s: %d of %d differ, first at %s: expected %s, found %s" % (name, wrong.size, ours.size, *first)
    return None


def compare(results, path):
    theirs = {name: array for name, (_, array) in read_safetensors(path).items()}
    pairs = [(name, trits) for name, (trits, _) in results.items()]
    pairs += [(name + ".scale", scales) for name, (_, scales) in results.items()]
    return [line for name, ours in pairs for line in [difference(name, ours, theirs.get(name))] if line]


def compare_golden(results, weights, path):
    """Golden scales come from a sum in f32, so they may differ in the last places."""
    theirs = {name: array for name, (_, array) in read_safetensors(path).items()}
    lines, used = [], set()
    for name, (trits, scales) in results.items():
        start = 0
        for k, count in enumerate(weights[name][1]):
            part = "%s.part%d" % (name, k)
            used |= {part + ".trits", part + ".scale"}
            lines.append(difference(part + ".trits", trits[start : start + count], theirs.get(part + ".trits")))
            golden = theirs.get(part + ".scale")
            if golden is None or not np.allclose(golden, scales[start], rtol=1e-6, atol=0):
                lines.append("%s.scale: expected %s, found %s" % (part, scales[start], golden))
            start += count
    lines += ["%s: not computed" % name for name in theirs if name not in used]
    return [line for line in lines if line]


def measure(weights, nm, threads):
    """GB/s of input through every step: quantise, mask, check, pack, digest. Best of three."""
    size = sum(latent.array.nbytes for latent, _ in weights.values())
    best = float("inf")
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(3):
            begin = time.perf_counter()
            for latent, parts in weights.values():
                trits, scales = quantise(latent, parts, nm, pool if threads > 1 else None)
                hasher = digest()
                hasher.update(pack_and_check(trits, nm))
                hasher.update(scales.view(np.uint8))
                hasher.digest()
            best = min(best, time.perf_counter() - begin)
    name = "none" if nm is None else "%d:%d" % nm
    figures = {"gb_per_s": round(size / best / 1e9, 4), "bytes": size, "seconds": round(best, 4), "nm": name, "threads": threads}
    figures.update(digest=type(digest()).__name__, numpy=np.__version__)
    print(json.dumps(figures))


def synthetic(shape):
    rows, cols = map(int, shape.split("x"))
    values = np.random.default_rng(1).standard_normal((rows, cols), np.float32) * np.float32(0.02)
    return {"synthetic": (Latent("BF16", (values.view(np.uint32) >> 16).astype(np.uint16)), [rows])}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input", nargs="?")
    parser.add_argument("--nm", default="auto", help="N:M, none, or auto: what metadata.json declares")
    parser.add_argument("--include", action="append", default=[], metavar="GLOB", help="which tensors are linear weights, instead of the usual names")
    parser.add_argument("-o", "--output")
    parser.add_argument("--compare", metavar="FILE")
    parser.add_argument("--golden", metavar="FILE")
    parser.add_argument("--time", action="store_true")
    parser.add_argument("--synthetic", metavar="ROWSxCOLS")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    if (args.input is None) == (args.synthetic is None):
        parser.error("give an input file, or --synthetic")
    weights, nm = (synthetic(args.synthetic), None) if args.synthetic else linears(args.input, args.include)
    if args.nm != "auto":
        nm = None if args.nm == "none" else tuple(map(int, args.nm.split(":")))
    if args.time:
        return measure(weights, nm, args.threads)
    results = {name: quantise(latent, parts, nm) for name, (latent, parts) in weights.items()}
    if args.output:
        named = {name: trits for name, (trits, _) in results.items()}
        write_safetensors(args.output, {**named, **{name + ".scale": scales for name, (_, scales) in results.items()}})
    lines = compare(results, args.compare) if args.compare else []
    lines += compare_golden(results, weights, args.golden) if args.golden else []
    for line in lines:
        print(line)
    print("%d linear weights, %d differences" % (len(results), len(lines)), file=sys.stderr)
    return 1 if lines or not results else 0


if __name__ == "__main__":
    sys.exit(main())
