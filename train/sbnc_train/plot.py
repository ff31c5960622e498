"""`sbnc-train plot`: the curves of runs as PNG or SVG."""

import math
from pathlib import Path

from .checkpoint import read_curve


def add_arguments(parser) -> None:
    parser.add_argument("runs", nargs="+", type=Path, help="run folders")
    parser.add_argument("--out", type=Path, required=True, help="the picture to write")


def run(arguments) -> None:
    curves(arguments.runs, arguments.out)


def curves(runs: list[Path], out: Path) -> None:
    """Loss on the left, mask flip rate and zeros on the right."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (losses, masks) = pyplot.subplots(1, 2, figsize=(11, 4), constrained_layout=True)
    for color, run_folder in enumerate(runs):
        style = {"color": f"C{color % 10}"}
        rows = read_curve(run_folder / "loss.csv")
        losses.plot(column(rows, "tokens"), column(rows, "loss"), alpha=0.4, linewidth=0.8, **style)
        scored = [row for row in rows if not math.isnan(float(row["held_out_loss"]))]
        losses.plot(column(scored, "tokens"), column(scored, "held_out_loss"), label=run_folder.name, **style)
        rows = read_curve(run_folder / "masks.csv")
        masks.plot(column(rows, "step"), column(rows, "flip_rate"), label=f"{run_folder.name}: flip rate", **style)
        masks.plot(column(rows, "step"), column(rows, "zero_share"), linestyle="--", label=f"{run_folder.name}: zeros", **style)
    losses.set(xlabel="tokens", ylabel="loss, nats a token (pale: training, strong: held out)")
    masks.set(xlabel="step", ylabel="share of weights", yscale="log")
    for axes in (losses, masks):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.savefig(out, dpi=120)
    pyplot.close(figure)


def column(rows: list[dict[str, str]], name: str) -> list[float]:
    return [float(row[name]) for row in rows]
