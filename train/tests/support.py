"""What the tests of whole runs share: a tiny corpus, the trainer's command line in this process, and the `sbnc` command."""

import contextlib
import io
import json
import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

import torch

from sbnc_train import cli

# The models are too small to share out, and threads that wait for each other only take time from what else runs. The second line is for processes that
# tests start.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"

WORDS = "the borrow checker moves a value into the closure and returns an owned string slice of bytes from every iterator".split()


def documents(count: int = 60) -> list[dict[str, str]]:
    """Sentences that repeat themselves enough to be learnt in a few steps."""
    texts = [" ".join(WORDS[(i * j + j) % len(WORDS)] for j in range(120)) for i in range(count)]
    return [{"source": "test", "name": f"text-{i}", "text": text + "\n"} for i, text in enumerate(texts)]


def command(*arguments: str | Path) -> str:
    """Runs `sbnc-train` and gives what it prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        cli.main([str(argument) for argument in arguments])
    return out.getvalue()


def sbnc() -> Path:
    """The `sbnc` command: `SBNC` of the environment, or on the path."""
    found = os.environ.get("SBNC") or shutil.which("sbnc")
    if found is None:
        raise unittest.SkipTest("needs the sbnc command: set SBNC to it")
    return Path(found)


def call(*arguments: str | Path) -> dict:
    """Runs `sbnc … --json`."""
    done = subprocess.run([sbnc(), *arguments, "--json"], capture_output=True, text=True)
    assert done.returncode == 0, f"sbnc {arguments}: {done.stderr}"
    return json.loads(done.stdout)


class InScratchFolder(unittest.TestCase):
    """A folder that vanishes, with a data folder in it that is made once."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.folder = Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        cls.data = cls.folder / "data"
        corpus = cls.folder / "corpus.jsonl"
        corpus.write_text("".join(json.dumps(document) + "\n" for document in documents()))
        command("prepare", "--corpus", corpus, "--out", cls.data, "--vocab", 512, "--held-out", 0.1)

    def train(self, name: str, *options: str | int) -> Path:
        run = self.folder / name
        small = "--hidden 64 --intermediate 128 --layers 2 --heads 2 --kv-heads 1 --context 64 --batch 4 --threads 1 --device cpu --eval-every 1000".split()
        command("train", "--data", self.data, "--out", run, *small, *options)
        return run
