"""The forward pass of training against the compiled file: the same logits, the same perplexity, the same trits."""

import json
import subprocess
import unittest
from pathlib import Path

import torch
from safetensors.torch import load_file

from sbnc_train import export
from sbnc_train.linear import ternarize
from support import InScratchFolder, call, command, sbnc

TOKENS = [0, 5, 9, 33, 7, 250, 128, 64, 3, 200, 17, 91, 300, 301, 302, 44, 45, 46]
CASES = [
    # layout, form, container, pattern
    ("bitnet", "hf", "safetensors", "2:4"),
    ("sparse-bitnet", "hf", "safetensors", "6:8"),
    ("sparse-bitnet", "sparse-bitnet", "pt", "2:4"),
    ("sparse-bitnet", "sparse-bitnet", "safetensors", "none"),
]


class Compiled(InScratchFolder):
    def setUp(self) -> None:
        sbnc()

    def compile(self, layout: str, form: str, container: str, pattern: str) -> tuple[Path, Path]:
        name = f"{layout}-{form}-{container}-{pattern.replace(':', 'of')}"
        run = self.train(name, "--layout", layout, "--nm", pattern, "--steps", 20, "--lr", 4e-3, "--warmup", 5)
        folder, file = self.folder / f"{name}-exported", self.folder / f"{name}.sbnc"
        command("export", "--run", run, "--out", folder, "--form", form, "--container", container, "--data", self.data)
        self.assertEqual(call("compile", folder, "-o", file)["pattern"], "dense" if pattern == "none" else pattern)
        return folder, file

    def test_computes_what_training_computed(self):
        for case in CASES:
            with self.subTest(case):
                folder, file = self.compile(*case)
                ids = ",".join(map(str, TOKENS))
                ours, theirs = self.folder / "ours.safetensors", self.folder / "theirs.safetensors"
                command("logits", "--checkpoint", folder, "--token-ids", ids, "--out", ours)
                call("run", file, "--token-ids", ids, "--max-tokens", "0", "--device", "cpu", "--logits", theirs)
                a, b = load_file(ours)["logits"], load_file(theirs)["logits"]
                self.assertGreater(a.std().item(), 0.1)
                self.assertLess((a - b).abs().max().item(), 1e-3)

                text = self.data / "held_out.txt"
                arguments = ["--text", text, "--context", "64"]
                pytorch = json.loads(command("ppl", "--checkpoint", folder, "--device", "cpu", *arguments))
                compiled = call("ppl", file, "--device", "cpu", *arguments)
                self.assertEqual(pytorch["targets"], compiled["targets"])
                self.assertAlmostEqual(pytorch["nll"], compiled["nll"], delta=1e-4)

    def test_has_the_trits_of_training(self):
        folder, file = self.compile(*CASES[2])
        exported = export.read(folder)
        trits = self.folder / "trits.safetensors"
        subprocess.run([sbnc(), "export", file, "--trits", "-o", trits], check=True, capture_output=True)
        compiled = load_file(trits)
        for name, linear in exported.model().linears().items():
            ours, _ = ternarize(linear.weight, linear.parts, linear.rule)
            self.assertTrue(torch.equal(ours.to(torch.int8), compiled[f"{name}.weight"]), name)

    def test_a_checkpoint_read_back_is_the_same_model(self):
        exported, steps = export.read_run(self.train("again", "--layout", "sparse-bitnet", "--steps", 2))
        tokens = torch.tensor([TOKENS])
        logits = []
        for form in export.FORMS:
            folder = self.folder / f"again-{form}"
            export.write(folder, form, exported, steps=steps, data=self.data)
            again = export.read(folder)
            self.assertEqual((again.shape, again.rule), (exported.shape, exported.rule))
            with torch.no_grad():
                logits.append(again.model()(tokens))
        self.assertTrue(torch.equal(*logits))

    def test_refuses_what_a_compiled_file_cannot_say(self):
        run = self.train("ablation", "--steps", 2, "--mask-from", "quantized")
        with self.assertRaisesRegex(SystemExit, "ablation"):
            command("export", "--run", run, "--out", self.folder / "no")
        run = self.train("sub-norms", "--steps", 2)
        with self.assertRaisesRegex(SystemExit, "sub-norms"):
            command("export", "--run", run, "--out", self.folder / "no", "--form", "sparse-bitnet")


if __name__ == "__main__":
    unittest.main()
