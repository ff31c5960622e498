"""Linear layers of the two kinds that are compared: ternary with N:M sparsity, and plain with N:M sparsity.

Ternary, for every part of a fused matrix (q, k, v; gate, up), and on every forward pass:

1. scale = max(mean |W|, 1e-5) over all latent weights of the part, also those that the mask will drop;
2. trit  = clamp(round(W / scale), -1, 1), half to even;
3. mask  = the N largest |W| of every M consecutive inputs, the lower index winning a tie: of the *latent* weights, computed anew every time;
4. input = clamp(round(x * a), -128, 127) with a = 127 / max |x| of its token.

The product is one of integers, so it is exact in float32 and, before its output is rounded, in bfloat16 too: y = (trit * mask) input * scale / a.
That is what the compiled file computes, so this forward pass is its oracle.

Going back, both rounding steps and the mask are passed straight through: the gradient of W is that of a dense layer, so a weight that is masked now can
grow until it is not (see `Rule` for what happens otherwise).

The latent weight is rounded to bfloat16 before anything else, because that is how a checkpoint stores it: what was trained is what is exported.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

SMALLEST = 1e-5


@dataclass(frozen=True)
class Rule:
    """What a linear layer does to its weight. The last two fields are the ablations of Sparse-BitNet's paper, which train worse."""

    ternary: bool = True
    pattern: tuple[int, int] | None = None
    mask_from: str = "latent"
    masked_gradient: bool = True

    def __post_init__(self) -> None:
        if self.pattern is not None and not 0 < self.pattern[0] < self.pattern[1]:
            raise ValueError(f"expected a pattern N:M with 0 < N < M, found {self.pattern[0]}:{self.pattern[1]}")
        if self.mask_from not in ("latent", "quantized"):
            raise ValueError(f"expected a mask from `latent` or `quantized`, found {self.mask_from}")

    def dense(self) -> "Rule":
        """The same without sparsity: the first phase of a dense-to-sparse schedule."""
        return Rule(ternary=self.ternary)


def nm_mask(weight: Tensor, n: int, m: int) -> Tensor:
    """Which weights are among the `n` largest magnitudes of their group of `m` inputs; the lower index wins a tie."""
    groups = weight.abs().unflatten(-1, (-1, m))
    lanes = groups.unbind(-1)
    if m <= 8:
        # Ranks by comparison: m(m-1)/2 passes over a part of the data, far faster than a sort of tiny rows.
        ranks = [torch.zeros_like(lanes[0], dtype=torch.uint8) for _ in lanes]
        for i in range(m):
            for j in range(i + 1, m):
                later_wins = lanes[j] > lanes[i]
                ranks[i] += later_wins
                ranks[j] += ~later_wins
        return torch.stack([rank < n for rank in ranks], -1).flatten(-2)
    order = groups.argsort(dim=-1, descending=True, stable=True)
    mask = torch.zeros_like(groups, dtype=torch.bool)
    return mask.scatter_(-1, order[..., :n], True).flatten(-2)


def wide(x: Tensor) -> Tensor:
    """In float32, or in float64 where a whole model is."""
    return x if x.dtype == torch.float64 else x.float()


def stored(weight: Tensor) -> Tensor:
    """The latent weight as a checkpoint keeps it."""
    return weight.detach().bfloat16().to(weight.dtype)


@torch.no_grad()
def ternarize(weight: Tensor, parts: list[int], rule: Rule) -> tuple[Tensor, Tensor]:
    """Masked trits as floats, and the scale of every output row."""
    latent = stored(weight)
    scales = torch.cat([part.abs().mean().clamp(min=SMALLEST).expand(len(part)) for part in latent.split(parts)])
    # A multiplication by the reciprocal, as the original has it.
    trits = (latent * (1.0 / scales).unsqueeze(1)).round_().clamp_(-1, 1)
    if rule.pattern is not None:
        trits *= nm_mask(latent if rule.mask_from == "latent" else trits, *rule.pattern)
    return trits, scales


def quantize(x: Tensor) -> tuple[Tensor, Tensor]:
    """Inputs as integers from -128 to 127, and the factor of every token that made them so."""
    x = wide(x)
    factor = 127.0 / x.abs().amax(-1, keepdim=True).clamp(min=SMALLEST)
    return (x * factor).round_().clamp_(-128, 127), factor


class TernaryProduct(torch.autograd.Function):
    """Quantise, multiply, scale; see the module for the rule, and for what its gradient is."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, trits: Tensor, scales: Tensor, keep: Tensor | None, dtype: torch.dtype) -> Tensor:
        integers, factor = quantize(x)
        integers, trits = integers.to(dtype), trits.to(dtype)
        ctx.save_for_backward(integers, factor, trits, scales, keep)
        ctx.input_dtype = x.dtype
        return (wide(integers @ trits.t()) * (scales / factor)).to(dtype)

    @staticmethod
    def backward(ctx, grad: Tensor):
        integers, factor, trits, scales, keep = ctx.saved_tensors
        grad = grad.float()
        grad_x = (grad * scales).to(trits.dtype) @ trits
        rows = (grad / factor).to(trits.dtype).flatten(0, -2)
        grad_weight = (rows.t() @ integers.flatten(0, -2)).float()
        if keep is not None:
            grad_weight *= keep
        return grad_x.to(ctx.input_dtype), grad_weight, None, None, None, None


class MaskedWeight(torch.autograd.Function):
    """The weight without what a mask drops, with or without a gradient for that."""

    @staticmethod
    def forward(ctx, weight: Tensor, mask: Tensor, masked_gradient: bool) -> Tensor:
        ctx.save_for_backward(None if masked_gradient else mask)
        return weight * mask

    @staticmethod
    def backward(ctx, grad: Tensor):
        (mask,) = ctx.saved_tensors
        return grad if mask is None else grad * mask, None, None


class SparseBitLinear(nn.Module):
    """A bias-free linear layer under a `Rule`. `parts` are the outputs of matrices fused into this one."""

    def __init__(self, inputs: int, parts: list[int], rule: Rule) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(sum(parts), inputs))
        self.parts = parts
        self.rule = rule

    @property
    def rule(self) -> Rule:
        return self._rule

    @rule.setter
    def rule(self, rule: Rule) -> None:
        inputs = self.weight.shape[1]
        if rule.pattern is not None and inputs % rule.pattern[1]:
            raise ValueError(f"expected inputs in whole groups of {rule.pattern[1]}, found {inputs}")
        self._rule = rule

    def forward(self, x: Tensor) -> Tensor:
        rule, device = self.rule, x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else self.weight.dtype
        if rule.ternary:
            trits, scales = ternarize(self.weight, self.parts, rule)
            keep = None if rule.masked_gradient or rule.pattern is None else self.mask()
            return TernaryProduct.apply(x, self.weight, trits, scales, keep, dtype)
        weight = self.weight
        if rule.pattern is not None:
            weight = MaskedWeight.apply(weight, self.mask(), rule.masked_gradient)
        return nn.functional.linear(x.to(dtype), weight.to(dtype))

    @torch.no_grad()
    def mask(self) -> Tensor:
        """Which weights take part now; all, where there is no pattern."""
        latent = stored(self.weight)
        if self.rule.pattern is None:
            return torch.ones_like(latent, dtype=torch.bool)
        if self.rule.ternary and self.rule.mask_from == "quantized":
            latent = ternarize(self.weight, self.parts, self.rule.dense())[0]
        return nm_mask(latent, *self.rule.pattern)
