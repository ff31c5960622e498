"""`sbnc-train matrix`: what sparsity costs ternary and BF16 models, over patterns and seeds, with the same data and steps.

Every run is a folder `WEIGHTS-PATTERN-sSEED`, trained by `sbnc-train train` in a process of its own, exported, scored by PyTorch, and, if it is ternary,
compiled and scored by `sbnc ppl`, on processors while the next one trains. A run that is complete is not done again, so the command can be stopped and called
again. `results.csv`, `table.md` and `perplexity.png` are made of what there is; `--report-only` does nothing else.
"""

import argparse
import csv
import io
import json
import os
import shutil
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from .files import write_atomically

# Sizes: options of `sbnc-train train`. Tokens of a run are steps × batch × accumulate × context × devices.
SIZES = {
    "tiny": "--hidden 64 --intermediate 128 --layers 2 --heads 2 --kv-heads 1 --context 64 --batch 4 --steps 30 --warmup 5 --lr 4e-3",
    "demo": "--hidden 256 --intermediate 512 --layers 5 --heads 4 --kv-heads 2 --context 512 --batch 32 --steps 2000 --warmup 100 --lr 3e-3",
    # 25 million parameters besides the embeddings, 164 million tokens.
    "claim": "--hidden 512 --intermediate 1536 --layers 8 --heads 8 --kv-heads 4 --context 512 --batch 64 --steps 5000 --warmup 300 --lr 1.5e-3 "
    "--log-every 50 --eval-every 1000 --save-minutes 1 --compile",
}
ABLATIONS = {"trit-mask": ["--mask-from", "quantized"], "no-masked-gradient": ["--no-masked-gradient"], "dense-to-sparse": ["--dense-share", "0.5"]}
COLUMNS = ["weights", "pattern", "variant", "seed", "steps", "tokens", "parameters", "loss", "perplexity", "text_perplexity", "compiled_perplexity", "zeros"]
# Of the paper, at 0.5 billion parameters: perplexity with 2:4 relative to dense.
PAPER = {"bf16": 0.188, "ternary": 0.057}


@dataclass(frozen=True)
class Case:
    weights: str
    pattern: str
    variant: str
    seed: int

    @property
    def name(self) -> str:
        pattern = "dense" if self.pattern == "none" else self.pattern.replace(":", "of")
        return "-".join([self.weights, pattern, *([self.variant] if self.variant else []), f"s{self.seed}"])

    def options(self) -> list[str]:
        return ["--weights", self.weights, "--nm", self.pattern, "--seed", str(self.seed), *ABLATIONS.get(self.variant, [])]


def cases(arguments) -> list[Case]:
    """In the order of `--nm`: if time runs out, both kinds of weights have the same patterns."""
    plain = [Case(w, p, "", s) for s in arguments.seeds for p in arguments.nm for w in arguments.weights]
    sparse = [p for p in arguments.nm if p != "none"]
    return plain + [Case("ternary", p, a, s) for s in arguments.seeds for a in arguments.ablations for p in sparse]


def add_arguments(parser) -> None:
    parser.add_argument("--data", type=Path, help="a data folder made by `sbnc-train prepare`")
    parser.add_argument("--out", type=Path, required=True, help="the folder of the runs and of the report")
    parser.add_argument("--size", choices=SIZES, default="claim")
    parser.add_argument("--layout", default="sparse-bitnet")
    parser.add_argument("--weights", nargs="+", choices=("ternary", "bf16"), default=["ternary", "bf16"])
    parser.add_argument("--nm", nargs="+", default=["none", "2:4", "6:8", "3:8"])
    parser.add_argument("--ablations", nargs="*", choices=ABLATIONS, default=[], help="variants of the ternary runs")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--gpus", type=int, default=1, help="processes of a run")
    parser.add_argument("--train", nargs=argparse.REMAINDER, default=[], help="more options of `sbnc-train train`; last")
    parser.add_argument("--sbnc", default=os.environ.get("SBNC") or shutil.which("sbnc"), help="the sbnc command (default: SBNC, or on the path)")
    parser.add_argument("--text", type=Path, help="the text that compiled files are scored on (default: held_out.txt of the data)")
    parser.add_argument("--report-only", action="store_true", help="make the report of the runs that there are")


def run(arguments) -> None:
    if not arguments.report_only:
        if arguments.data is None:
            raise SystemExit("--data: expected a data folder")
        if arguments.sbnc is None and "ternary" in arguments.weights:
            raise SystemExit("--sbnc: expected the sbnc command, which scores the compiled models: set SBNC to it")
        planned, scored = cases(arguments), []
        with ThreadPoolExecutor(1) as beside:
            for i, case in enumerate(planned, 1):
                print(f"[{i}/{len(planned)}] {case.name}", file=sys.stderr, flush=True)
                train(case, arguments)
                scored.append(beside.submit(score, case, arguments))
        for done in scored:
            done.result()
    report(arguments.out)
    print((arguments.out / "table.md").read_text())


def train(case: Case, arguments) -> None:
    folder = arguments.out / case.name
    if (folder / "result.json").exists():
        return
    start = [sys.executable, "-m"]
    if arguments.gpus > 1:
        start += ["torch.distributed.run", "--standalone", "--nproc-per-node", str(arguments.gpus), "-m"]
    options = ["--data", str(arguments.data), "--out", str(folder), "--layout", arguments.layout, *SIZES[arguments.size].split()]
    # What a run prints is in its folder too, and is not the result of this command.
    subprocess.run([*start, "sbnc_train.cli", "train", *options, *case.options(), *arguments.train], check=True, stdout=subprocess.DEVNULL)


def score(case: Case, arguments) -> None:
    """Scores the exported checkpoint by PyTorch and the compiled file by sbnc, on the same text, and keeps the report of the compilation."""
    from . import export
    from .score import perplexity

    folder = arguments.out / case.name
    path = folder / "score.json"
    if path.exists():
        return
    exported, steps = export.read_run(folder)
    # What a mask was chosen by cannot be exported, only scored: with the result of training.
    scores = {"zeros": zeros(exported), "text_perplexity": None, "compiled_perplexity": None}
    if exported.rule.mask_from == "latent":
        text = arguments.text or arguments.data / "held_out.txt"
        export.write(folder / "export", "hf", exported, steps=steps, data=arguments.data)
        found = perplexity(folder / "export", text, None)
        scores["text_perplexity"] = found["perplexity"]
        compiled = folder / "model.sbnc"
        # A BF16 model has no ternary weights to run; compiled by force it shows how its weights are distributed.
        force = [] if exported.rule.ternary else ["--force-quantize"]
        sbnc(arguments, "compile", folder / "export", "-o", compiled, "--report", folder / "compile.html", *force)
        if exported.rule.ternary:
            theirs = sbnc(arguments, "ppl", compiled, "--text", text, "--context", str(found["context"]))
            if theirs["targets"] != found["targets"]:
                raise SystemExit(f"{case.name}: PyTorch scored {found['targets']} tokens, sbnc {theirs['targets']}")
            scores["compiled_perplexity"] = theirs["perplexity"]
    write_atomically(path, (json.dumps(scores, indent=1) + "\n").encode())
    report(arguments.out)


def zeros(exported) -> float:
    """Share of the linear weights that are zero: quantised and masked; for BF16 what the mask drops."""
    from .linear import ternarize

    zero = total = 0
    for linear in exported.model().linears().values():
        kept = linear.mask() & (ternarize(linear.weight, linear.parts, linear.rule)[0] != 0) if linear.rule.ternary else linear.mask()
        zero += (~kept).sum().item()
        total += kept.numel()
    return zero / total


def sbnc(arguments, *call: str | Path) -> dict:
    done = subprocess.run([arguments.sbnc, *call, "--json"], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"sbnc {' '.join(map(str, call))}: {done.stderr}")
    return json.loads(done.stdout)


def rows(out: Path) -> list[dict]:
    """The complete runs below a folder."""
    found = []
    for path in sorted(out.glob("*/score.json")):
        result, scores, config = (json.loads((path.parent / name).read_text()) for name in ("result.json", "score.json", "config.json"))
        rule, training = config["rule"], config["training"]
        variants = {"trit-mask": rule["mask_from"] != "latent", "no-masked-gradient": not rule["masked_gradient"], "dense-to-sparse": training["dense_share"] > 0}
        found.append({
            "weights": "ternary" if rule["ternary"] else "bf16",
            "pattern": ":".join(map(str, rule["pattern"])) if rule["pattern"] else "none",
            "variant": "+".join(name for name, there in variants.items() if there),
            "seed": training["seed"],
            "steps": result["steps"],
            "tokens": result["tokens"],
            "parameters": result["parameters"],
            "loss": result["held_out_loss"],
            "perplexity": result["held_out_perplexity"],
            **{name: scores[name] for name in ("text_perplexity", "compiled_perplexity", "zeros")},
        })  # fmt: skip
    return found


def report(out: Path) -> None:
    found = rows(out)
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(found)
    write_atomically(out / "results.csv", text.getvalue().encode())
    write_atomically(out / "table.md", table(found).encode())
    if found:
        plot(found, out / "perplexity.png")


def density(pattern: str) -> float:
    if pattern == "none":
        return 1.0
    n, m = map(int, pattern.split(":"))
    return n / m


def summary(found: list[dict]) -> dict[tuple[str, str], dict[str, tuple[float, float, list[dict]]]]:
    """By weights and variant, and by pattern: the mean perplexity of the seeds, its change against dense runs of the same seeds, and the runs."""
    groups: dict[tuple[str, str], dict[str, list[dict]]] = {}
    for row in found:
        groups.setdefault((row["weights"], row["variant"]), {}).setdefault(row["pattern"], []).append(row)
    result = {}
    for (weights, variant), patterns in groups.items():
        dense = {row["seed"]: row["perplexity"] for row in groups.get((weights, ""), {}).get("none", [])}
        result[weights, variant] = {}
        for pattern, runs in sorted(patterns.items(), key=lambda item: -density(item[0])):
            changes = [row["perplexity"] / dense[row["seed"]] - 1 for row in runs if row["seed"] in dense]
            change = statistics.mean(changes) if changes else float("nan")
            result[weights, variant][pattern] = (statistics.mean(row["perplexity"] for row in runs), change, runs)
    return result


def table(found: list[dict]) -> str:
    """Markdown: a line for each kind of run, with the figures of the paper beside those that it has."""
    lines = [
        "| weights | pattern | variant | seeds | perplexity | against dense | paper | text, PyTorch | text, sbnc | zeros |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (weights, variant), patterns in sorted(summary(found).items(), key=lambda item: (item[0][0] != "ternary", item[0][1])):
        for pattern, (mean, change, runs) in patterns.items():
            paper = f"{100 * PAPER[weights]:+.1f} %" if pattern == "2:4" and not variant else ""
            shown = "" if change != change or pattern == "none" and not variant else f"{100 * change:+.1f} %"
            columns = [average(runs, name) for name in ("text_perplexity", "compiled_perplexity")]
            zero = f"{100 * statistics.mean(row['zeros'] for row in runs):.1f} %"
            spread = f" ± {statistics.stdev(row['perplexity'] for row in runs):.3f}" if len(runs) > 1 else ""
            seeds = ", ".join(str(row["seed"]) for row in runs)
            lines.append(f"| {weights} | {pattern} | {variant} | {seeds} | {mean:.3f}{spread} | {shown} | {paper} | {columns[0]} | {columns[1]} | {zero} |")
    return "\n".join(lines) + "\n"


def average(runs: list[dict], name: str) -> str:
    values = [row[name] for row in runs if row[name] is not None]
    return f"{statistics.mean(values):.3f}" if values else "–"


def plot(found: list[dict], out: Path) -> None:
    """Perplexity relative to dense over the share of weights that a pattern keeps."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4), constrained_layout=True)
    for (weights, variant), patterns in sorted(summary(found).items()):
        points = [(density(pattern), 1 + change, pattern) for pattern, (_, change, _) in patterns.items() if change == change]
        if points:
            axes.plot([x for x, _, _ in points], [y for _, y, _ in points], "o-", label=f"{weights} {variant}".strip())
            for x, y, pattern in points:
                axes.annotate("dense" if pattern == "none" else pattern, (x, y), textcoords="offset points", xytext=(4, 4), fontsize=8)
    axes.set(xlabel="share of weights that the pattern keeps", ylabel="held-out perplexity, relative to dense")
    axes.invert_xaxis()
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend()
    figure.savefig(out, dpi=120)
    pyplot.close(figure)
