"""What changes while a model trains: learning rate, weight decay, and the rule of its linear layers."""

import math
from dataclasses import dataclass

from .linear import Rule

SHAPES = ("cosine", "trapezoid")


@dataclass(frozen=True)
class Schedule:
    """Both shapes begin with a linear warm-up. `cosine` then falls all the way. `trapezoid` stays at its peak until the cool-down, the last `cooldown` of the
    steps, and falls in a straight line; until then the number of steps may still be changed, as nothing has depended on it."""

    steps: int
    shape: str
    peak: float
    last: float
    warmup: int
    cooldown: float
    decay: float
    dense_share: float = 0.0

    @property
    def falls_from(self) -> int:
        """The step at which the rate begins to fall."""
        return self.warmup if self.shape == "cosine" else max(self.warmup, round(self.steps * (1 - self.cooldown)))

    def learning_rate(self, step: int) -> float:
        if step < self.warmup:
            return self.peak * (step + 1) / self.warmup
        done = min(1.0, max(0, step - self.falls_from) / max(1, self.steps - self.falls_from))
        left = 0.5 * (1 + math.cos(math.pi * done)) if self.shape == "cosine" else 1 - done
        return self.last + (self.peak - self.last) * left

    def weight_decay(self, step: int) -> float:
        """Full at first, then none: ternary latents need room to leave their threshold late in training."""
        until = self.steps // 2 if self.shape == "cosine" else self.falls_from
        return self.decay if step < until else 0.0

    def rule(self, step: int, final: Rule) -> Rule:
        """`dense_share` of the steps are dense before sparsity begins: 0 is sparse from scratch, which the paper found best."""
        return final.dense() if step < self.dense_share * self.steps else final
