"""The valid files of the kit: `models()` gives name → Model, `packed()` name → (Model, its Image, the chunks)."""

import struct
import zlib

from build import CHUNK_BYTES, Model, Tensor, blake3, build
from encode import zstd_frame

PROVENANCE = {"compiler": "vectors 1", "kind": "none", "options": {}, "rules": {}, "sources": []}
WEIGHTS = {"files": [], "provenance": PROVENANCE}
PATTERNS = ((1, 4), (2, 4), (4, 6), (6, 8), (8, 10), (10, 12), (12, 14), (14, 16), (3, 8))


class Lcg:
    """Knuth's MMIX generator, so that the kit is the same on every machine."""

    def __init__(self, seed):
        self.state = zlib.crc32(seed.encode())

    def below(self, n):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (self.state >> 33) % n

    def bytes(self, n):
        return bytes(self.below(256) for _ in range(n))


def trits(seed, rows, cols, nm=(0, 0)):
    """Random trits, or random groups of 0 to N non-zeros."""
    rng, (n, m) = Lcg(seed), nm
    if not m:
        return [[rng.below(3) - 1 for _ in range(cols)] for _ in range(rows)]
    matrix = []
    for _ in range(rows):
        row = []
        for _ in range(cols // m):
            group, left = [0] * m, max(rng.below(n + 1), rng.below(n + 1))
            while left:
                p = rng.below(m)
                if not group[p]:
                    group[p], left = 1 - 2 * rng.below(2), left - 1
            row += group
        matrix.append(row)
    return matrix


def ternary(name, encoding, rows, cols, nm=(0, 0), order="rows", role="linear"):
    rng = Lcg("scales of " + name)
    scales = [(1 + rng.below(4095)) / 1024 for _ in range(rows)]
    return Tensor(name, role, encoding, (rows, cols), trits(name, rows, cols, nm), order, nm, scales)


def floats(name, encoding, shape, values, role="other"):
    pattern = {"f32": "f", "f16": "e"}.get(encoding)
    data = struct.pack(f"<{len(values)}{pattern}", *values) if pattern else b"".join(struct.pack("<f", v)[2:] for v in values)
    return Tensor(name, role, encoding, shape, data)


def norm(name, width):
    return floats(name, "f32", (width,), [1 + i / 64 for i in range(width)], "norm")


def weights(*tensors, **more):
    return Model(list(tensors), WEIGHTS, **more)


def shapes(encoding, nm, order="rows"):
    """One tensor of each awkward shape that the pattern allows."""
    tail = f"{encoding}.{order}.{nm[0]}of{nm[1]}"
    m = nm[1] or 1
    cols = [m * -(-c // m) for c in (4, 12, 260)]
    return weights(*[ternary(f"{tail}.{rows}x{c}", encoding, rows, c, nm, order) for rows, c in zip((1, 17, 33), cols)])


def every_pattern(encoding):
    return weights(*[ternary(f"{encoding}.{n}of{m}", encoding, 3, 3 * m, (n, m)) for n, m in PATTERNS])


def worked():
    rows = [[1, 0, 0, -1, 0, 1], [0, 0, -1, 0, 1, 1]]
    return weights(Tensor("w", "linear", "t2", (2, 6), rows, scales=[3.0, 0.5]), floats("norm", "f32", (2,), [1.0, 1.5], "norm"))


def float_tensors():
    tiny, most = 2.0**-149, struct.unpack("<f", bytes.fromhex("ffff7f7f"))[0]
    return weights(
        floats("f32.rank1", "f32", (5,), [0.0, -0.0, tiny, most, -most]),
        floats("f32.rank4", "f32", (1, 2, 1, 3), [0.5 * i for i in range(6)]),
        floats("f16.rank3", "f16", (2, 1, 3), [0.0, -0.0, 2.0**-24, 65504.0, -65504.0, 1.0]),
        floats("bf16.rank2", "bf16", (2, 3), [0.0, -0.0, 1.0, -2.0, 0.5, 3.0]),
        floats("one", "bf16", (1,), [1.0], "norm"),
    )


def i8_tensors():
    rng = Lcg("i8")
    table = [[rng.below(255) - 127 for _ in range(20)] for _ in range(7)]
    table[0][:3] = [127, -127, 0]
    return weights(Tensor("embed", "embedding", "i8", (7, 20), table, scales=[(i + 1) / 128 for i in range(7)]),
                   Tensor("head", "head", "i8", (1, 1), [[-1]], scales=[1.0]))


def scale_edges():
    zero = [[1, 0, -1, 0]] * 5
    edges = [3.0, 10000.0, 1.0, struct.pack("<I", 1), struct.pack("<I", 0x00800000)]
    return weights(Tensor("scales", "linear", "t2", (5, 4), zero, scales=edges))


def full_model():
    """A model of one layer with every role of `model.tensors` that its family has."""
    def linear(name, rows, cols):
        return ternary(name, "t2", rows, cols, (6, 8))
    layer = {"q": (16, 16), "k": (8, 16), "v": (8, 16), "o": (16, 16), "gate": (24, 16), "up": (24, 16), "down": (16, 24)}
    norms = {"attn_norm": 16, "attn_sub_norm": 16, "ffn_norm": 16, "ffn_sub_norm": 24}
    tensors = [floats("embed", "bf16", (12, 16), [i % 7 / 4 for i in range(192)], "embedding")]
    tensors += [linear(f"layers.0.{key}", *shape) for key, shape in layer.items()]
    tensors += [norm(f"layers.0.{key}", width) for key, width in norms.items()] + [norm("norm", 16)]
    graph = {"embed": "embed", "norm": "norm", **{key: "layers.{}." + key for key in (*layer, *norms)}}
    model = {
        "family": "sparse-bitnet", "layers": 1, "hidden": 16, "intermediate": 24, "heads": 2, "kv_heads": 1, "head_dim": 8, "vocab": 12,
        "context": 32, "activation": "relu2", "activation_bits": 8, "norm_eps": "1e-5", "tied": True, "window": 16, "tensors": graph,
        "rope": {"style": "half", "theta": "10000", "scaling": {"type": "linear", "factor": 2}}, "tokens": {"bos": 1, "eos": [2], "pad": 0},
    }
    return Model(tensors, {**WEIGHTS, "model": model, "provenance": PROVENANCE_FULL})


def unknown_family():
    """No runtime of version 1 runs it, and yet the file is valid."""
    model = full_model()
    return model.with_(manifest={**model.manifest, "model": {**model.manifest["model"], "family": "gpt2"}})


PROVENANCE_FULL = {
    "compiler": "vectors 1", "kind": "hf-latent", "options": {"nm": "6:8"}, "rules": {"scale": "absmean", "ties": "even"},
    "sources": [{"name": "model.safetensors", "bytes": 9007199254740992, "blake3": blake3(b"").hex()}],
}


def carried(files):
    """A model with (name, codec, stored, decoded) files."""
    entries = [{"name": name, "codec": codec, "stored": len(stored), "raw": len(raw), "blake3": blake3(raw).hex()} for name, codec, stored, raw in files]
    return Model([ternary("w", "t2", 2, 6)], {**WEIGHTS, "files": entries}, [stored for _, _, stored, _ in files if stored])


TEXT = b"{%- for m in messages %}" + b"-" * 200 + b"{{ m }}\n"


def manifest_edges():
    deep = []
    for _ in range(14):
        deep = [deep]
    odd = {"escapes": "\"\\\b\f\n\r\t\0\x1f\x7f/", "text": "\u00e9\u4e00\U0001f600", "": "", "\uffff": 1, "\U00010000": 2, "a": [], "A": {}}
    numbers = [0, -1, 2**53, -(2**53)]
    return Model([ternary("w", "t2", 2, 6)], {**WEIGHTS, "deep": deep, "odd": odd, "numbers": numbers, "flags": [True, False, None]})


def opaque():
    """An unknown encoding, whose pattern, axis and sizes mean something that this version does not know."""
    fields = {"role": 9, "encoding": 99, "order": 7, "order_version": 2, "n": 9, "m": 3, "group_axis": 2, "data_bytes": 1, "scale_count": 5,
              "non_zero": 77, "content_digest": b"\x11" * 32}
    return weights(Tensor("opaque", "other", "unknown", (3, 5), Lcg("opaque").bytes(37), fields=fields), norm("norm", 4), prefix={"inspect_only": 1 << 5})


def roles():
    table = [ternary(role, "t2", 1, 4, role=role) for role in ("linear", "embedding", "head", "other")]
    return weights(*table, norm("n" * 256, 1), ternary("!#[]^{|}~", "t5", 1, 1))


def models():
    found = {
        "worked": worked(), "t2-dense": shapes("t2", (0, 0)), "t2-patterns": every_pattern("t2"), "t5-dense": shapes("t5", (0, 0)),
        "t5-patterns": every_pattern("t5"), "floats": float_tensors(), "i8": i8_tensors(), "scale-edges": scale_edges(),
        "roles-and-names": roles(), "model": full_model(), "manifest-edges": manifest_edges(),
        "files": carried([("chat.txt", "zstd", zstd_frame(TEXT), TEXT), ("empty", "raw", b"", b""), ("tokenizer.json", "raw", b"{}", b"{}")]),
        "files-64": carried([(f"f{i:02}", "raw", b"", b"") for i in range(64)]),
        "file-empty-zstd": carried([("empty", "zstd", zstd_frame(b""), b"")]),
        "section-unknown": weights(ternary("w", "t2", 2, 6), extra=[(17, 0, b"later"), (4294967295, 0, b"last")]),
        "compatible-bits": weights(ternary("w", "t2", 2, 6), prefix={"compatible": 2**64 - 1}),
        "minor": weights(ternary("w", "t2", 2, 6), prefix={"minor": 65535}),
        "inspect-only": opaque(), "family-unknown": unknown_family(),
    }
    for nm in ((1, 4), (2, 4)):
        found[f"nm6b-{nm[0]}of{nm[1]}"] = shapes("nm-6b", nm)
        found[f"fragments-{nm[0]}of{nm[1]}"] = shapes("nm-vi", nm, "fragments")
    for nm in PATTERNS[2:8]:
        found[f"windows-{nm[0]}of{nm[1]}"] = shapes("nm-vi", nm, "windows")
    return found


def packed():
    image = build(worked())
    raw = bytes(image.data)
    noise = b"".join(struct.pack("<I", 0x3F800000 | Lcg(f"noise {i}").below(1 << 20)) for i in range(1100))
    long = weights(Tensor("long", "other", "f32", (1 << 20,), noise.ljust(CHUNK_BYTES, b"\0")))
    two = build(long)
    both = bytes(two.data)
    return {
        "packed-raw": (worked(), image, [(0, raw)]),
        "packed-zstd": (worked(), image, [(1, zstd_frame(raw))]),
        "packed-two-chunks": (long, two, [(1, zstd_frame(both[:CHUNK_BYTES])), (0, both[CHUNK_BYTES:])]),
    }
