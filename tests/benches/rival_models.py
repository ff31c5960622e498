#!/usr/bin/env python3
"""Writes a GGUF model of the shape of BitNet b1.58 2B-4T with random weights, for timing other engines beside `sbnc bench`.

Usage: rival_models.py OUT.gguf LINEAR [HEAD]

LINEAR is tq1_0, tq2_0, q4_0, q8_0 or f16 (for llama.cpp), i2_s or tl2 (for bitnet.cpp); HEAD is q6_K (default) or f16. Needs numpy. The weights say nothing:
speed does not depend on them in these engines. Then, on two threads:

    llama-bench -m OUT.gguf -t 2 -p 128 -n 48
"""
import struct
import sys

import numpy as np

HIDDEN, LAYERS, FEED_FORWARD, VOCABULARY, HEADS, KV_HEADS = 2560, 30, 6912, 128256, 20, 5
KV = HIDDEN // HEADS * KV_HEADS
# name: (number in the file, weights of a block, bytes of a block); the two of bitnet.cpp have one scale a tensor and no blocks
TYPES = {
    "f32": (0, 1, 4),
    "f16": (1, 1, 2),
    "q4_0": (2, 32, 18),
    "q8_0": (8, 32, 34),
    "q6_K": (14, 256, 210),
    "tq1_0": (34, 256, 54),
    "tq2_0": (35, 256, 66),
    "i2_s": (36, None, None),
    "tl2": (39, None, None),
}
SCALE_AT = {"q4_0": 0, "q8_0": 0, "q6_K": 208, "tq1_0": 52, "tq2_0": 64}  # of a block, as f16
UINT32, FLOAT32, STRING = 4, 6, 8
random = np.random.default_rng(1)


def up(size, multiple):
    return -(-size // multiple) * multiple


def text(string):
    return struct.pack("<Q", len(string)) + string.encode()


def entry(key, kind, value):
    packed = {UINT32: lambda: struct.pack("<I", value), FLOAT32: lambda: struct.pack("<f", value), STRING: lambda: text(value)}
    return text(key) + struct.pack("<I", kind) + packed[kind]()


def size_of(shape, kind):
    weights = int(np.prod(shape))
    if kind == "i2_s":
        return weights // 4 + 32
    if kind == "tl2":  # three weights in five bits, the last 256 columns two in four
        return up((shape[0] - 256) * shape[1] // 3 * 5 // 8 + 256 * shape[1] // 4, 32) + 32
    _, per_block, block_bytes = TYPES[kind]
    return weights // per_block * block_bytes


def data_of(shape, kind):
    weights, size = int(np.prod(shape)), size_of(shape, kind)
    if kind == "f32":
        return np.ones(weights, "<f4").tobytes()
    if kind == "f16":
        return (random.integers(-50, 50, weights).astype("<f2") / 1000).tobytes()
    raw = random.integers(0, 256, size, dtype=np.uint8)
    if kind in ("i2_s", "tl2"):
        if kind == "i2_s":
            raw[:-32] &= 0x55  # codes 0 and 1
        raw[-32:] = np.full(8, 0.01, "<f4").view(np.uint8)
        return raw.tobytes()
    blocks = raw.reshape(-1, TYPES[kind][2])
    if kind == "tq2_0":  # code 3 does not occur
        codes = random.integers(0, 3, (len(blocks), 64, 4), dtype=np.uint8)
        blocks[:, :64] = codes[..., 0] | codes[..., 1] << 2 | codes[..., 2] << 4 | codes[..., 3] << 6
    scale = np.array([1e-4 if kind == "q6_K" else 0.01], "<f2").view(np.uint8)
    blocks[:, SCALE_AT[kind] : SCALE_AT[kind] + 2] = scale
    return blocks.tobytes()


def tensors(linear, head):
    yield "token_embd.weight", (HIDDEN, VOCABULARY), head
    yield "output_norm.weight", (HIDDEN,), "f32"
    for layer in range(LAYERS):
        for name, width in ("attn_norm", HIDDEN), ("attn_sub_norm", HIDDEN), ("ffn_norm", HIDDEN), ("ffn_sub_norm", FEED_FORWARD):
            yield f"blk.{layer}.{name}.weight", (width,), "f32"
        for name, shape in (
            ("attn_q", (HIDDEN, HIDDEN)),
            ("attn_k", (HIDDEN, KV)),
            ("attn_v", (HIDDEN, KV)),
            ("attn_output", (HIDDEN, HIDDEN)),
            ("ffn_gate", (HIDDEN, FEED_FORWARD)),
            ("ffn_up", (HIDDEN, FEED_FORWARD)),
            ("ffn_down", (FEED_FORWARD, HIDDEN)),
        ):
            yield f"blk.{layer}.{name}.weight", shape, linear


def metadata(architecture):
    yield entry("general.architecture", STRING, architecture)
    numbers = {
        "block_count": LAYERS,
        "context_length": 4096,
        "embedding_length": HIDDEN,
        "feed_forward_length": FEED_FORWARD,
        "attention.head_count": HEADS,
        "attention.head_count_kv": KV_HEADS,
        "rope.dimension_count": HIDDEN // HEADS,
        "vocab_size": VOCABULARY,
    }
    for key, value in numbers.items():
        yield entry(f"{architecture}.{key}", UINT32, value)
    yield entry(f"{architecture}.attention.layer_norm_rms_epsilon", FLOAT32, 1e-5)
    yield entry(f"{architecture}.rope.freq_base", FLOAT32, 500000.0)
    yield entry("tokenizer.ggml.model", STRING, "no_vocab")


def main():
    if len(sys.argv) not in (3, 4) or any(kind not in TYPES for kind in sys.argv[2:]):
        sys.exit(__doc__)
    out, linear, head = sys.argv[1], sys.argv[2], (sys.argv[3:] or ["q6_K"])[0]
    entries = list(metadata("bitnet-b1.58" if linear in ("i2_s", "tl2") else "bitnet"))
    planned = list(tensors(linear, head))
    header = b"GGUF" + struct.pack("<IQQ", 3, len(planned), len(entries)) + b"".join(entries)
    offset = 0
    for name, shape, kind in planned:
        dimensions = b"".join(struct.pack("<Q", dimension) for dimension in shape)
        header += text(name) + struct.pack("<I", len(shape)) + dimensions + struct.pack("<IQ", TYPES[kind][0], offset)
        offset += up(size_of(shape, kind), 32)
    with open(out, "wb") as file:
        file.write(header.ljust(up(len(header), 32), b"\0"))
        for _, shape, kind in planned:
            data = data_of(shape, kind)
            file.write(data.ljust(up(len(data), 32), b"\0"))


main()
