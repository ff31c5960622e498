"""How masks and trits of a model move while it trains."""

import torch

from .linear import ternarize
from .model import Model


class MaskWatch:
    """Compares the masks of all linear layers with those of the look before."""

    COLUMNS = ["flip_rate", "zero_share", "zero_share_before_mask"]

    def __init__(self, model: Model) -> None:
        self.model = model
        self.masks: dict[str, torch.Tensor] = {}

    @torch.no_grad()
    def look(self, step: int) -> dict[str, float] | None:
        """The share of weights that went in or out since the last look, and the share of zeros with and without the mask; `None` for a dense model
        and at the first look."""
        # Sums stay on their device to the end: to read one is to wait for it.
        flips = zeros = before = total = 0
        first = not self.masks
        for name, linear in self.model.linears().items():
            if linear.rule.pattern is None:
                self.masks = {}
                return None
            mask = linear.mask()
            if not first:
                flips += (mask != self.masks[name]).sum()
            self.masks[name] = mask
            total += mask.numel()
            if linear.rule.ternary:
                trits = ternarize(linear.weight, linear.parts, linear.rule.dense())[0]
                before += (trits == 0).sum()
                zeros += (trits * mask == 0).sum()
            else:
                zeros += (~mask).sum()
        if first:
            return None
        return {"flip_rate": float(flips) / total, "zero_share": float(zeros) / total, "zero_share_before_mask": float(before) / total}
