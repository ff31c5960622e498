"""The state of a run, from which it goes on as if it had not stopped, and the curves that it leaves as CSV.

`state.pt` in the run's folder is replaced as a whole, so a run that is killed while it saves goes on from the save before. The CSV files are rewritten
to the step of the state, so no step is in them twice.
"""

import csv
import io
from pathlib import Path

import torch

from .files import write_atomically

STATE = "state.pt"


def save(folder: Path, state: dict) -> None:
    write_atomically(folder / STATE, lambda file: torch.save(state, file))


def load(folder: Path) -> dict | None:
    path = folder / STATE
    return torch.load(path, map_location="cpu", weights_only=True) if path.exists() else None


class Curve:
    """Rows of numbers by step, in a CSV file."""

    def __init__(self, path: Path, columns: list[str], resume_at: int) -> None:
        self.path, self.columns = path, ["step", *columns]
        kept = [row for row in read_curve(path) if int(row["step"]) <= resume_at] if path.exists() else []
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns)
        writer.writeheader()
        writer.writerows(kept)
        write_atomically(path, text.getvalue().encode())

    def add(self, step: int, **values: float) -> None:
        with open(self.path, "a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self.columns).writerow({"step": step} | {key: f"{value:.6g}" for key, value in values.items()})


def read_curve(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
