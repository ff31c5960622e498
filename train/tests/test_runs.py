"""Whole runs: what they leave, and that a stopped one goes on as if it had not stopped."""

import json
import subprocess
import sys
import unittest
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from sbnc_train import checkpoint
from sbnc_train.checkpoint import read_curve
from sbnc_train.data import Batches, is_held_out
from support import InScratchFolder, command, documents


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


class Data(InScratchFolder):
    def test_tokens_are_the_texts(self):
        tokenizer = Tokenizer.from_file(str(self.data / "tokenizer.json"))
        texts = [d["text"] for d in documents() if not is_held_out(d["name"], 0.1)]
        tokens = np.fromfile(self.data / "train.bin", dtype=np.uint16)
        self.assertEqual(tokenizer.decode(tokens.tolist(), skip_special_tokens=False), "".join(f"<s>{text}</s>" for text in texts))
        odd = "naïve ∑ \t\n  code();"
        self.assertEqual(tokenizer.decode(tokenizer.encode(odd).ids), odd)

    def test_batches_depend_on_seed_step_and_rank_alone(self):
        def at(seed, step, micro, rank):
            return Batches(self.data / "train.bin", 32, seed, rank).at(step, micro, 4)[0].tolist()

        self.assertEqual(at(1, 5, 0, 0), at(1, 5, 0, 0))
        others = [at(2, 5, 0, 0), at(1, 6, 0, 0), at(1, 5, 1, 0), at(1, 5, 0, 1)]
        self.assertNotIn(at(1, 5, 0, 0), others)
        inputs, targets = Batches(self.data / "train.bin", 32, 1).at(5, 0, 4)
        self.assertEqual(inputs[:, 1:].tolist(), targets[:, :-1].tolist())


class Runs(InScratchFolder):
    def test_learns_and_leaves_its_curves(self):
        run = self.train("whole", "--steps", 60, "--log-every", 10, "--eval-every", 30, "--lr", 4e-3, "--warmup", 5)
        losses = read_curve(run / "loss.csv")
        self.assertEqual([int(row["step"]) for row in losses], [10, 20, 30, 40, 50, 60])
        self.assertLess(float(losses[-1]["loss"]), 0.8 * float(losses[0]["loss"]))
        self.assertLess(float(losses[-1]["held_out_loss"]), float(losses[2]["held_out_loss"]))
        masks = read_curve(run / "masks.csv")
        self.assertTrue(all(0 < float(row["flip_rate"]) < 1 for row in masks))
        self.assertTrue(all(float(row["zero_share"]) >= 0.5 > float(row["zero_share_before_mask"]) for row in masks))
        self.assertEqual(json.loads((run / "result.json").read_text())["tokens"], 60 * 4 * 64)
        picture = self.folder / "curves.png"
        command("plot", run, "--out", picture)
        self.assertEqual(picture.read_bytes()[:4], b"\x89PNG")

    def test_goes_on_as_if_it_had_not_stopped(self):
        options = ["--steps", 8, "--log-every", 2, "--dense-share", 0.25, "--accumulate", 2]
        whole, stopped = self.train("one-go", *options), self.train("two-goes", *options, "--stop-at", 5)
        self.assertFalse((stopped / "result.json").exists())
        # As if it had been killed after it logged a step that it had not saved.
        with open(stopped / "loss.csv", "a", encoding="utf-8") as file:
            file.write("6,9.9,nan,1e-3,1,1\n")
        self.train("two-goes", *options)
        states = [checkpoint.load(run) for run in (whole, stopped)]
        self.assertTrue(same(states[0]["model"], states[1]["model"]))
        columns = [[(row["step"], row["loss"], row["held_out_loss"]) for row in read_curve(run / "loss.csv")] for run in (whole, stopped)]
        self.assertEqual(*columns)

    def test_does_not_go_on_with_another_run(self):
        self.train("mine", "--steps", 4)
        for other in (["--steps", 4, "--lr", 1e-4], ["--steps", 5], ["--steps", 4, "--nm", "6:8"]):
            with self.assertRaisesRegex(SystemExit, "another configuration"):
                self.train("mine", *other)

    def test_a_trapezoid_may_be_longer_than_it_was_to_be(self):
        options = ["--schedule", "trapezoid", "--cooldown", 0.5, "--warmup", 1, "--log-every", 1]
        self.train("long", "--steps", 8, *options, "--stop-at", 4)
        self.train("long", "--steps", 12, *options, "--stop-at", 7)
        with self.assertRaisesRegex(SystemExit, "another configuration"):
            self.train("long", "--steps", 20, *options)
        straight = self.train("straight", "--steps", 12, *options, "--stop-at", 7)
        states = [checkpoint.load(run) for run in (self.folder / "long", straight)]
        self.assertTrue(same(states[0]["model"], states[1]["model"]))

    def test_the_baseline_and_the_ablations_train(self):
        for name, options in {
            "bf16": ["--weights", "bf16", "--nm", "6:8"],
            "dense": ["--nm", "none"],
            "trits": ["--mask-from", "quantized"],
            "still": ["--no-masked-gradient", "--layout", "sparse-bitnet"],
        }.items():
            run = self.train(name, "--steps", 3, *options)
            self.assertTrue((run / "result.json").exists(), name)

    def test_two_processes_share_a_step(self):
        run = self.folder / "shared"
        small = "--hidden 64 --intermediate 128 --layers 1 --heads 2 --kv-heads 1 --context 64 --batch 2 --accumulate 2 --threads 1 --device cpu --steps 3"
        start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "sbnc_train.cli"]
        arguments = ["train", "--data", str(self.data), "--out", str(run), *small.split()]
        done = subprocess.run(start + arguments, capture_output=True, text=True, cwd=Path(__file__).parent.parent)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(json.loads((run / "result.json").read_text())["tokens"], 3 * 2 * 2 * 2 * 64)


if __name__ == "__main__":
    unittest.main()
