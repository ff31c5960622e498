"""Files that break one rule each, hostile bytes, and the conformance kit `vectors/` where it is there.

    python3 spec/test_refusals.py
"""

import json
import pathlib
import random
import re
import struct
import unittest

import blake3
import reader
import records
import sample
import zstd_frame
from checks import decode_tensor, open_file
from refusal import Refusal

HERE = pathlib.Path(__file__).resolve().parent
VECTORS = HERE / "vectors"
WEIGHTS = [[1, 0, -1, -1, 0, 1]]
SMALL = [sample.tensor("w", 1, "t2", "rows", WEIGHTS, scales=[0.5])]
MODEL = {"family": "llama", "layers": 1, "hidden": 8, "intermediate": 8, "heads": 4, "kv_heads": 2, "head_dim": 2, "vocab": 8, "context": 8,
         "activation": "silu", "activation_bits": 8, "norm_eps": "1e-5", "rope": {"style": "half", "theta": "10000"}, "tied": True,
         "tensors": {"q": "w"}, "tokens": {"bos": 1, "eos": [2]}}


def verdict(data, is_packed=False, deep=False):
    """The rule that refuses `data`, or None. Any other exception is a fault of the reader."""
    try:
        reader.verify_any(data, is_packed, deep)
    except Refusal as refusal:
        return refusal.rule
    return None


def changed(fields, **new):
    return {**fields, **new}


def ternary(encoding, order, matrix, nm=(0, 0), at=None, value=None, **fields):
    """A tensor of one-row scales, whose data byte `at` is then `value`."""
    record, extent = sample.tensor("w", 1, encoding, order, matrix, nm, [1.0] * len(matrix))
    if at is not None:
        extent = extent[:at] + bytes([value]) + extent[at + 1:]
    return changed(record, stored_digest=blake3.blake3(extent), **fields), extent


def windows(expanded):
    """One block of 6:8 given by its three windows, as they are stored."""
    record, _ = sample.tensor("w", 1, "nm-vi", "windows", [[0] * 8], (6, 8), [1.0])
    extent = sample.fragments([expanded]) + struct.pack("<f", 1.0)
    return changed(record, stored_digest=blake3.blake3(extent), non_zero=sum(map(abs, expanded))), extent


def one(t):
    return sample.file([t])


def floats(encoding, data):
    size = {"f32": 4, "f16": 2, "bf16": 2}[encoding]
    return one(sample.tensor("x", 3, encoding, "rows", ((len(data) // size,), data)))


def with_manifest(change):
    text = json.dumps(sample.MANIFEST, sort_keys=True, separators=(",", ":")).encode()
    return sample.file(SMALL, change(text))


def with_model(path, value):
    model = json.loads(json.dumps(MODEL))
    holder = model
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value
    return sample.file(SMALL, {**sample.MANIFEST, "model": model})


def with_files(*entries, stored=b""):
    return sample.file(SMALL, {**sample.MANIFEST, "files": list(entries)}, stored)


def entry(content=b"hello", stored=None, **fields):
    stored = content if stored is None else stored
    return {"name": "a.txt", "codec": "raw", "stored": len(stored), "raw": len(content), "blake3": blake3.blake3(content).hex(), **fields}


def runs_frame(data):
    """`data` as one zstd frame: RLE blocks for long runs of zeros, raw blocks for the rest."""
    pieces = [piece for piece in re.split(rb"(\0{64,})", data) if piece]
    out = b"\x28\xb5\x2f\xfd\xa0" + struct.pack("<I", len(data))
    for index, piece in enumerate(pieces):
        run = not any(piece)
        out += struct.pack("<I", (index == len(pieces) - 1) | run << 1 | len(piece) << 3)[:3] + (piece[:1] if run else piece)
    return out


class Values(unittest.TestCase):
    """Rules of §7 to §10, plain verify."""

    def expect(self, rule, data, deep=False):
        with self.subTest(rule):
            self.assertEqual(verdict(data, deep=deep), rule)

    def test_manifest(self):
        for path, good, bad in (
            (("family",), "novel", 1), (("layers",), 1024, 1025), (("heads",), 2, 3), (("vocab",), 2**24, 2**24 + 1), (("activation",), "gelu", "tanh"),
            (("activation_bits",), 4, 5), (("activation_bits",), 8, True), (("norm_eps",), "0.5E-3", "1."), (("norm_eps",), "1", "1e999"),
            (("norm_eps",), "1e-300", "1e-999"), (("norm_eps",), "2", "inf"), (("rope", "style"), "interleaved", "quarter"), (("rope", "theta"), "1", 1),
            (("rope", "scaling"), {"a": 1, "b": "2"}, {"a": []}), (("tied",), False, 0), (("window",), 5, "5"), (("tensors",), {}, {"q": 1}),
            (("tokens", "eos"), [], 1), (("tokens", "pad"), 0, None), (("heads",), 4, 0), (("rope",), MODEL["rope"], []),
        ):
            self.expect(None, with_model(path, good))
            self.expect("R066", with_model(path, bad))
        for bad in (b"[]", b"{", b"", b"\xef\xbb\xbf{}", b'{"a":01}', b'{"a":NaN}', b'{"a":"\x01"}', b'{"a":"\\x"}', b'{"a":1}x', b'{"\xff":1}', b'{"a":+1}',
                    b'{"a":"\xed\xa0\x80"}', b"{,}", b'{"a":1,}', b'{"a":[1,]}', b'{"a"}', b'{"a":tru}', b'"', b'{"a":"\\u12"}'):
            self.expect("R063" if bad else "R024", sample.file(SMALL, bad) if bad else with_manifest(lambda text: b""))
        self.expect(None, with_manifest(lambda text: text.replace(b"}}", b'},"z":' + b"[" * 15 + b"]" * 15 + b"}")))
        self.expect("R063", with_manifest(lambda text: text.replace(b"}}", b'},"z":' + b"[" * 16 + b"]" * 16 + b"}")))
        self.expect("R063", with_manifest(lambda text: text.replace(b"}}", b'},"z":' + b"[" * 100000 + b"]" * 100000 + b"}")))
        for bad in (b'"z":"\\/"', b'"z":"\\u0041"', b'"z":"\\u001F"', b'"z":"\\u000a"', b'"z": 1', b'"z":1,"a":1', b'"z":1,"z":1', b'"z":"\\ud800"',
                    b'"\\"":1,"!":1'):
            self.expect("R064", with_manifest(lambda text: text.replace(b"}}", b"}," + bad + b"}")))
        for bad in (b"1.0", b"1e2", b"-0", b"9007199254740993", b"-9007199254740993", b"1" * 5000):
            self.expect("R065", with_manifest(lambda text: text.replace(b"}}", b'},"z":' + bad + b"}")))
        for good in (b'"z":"\\u001f\\n\\"\\\\/"', b'"z":9007199254740992', b'"z":-9007199254740992', b'"z":"\x7f\xe2\x80\xa8"', b'"z":{"!":1,"\\"":1,"#":1}'):
            self.expect(None, with_manifest(lambda text: text.replace(b"}}", b"}," + good + b"}")))
        self.expect("R066", sample.file(SMALL, {"files": []}))

    def test_files(self):
        good = entry()
        frame = sample.frame(b"hello")
        self.expect(None, with_files(good, stored=b"hello"))
        self.expect(None, with_files(entry(stored=frame, codec="zstd"), stored=frame))
        self.expect(None, with_files(entry(b"")))
        for bad in (entry(more=1), {k: v for k, v in good.items() if k != "raw"}, entry(name=".a"), entry(name=""), entry(name="a/b"), entry(name="x" * 257),
                    entry(name="a\n"), entry(blake3="0" * 63), entry(raw="5"), entry(raw=True), 5):
            self.expect("R067", with_files(bad, stored=b"hello"))
        self.expect("R067", with_files(good, good, stored=b"hellohello"))
        self.expect("R067", with_files(*(entry(b"", name=f"n{i:03}") for i in range(65))))
        for bad in (entry(codec="lz4"), entry(raw=4), {**good, "raw": -1, "stored": -1}, entry(raw=2**28 + 1, codec="zstd"), entry(b"", codec="zstd")):
            self.expect("R068", with_files(bad, stored=b"hello"))
        self.expect("R069", with_files(good, stored=b"hello!"))
        self.expect("R069", with_files(good))
        self.expect("R069", with_files(stored=b"x"))
        self.expect("R070", with_files(good, stored=b"jello"))
        long = bytes(100)
        for bad in (frame[:-1], frame + b"\0", b"\0" + frame[1:], frame[:5] + b"\6" + frame[6:], frame + frame, frame[:4] + b"\x28" + frame[5:],
                    frame[:4] + b"\x00\x00" + frame[6:], frame[:4] + b"\x21\x01\x05" + frame[6:], frame[:6] + b"\x2f" + frame[7:], sample.frame(b"hello", b"\0\0\0\0"),
                    sample.frame(b"jello"), sample.frame(long)):
            self.expect("R070", with_files(entry(stored=bad, codec="zstd"), stored=bad))
        checked = sample.frame(b"hello", struct.pack("<I", zstd_frame.xxh64(b"hello") & 2**32 - 1))
        self.expect(None, with_files(entry(stored=checked, codec="zstd"), stored=checked))
        run = sample.frame(long, kind=1)
        self.expect(None, with_files(entry(long, stored=run, codec="zstd"), stored=run))

    def test_values(self):
        for scale in (0.0, -1.0, float("nan"), float("inf"), 10001.0):
            self.expect("R073", one(sample.tensor("w", 1, "t2", "rows", WEIGHTS, scales=[scale])))
        for scale in (1e-45, 10000.0):
            self.expect(None, one(sample.tensor("w", 1, "t2", "rows", WEIGHTS, scales=[scale])))
        for encoding, good, bad in (("f32", b"\xff\xff\x7f\x7f", b"\0\0\x80\x7f"), ("f32", b"\0\0\x7f\xff", b"\1\0\x80\xff"), ("f16", b"\xff\x7b", b"\0\x7c"),
                                    ("f16", b"\0\xfb", b"\0\xfc"), ("bf16", b"\x7f\x7f", b"\x80\x7f"), ("bf16", b"\x7f\xff", b"\xc0\xff")):
            self.expect(None, floats(encoding, good * 3))
            self.expect("R074", floats(encoding, good * 2 + bad))
        self.expect(None, one(sample.tensor("w", 5, "i8", "rows", [[127, -127]], scales=[1.0])), deep=True)
        self.expect("R075", one(sample.tensor("w", 5, "i8", "rows", [[127, -128]], scales=[1.0])))
        self.expect("R071", one(ternary("t2", "rows", WEIGHTS, at=2, value=1)))
        self.expect("R072", sample.file([(changed(SMALL[0][0], stored_digest=bytes(32)), SMALL[0][1])]))

    def test_ternary(self):
        six, vi = [[1, 0, 0, -1, 0, 0, 0, 0, 0, -1, 0, 0]], [[0, 0, -1, 1]]
        for rule, encoding, order, matrix, nm, at, value in (
            ("R080", "t2", "rows", WEIGHTS, (0, 0), 0, 0x07), ("R081", "t2", "rows", WEIGHTS, (0, 0), 1, 0x19), ("R082", "t5", "rows", WEIGHTS, (0, 0), 0, 243),
            ("R083", "t5", "rows", WEIGHTS, (0, 0), 1, 0x7D), ("R084", "nm-6b", "rows", six, (2, 4), 0, 33), ("R084", "nm-6b", "rows", six, (1, 4), 0, 9),
            ("R085", "nm-6b", "rows", six, (2, 4), 2, 4), ("R086", "nm-vi", "fragments", vi, (2, 4), 0, 0x95), ("R087", "nm-vi", "fragments", vi, (2, 4), 4, 0x4F),
            ("R088", "nm-vi", "fragments", vi, (2, 4), 4, 0x8E), ("R088", "nm-vi", "fragments", vi, (2, 4), 0, 0x85), ("R088", "nm-vi", "fragments", vi, (1, 4), 0, 0x15),
            ("R089", "nm-vi", "fragments", vi, (2, 4), 1, 0x81), ("R089", "nm-vi", "fragments", vi, (2, 4), 16, 0x81),
        ):
            self.expect(rule, one(ternary(encoding, order, matrix, nm, at, value)))
        self.expect(None, one(ternary("nm-vi", "fragments", vi, (2, 4))), deep=True)
        self.expect(None, one(ternary("nm-vi", "windows", [[1, 1, -1, 0, 1, 1, 0, -1]], (6, 8))), deep=True)
        for bad in ([0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0], [1, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0],
                    [0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0], [1, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0]):
            self.expect("R090", one(windows(bad)))
        self.expect("R076", one(windows([1, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0])), deep=True)  # placed well, but not the content that the record names

    def test_decoded(self):
        for t, rule in ((ternary("t2", "rows", WEIGHTS, content_digest=bytes(32)), "R076"), (ternary("t2", "rows", WEIGHTS, non_zero=3), "R076"),
                        (ternary("t2", "rows", [[1, 0, 0, 0, 1, -1]], (1, 2)), "R077"), (ternary("t5", "rows", [[1, 0, 0, 0, 1, 1]], (1, 3)), "R077")):
            self.expect(None, one(t))
            self.expect(rule, one(t), deep=True)


class Packed(unittest.TestCase):
    def test_packed(self):
        data = sample.file(SMALL)
        good = sample.pack(data)

        def edited(at, new):
            head = bytearray(good)
            head[at:at + len(new)] = new
            head[96:128] = blake3.blake3(bytes(head[:96]) + bytes(32) + bytes(head[128:168]))
            return bytes(head)

        self.assertIsNone(verdict(good, True, True))
        self.assertIsNone(verdict(sample.pack(data, [(1, runs_frame(data))]), True, True))
        for rule, bad in (
            ("R100", good[:127]), ("R100", edited(0, b"\xd3BNC")), ("R100", edited(8, b"\2")), ("R101", edited(12, b"\1")), ("R101", edited(36, b"\1")),
            ("R101", edited(16, b"\0")), ("R101", edited(24, struct.pack("<Q", 95))), ("R101", edited(24, struct.pack("<Q", 2**40))), ("R101", edited(32, b"\2")),
            ("R102", good[:100] + bytes([good[100] ^ 1]) + good[101:]), ("R103", edited(128, b"\1")), ("R103", edited(132, b"\2")),
            ("R104", good[:-1] + b"\1"), ("R106", edited(64, bytes(32))), ("R106", sample.pack(data[:60] + b"\1" + data[61:])),
            ("R105", sample.pack(data, [(1, runs_frame(data)[:-1])])), ("R105", sample.pack(data, [(1, sample.frame(bytes(100), kind=1))])), ("R101", good + b"\0"), ("R072", sample.pack(data[:-1] + b"\1")),
        ):
            with self.subTest(rule):
                self.assertEqual(verdict(bad, True), rule)


class Hostile(unittest.TestCase):
    def test_every_truncation_and_flip(self):
        check_fragility(self, sample.file(SMALL))

    def test_no_other_exception(self):
        """Fields of every structure replaced by numbers at which readers go wrong, digests made right, then all rules run."""
        random_ = random.Random(6)
        numbers = (0, 1, 2, 255, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**53, 2**63, 2**64 - 1)
        matrix = [[1, 0, 0, -1, 0, 0, 0, 0]]
        base = sample.file(SMALL + [sample.tensor("v", 1, "nm-vi", "fragments", matrix, (2, 4), [1.0]),
                                    sample.tensor("u", 1, "nm-vi", "windows", matrix, (6, 8), [1.0])], prefix=(1, 1, 0, 0))
        rules = set()
        for _ in range(1500):
            data = bytearray(base)
            for _ in range(random_.choice((1, 1, 2, 3))):
                size = random_.choice((1, 2, 4, 8))
                at = random_.choice((random_.randrange(96 + 4 * 64), 4096 + random_.randrange(480)))
                data[at:at + size] = (random_.choice(numbers) & 256**size - 1).to_bytes(size, "little")
            if random_.random() < 0.3:
                data[32] = 1
            rules.add(verdict(seal(data), deep=random_.random() < 0.5))
        self.assertGreater(len(rules), 25, rules)


def seal(data):
    """Makes section digests and the root right where the table makes sense."""
    data = bytearray(data)
    for at in range(96, 96 + 64 * 4, 64):
        kind, _, offset, size = struct.unpack_from("<IIQQ", data, at)
        if kind != 128 and offset + size <= len(data):
            data[at + 32:at + 64] = blake3.blake3(bytes(data[offset:offset + size]))
    header = min(struct.unpack_from("<I", data, 12)[0], len(data))
    data[64:96] = blake3.blake3(bytes(data[:64]) + bytes(32) + bytes(data[96:header]))
    return bytes(data)


def check_fragility(case, data):
    for length in range(len(data)):
        case.assertIsNotNone(verdict(data[:length]), length)
    f = open_file(data)
    ends = [f.prefix.header_bytes] + [s.end for s in f.sections.values() if s.kind in (16, 32, 48)]
    starts = [0] + [s.offset for s in f.sections.values() if s.kind in (16, 32, 48)]
    for start, end in zip(starts, ends):
        for bit in range(8 * start, 8 * end):
            broken = bytearray(data)
            broken[bit // 8] ^= 1 << bit % 8
            case.assertIsNotNone(verdict(bytes(broken)), bit)


@unittest.skipUnless((VECTORS / "invalid.json").exists(), "the conformance kit is not there")
class Kit(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.invalid = json.loads((VECTORS / "invalid.json").read_text())
        cls.valid = sorted(path for path in (VECTORS / "valid").iterdir() if path.suffix in (".sbnc", ".sbncz"))

    def test_valid(self):
        for path in self.valid:
            with self.subTest(path.name):
                data, is_packed = path.read_bytes(), path.suffix == ".sbncz"
                self.assertIsNone(verdict(data, is_packed))
                f = reader.open_any(data, is_packed)
                self.assertEqual(verdict(data, is_packed, deep=True), "R010" if f.inspect_only else None)
                expected, found = json.loads(path.with_suffix(".json").read_text()), reader.describe(f)
                for tensor, r in zip(found["tensors"], f.records):
                    tensor.update(n=r.n, m=r.m)
                for tensor in expected["tensors"]:
                    self.check_values(f, tensor)
                    for member, names in (("role", records.ROLES), ("encoding", records.ENCODINGS), ("order", records.ORDERS)):
                        if isinstance(tensor[member], int):
                            tensor[member] = names.get(tensor[member], f"unknown ({tensor[member]})")
                for member in ("compatible", "inspect_only"):
                    self.assertEqual(int(expected.get(member, hex(found[member])), 0), found[member])
                for member in ("root", "file_bytes", "manifest"):
                    self.assertEqual(expected.get(member, found[member]), found[member])
                for member in ("sections", "tensors"):
                    self.assertEqual(len(expected.get(member, found[member])), len(found[member]))
                    for wanted, got in zip(expected.get(member, ()), found[member]):
                        self.assertEqual(wanted, {**wanted, **{key: got[key] for key in wanted if key in got}})

    def check_values(self, f, tensor):
        """The first row and the first scale's bytes, where the kit states them."""
        row, scale = tensor.get("first_row"), tensor.get("first_scale")
        if row is not None or scale is not None:
            _, content, scales = decode_tensor(f, tensor["name"])
            self.assertIn(row, ([v - 256 * (v > 127) for v in content[:tensor["shape"][1]]], None))
            self.assertIn(scale, (scales[:4].hex(), None))

    def test_invalid(self):
        for name, vector in self.invalid.items():
            with self.subTest(name):
                data = bytearray((VECTORS / vector["base"]).read_bytes())
                for offset, new in vector["edits"]:
                    data[offset:offset + len(new) // 2] = bytes.fromhex(new)
                data = data[:vector.get("truncate")] + bytes.fromhex(vector.get("append") or "")
                is_packed = vector["base"].endswith(".sbncz")
                if vector["deep"]:
                    self.assertIsNone(verdict(bytes(data), is_packed))
                with self.assertRaises(Refusal) as caught:
                    reader.verify_any(bytes(data), is_packed, vector["deep"])
                self.assertEqual((f"SBNC-{caught.exception.rule}", caught.exception.kind), (vector["rule"], vector["kind"]), str(caught.exception))

    def test_every_rule_has_a_vector(self):
        rules = set(re.findall(r"\*\*(SBNC-R\d{3})\*\*", (HERE / "SPEC.md").read_text(encoding="utf-8")))
        self.assertEqual({vector["rule"] for vector in self.invalid.values()}, rules)

    def test_fragility(self):
        smallest = min((path for path in self.valid if path.suffix == ".sbnc"), key=lambda path: path.stat().st_size)
        check_fragility(self, smallest.read_bytes())


if __name__ == "__main__":
    unittest.main()
