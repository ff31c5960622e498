"""The comparison of weights and patterns, on a size that says nothing about them."""

import csv
import unittest

from sbnc_train import matrix
from support import InScratchFolder, command, sbnc


def row(weights: str, pattern: str, seed: int, perplexity: float, variant: str = "") -> dict:
    scores = {"text_perplexity": perplexity, "compiled_perplexity": None, "zeros": 0.5}
    return {"weights": weights, "pattern": pattern, "variant": variant, "seed": seed, "perplexity": perplexity} | scores


class Report(unittest.TestCase):
    def test_compares_with_dense_runs_of_the_same_seed(self):
        rows = [row("ternary", "none", 0, 10.0), row("ternary", "none", 1, 20.0), row("ternary", "2:4", 0, 11.0), row("ternary", "2:4", 1, 24.0)]
        rows += [row("bf16", "2:4", 0, 9.0), row("ternary", "2:4", 0, 12.0, "trit-mask")]
        lines = matrix.table(rows).splitlines()[2:]
        self.assertEqual(len(lines), 4)
        self.assertIn("| ternary | none |  | 0, 1 | 15.000 ± 7.071 |  |  |", lines[0])
        self.assertIn("| ternary | 2:4 |  | 0, 1 | 17.500 ± 9.192 | +15.0 % | +5.7 % |", lines[1])
        self.assertIn("| ternary | 2:4 | trit-mask | 0 | 12.000 | +20.0 % |  |", lines[2])
        self.assertIn("| bf16 | 2:4 |  | 0 | 9.000 |  | +18.8 % |", lines[3])


class Matrix(InScratchFolder):
    def test_trains_scores_and_reports(self):
        sbnc()
        out = self.folder / "matrix"
        options = ["--data", self.data, "--out", out, "--size", "tiny", "--nm", "2:4", "--ablations", "trit-mask"]
        more = ["--train", "--device", "cpu", "--threads", 1, "--eval-every", 1000]
        shown = command("matrix", *options, *more)
        with open(out / "results.csv", newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        self.assertEqual(len(rows), 3)
        for found in rows:
            if found["variant"]:
                self.assertEqual((found["text_perplexity"], found["compiled_perplexity"]), ("", ""))
                continue
            self.assertEqual(found["compiled_perplexity"] == "", found["weights"] == "bf16")
            if found["compiled_perplexity"]:
                self.assertAlmostEqual(float(found["text_perplexity"]), float(found["compiled_perplexity"]), delta=0.01)
            self.assertIn("<html", (out / f"{found['weights']}-2of4-s0/compile.html").read_text())
        self.assertEqual((out / "perplexity.png").read_bytes()[:4], b"\x89PNG")
        before = (out / "results.csv").stat().st_mtime_ns
        # What is complete is not done again.
        self.assertEqual(command("matrix", *options, *more), shown)
        self.assertEqual(command("matrix", "--out", out, "--report-only"), shown)
        self.assertGreater((out / "results.csv").stat().st_mtime_ns, before)


if __name__ == "__main__":
    unittest.main()
