"""Tests of the reader against SPEC.md, the public values of BLAKE3, files built by `sample.py` and, where it is there, the conformance kit `vectors/`.

    python3 spec/test_reader.py
"""

import contextlib
import io
import json
import pathlib
import random
import re
import struct
import tempfile
import types
import unittest

import blake3
import bytewise
import canonical_json
import checks
import fragments
import layout
import manifest
import packed
import payload
import reader
import records
import sample
import ternary
import zstd_frame
from refusal import Refusal

HERE = pathlib.Path(__file__).resolve().parent
SPEC = (HERE / "SPEC.md").read_text(encoding="utf-8")
VECTORS = HERE / "vectors"
MODULES = (blake3, bytewise, canonical_json, checks, fragments, layout, manifest, packed, payload, reader, records, ternary, zstd_frame)

# The project BLAKE3's test_vectors.json: input byte i is i mod 251, "hash", the first 32 bytes.
OFFICIAL = {
    0: "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
    1: "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213",
    1023: "10108970eeda3eb932baac1428c7a2163b0e924c9a9e25b35bba72b28f70bd11",
    1024: "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7",
    1025: "d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444",
    2048: "e776b6028c7cd22a4d0ba182a8bf62205d2ef576467e838ed6f2529b85fba24a",
    2049: "5f4d72f40d7a5f82b15ca2b2e44b1de3c2ef86c426c95c1af0b6879522563030",
    3072: "b98cb0ff3623be03326b373de6b9095218513e64f1ee2edd2525c7ad1e5cffd2",
    4096: "015094013f57a5277b59d8475c0501042c0b642e531b0a1c8f58d2163229e969",
    8192: "aae792484c8efe4f19e2ca7d371d8c467ffb10748d8a5a1ae579948f718a2a63",
    31744: "62b6960e1a44bcc1eb1a611a8d6235b6b4b78f32e7abc4fb4c6cdcce94895c47",
}


class Digest(unittest.TestCase):
    def test_official_values(self):
        for length, expected in OFFICIAL.items():
            data = bytes(i % 251 for i in range(length))
            self.assertEqual(blake3.blake3(data).hex(), expected, length)
            self.assertEqual(blake3.blake3(data, vectorise=False).hex(), expected, length)

    @unittest.skipIf(blake3.numpy is None, "numpy is not importable")
    def test_both_paths_agree(self):
        data = random.Random(1).randbytes(300 * 1024)
        for chunks in (*range(7, 20), 31, 32, 33, 63, 64, 65, 127, 129, 255, 256, 257):
            for length in (chunks * 1024 - 1, chunks * 1024, chunks * 1024 + 1):
                self.assertEqual(blake3.blake3(data[:length]), blake3.blake3(data[:length], vectorise=False), length)

    @unittest.skipIf(blake3.numpy is None, "numpy is not importable")
    def test_batches_agree(self):
        data, batch = random.Random(2).randbytes(100 * 1024 + 5), blake3.BATCH_CHUNKS
        expected = blake3.blake3(data)
        try:
            for blake3.BATCH_CHUNKS in (1, 7, 50, 100):
                self.assertEqual(blake3.blake3(data), expected)
        finally:
            blake3.BATCH_CHUNKS = batch


class Document(unittest.TestCase):
    def test_every_rule_is_in_the_reader(self):
        rules = set(re.findall(r"\*\*SBNC-(R\d{3})\*\*", SPEC))
        self.assertGreater(len(rules), 70)
        sources = "".join(pathlib.Path(module.__file__).read_text(encoding="utf-8") for module in MODULES)
        # R077 of nm-vi, R028 and others are named where they are refused, in quotes.
        self.assertEqual(rules - set(re.findall(r'"(R\d{3})"', sources)), set())
        self.assertEqual(set(re.findall(r'"(R\d{3})"', sources)) - rules, set())

    def test_constants(self):
        table = SPEC[SPEC.index("### Constants"):SPEC.index("## 3. Prefix")]
        rows = re.findall(r"^\| ([A-Z_]+) \| ([^|]+) \|", table, re.M)
        self.assertGreater(len(rows), 15)
        for name, text in rows:
            expected = bytes.fromhex(text) if "MAGIC" in name else int(text)
            found = [getattr(module, name) for module in MODULES if hasattr(module, name)]
            self.assertTrue(found, name)
            self.assertEqual(set(found), {expected}, name)

    def test_examples(self):
        examples = [json.loads(text) for text in re.findall(r"```json example\n(.*?)```", SPEC, re.S)]
        self.assertGreaterEqual(len(examples), 3)
        for e in examples:
            matrix = [e["trits"][at:at + e["cols"]] for at in range(0, len(e["trits"]), e["cols"])]
            data = bytes.fromhex(e["bytes"])
            self.assertEqual(sample.encode(e["encoding"], e["order"], matrix, e["m"]).hex(), e["bytes"])
            r = record(e["encoding"], e["order"], e["rows"], e["cols"], e["n"], e["m"])
            self.assertEqual(records.size_of_data(r), len(data))
            ternary.validate(r, data)
            self.assertEqual([trit - 256 * (trit > 1) for trit in ternary.decode(r, data)], e["trits"])

    def test_example_of_a_tile(self):
        words = struct.unpack("<128I", sample.encode("nm-vi", "fragments", [[0, 0, -1, 1]]))
        self.assertEqual(words[:4], (0x88888815, 0x4444444E, 0x88888888, 0x44444444))
        self.assertEqual(set(zip(words[4::2], words[5::2])), {(0x88888888, 0x44444444)})


def record(encoding, order, rows, cols, n=0, m=0):
    r = records.Record(0, bytes(160))
    r.encoding, r.order, r.dims, r.rank, r.n, r.m = encoding, order, (rows, cols, 0, 0), 2, n, m
    return r


def random_matrix(random_, rows, cols, n, m):
    def block(width, most):
        trits = [random_.choice((-1, 1)) if k < random_.randint(0, most) else 0 for k in range(width)]
        random_.shuffle(trits)
        return trits
    return [sum((block(m, n) for _ in range(cols // m)), []) if m else block(cols, cols) for _ in range(rows)]


class Encodings(unittest.TestCase):
    CASES = [
        *(("t2", "rows", rows, cols, 0, 0) for rows, cols in ((1, 1), (3, 4), (5, 7), (2, 30), (4, 66))),
        *(("t5", "rows", rows, cols, 0, 0) for rows, cols in ((1, 1), (3, 5), (5, 7), (2, 33), (4, 66))),
        *(("t2", "rows", 3, 48, n, m) for n, m in ((1, 2), (2, 4), (5, 8), (15, 16))),
        *(("nm-6b", "rows", rows, cols, n, 4) for n in (1, 2) for rows, cols in ((1, 4), (3, 8), (5, 12), (2, 16), (3, 20), (7, 132))),
        *(("nm-vi", "fragments", rows, cols, n, 4) for n in (1, 2) for rows, cols in ((1, 4), (16, 128), (17, 132), (40, 260), (15, 124))),
        *(("nm-vi", "windows", rows, blocks * m, m - 2, m) for m in (6, 8, 10, 12, 14, 16) for rows, blocks in ((1, 1), (17, 9), (33, 22))),
    ]

    def test_decode_what_the_words_of_the_document_encode(self):
        random_ = random.Random(3)
        for case in self.CASES:
            encoding, order, rows, cols, n, m = case
            matrix = random_matrix(random_, rows, cols, n, m)
            data, r = sample.encode(encoding, order, matrix, m), record(*case)
            self.assertEqual(records.size_of_data(r), len(data), case)
            ternary.validate(r, data)
            decoded = ternary.decode(r, data)
            self.assertEqual(decoded, bytes(trit & 255 for row in matrix for trit in row), case)

    def test_whatever_is_accepted_is_canonical(self):
        """encode(decode(x)) = x for every x that validates: one nibble, bit or byte of valid data changed."""
        random_ = random.Random(4)
        for case in self.CASES:
            encoding, order, rows, cols, n, m = case
            good = sample.encode(encoding, order, random_matrix(random_, rows, cols, n, m), m)
            for _ in range(12):
                data, r = bytearray(good), record(*case)
                for _ in range(random_.choice((1, 1, 2))):
                    at = random_.randrange(len(data))
                    data[at] = random_.choice((data[at] ^ 1 << random_.randrange(8), random_.randrange(256), data[at] & 0xF0 | random_.choice((4, 8, 0))))
                try:
                    ternary.validate(r, bytes(data))
                except Refusal:
                    continue
                decoded = [trit - 256 * (trit > 1) for trit in ternary.decode(r, bytes(data))]
                matrix = [decoded[at:at + cols] for at in range(0, len(decoded), cols)]
                if encoding in ("nm-6b", "nm-vi"):
                    self.assertLess(ternary.first_dense_group(bytes(t & 255 for t in decoded), n, m), 0, case)
                self.assertEqual(sample.encode(encoding, order, matrix, m).hex(), bytes(data).hex(), case)


class Frames(unittest.TestCase):
    def test_xxh64(self):
        for data, expected in ((b"", 0xEF46DB3751D8E999), (b"a", 0xD24EC4F1A98C6E5B), (b"abc", 0x44BC2CF5AD770999)):
            self.assertEqual(zstd_frame.xxh64(data), expected)

    @unittest.skipIf(zstd_frame.module is None or zstd_frame.module.__name__ != "zstandard", "zstandard is not importable")
    def test_frames_of_a_compressor(self):
        random_ = random.Random(5)
        for length in (0, 1, 31, 32, 33, 255, 256, 70000, 300000):
            for data in (random_.randbytes(length), b"x" * length, (b"abcdefg" * length)[:length]):
                for checksum in (False, True):
                    compressed = zstd_frame.module.ZstdCompressor(write_checksum=checksum).compress(data)
                    self.assertEqual(zstd_frame.decode(compressed, length, "R070", "x"), data)
                    for cut in {1, 5, len(compressed) // 2, len(compressed) - 1}:
                        with self.assertRaises(Refusal):
                            zstd_frame.decode(compressed[:cut], length, "R070", "x")

    @contextlib.contextmanager
    def without_module(self):
        module, zstd_frame.module = zstd_frame.module, None
        try:
            yield
        finally:
            zstd_frame.module = module

    def test_without_a_module(self):
        compressed = b"\x28\xb5\x2f\xfd\x20\x0a" + struct.pack("<I", 1 | 2 << 1 | 4 << 3)[:3] + b"\1\2\3\4"
        notes = []
        entry = {"name": "x", "codec": "zstd", "stored": len(compressed), "raw": 10, "blake3": "0" * 64}
        data = sample.file(SMALL, {**sample.MANIFEST, "files": [entry]}, compressed)
        with self.without_module():
            checks.verify(data, note=notes.append)
            self.assertEqual(len(notes), 1)
            notes.clear()
            self.assertIsNone(reader.verify_any(packed_garbage(data), True, note=notes.append))
            self.assertEqual(len(notes), 1)


def packed_garbage(data):
    """A packed file whose only chunk claims to be one compressed block."""
    size = len(data)
    block = struct.pack("<I", 1 | 2 << 1 | 8 << 3)[:3] + bytes(8)
    return sample.pack(data, [(1, b"\x28\xb5\x2f\xfd\xa0" + struct.pack("<I", size) + block)])


SMALL = [sample.tensor("w", 1, "t2", "rows", [[1, 0, -1, -1, 0, 1]], scales=[0.5])]


class Commands(unittest.TestCase):
    def run_command(self, *arguments):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = reader.main([str(argument) for argument in arguments])
        return types.SimpleNamespace(status=status, out=out.getvalue(), err=err.getvalue())

    def test_commands(self):
        data = sample.file(SMALL + [sample.tensor("b", 3, "bf16", "rows", ((2,), b"\x80\x3f\x00\xc0"))])
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            good, bad, small, output = folder / "a.sbnc", folder / "b.sbnc", folder / "a.sbncz", folder / "out.npy"
            good.write_bytes(data)
            bad.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
            small.write_bytes(sample.pack(data))
            for path in (good, small):
                self.assertEqual(self.run_command("verify", path, "--deep").status, 0)
                shown = json.loads(self.run_command("inspect", path, "--json").out)
                self.assertEqual([t["name"] for t in shown["tensors"]], ["w", "b"])
                self.assertAlmostEqual(shown["tensors"][0]["zero_fraction"], 1 / 3)
                self.assertIn("t2", self.run_command("inspect", path).out)
                self.assertEqual(self.run_command("dump", path, "w", "-o", output, "--scales", folder / "s.npy").status, 0)
                self.assertEqual(output.read_bytes()[128:], b"\1\0\xff\xff\0\1")
                self.assertIn(b"'descr': '|i1', 'fortran_order': False, 'shape': (1, 6)", output.read_bytes()[:128])
                self.assertEqual((folder / "s.npy").read_bytes()[128:], struct.pack("<f", 0.5))
                self.assertEqual(self.run_command("dump", path, "b", "-o", output).status, 0)
                self.assertEqual(struct.unpack("<2f", output.read_bytes()[128:]), (1.0, -2.0))
                self.assertEqual(self.run_command("dump", path, "none", "-o", output).status, 2)
            refused = self.run_command("verify", bad, "--json")
            self.assertEqual((refused.status, json.loads(refused.out)["rule"]), (4, "SBNC-R072"))
            self.assertRegex(refused.err, r"^SBNC-R072: tensor 'b': expected .*, found ")
            self.assertEqual(self.run_command("unpack", small, "-o", folder / "c.sbnc").status, 0)
            self.assertEqual((folder / "c.sbnc").read_bytes(), data)
            self.assertEqual(self.run_command("unpack", good, "-o", folder / "d.sbnc").status, 3)
            self.assertFalse((folder / "d.sbnc").exists())
            self.assertEqual(self.run_command("verify", folder / "missing").status, 6)
            self.assertEqual(self.run_command("verify", folder).status, 6)
            self.assertEqual([path for path in folder.iterdir() if "tmp" in path.name], [])


if __name__ == "__main__":
    unittest.main()
