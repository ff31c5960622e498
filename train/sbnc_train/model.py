"""Decoders in two layouts that sbnc compiles.

| | `sparse-bitnet` | `bitnet` |
|---|---|---|
| like | the models of the Sparse-BitNet trainer | microsoft/bitnet-b1.58-2B-4T |
| gate of the feed-forward layer | SiLU | squared ReLU |
| norms | before attention and feed-forward | also on the input of `wo` and of `w2` |
| rotary embedding | pairs of neighbours | pairs half a head apart |
| head | a matrix of its own | the embedding |

Embeddings, norms and the head are never quantised.
"""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .linear import Rule, SparseBitLinear, wide

LAYOUTS = ("sparse-bitnet", "bitnet")


@dataclass(frozen=True)
class Shape:
    """The sizes of a model."""

    layout: str = "bitnet"
    vocab: int = 2048
    hidden: int = 256
    intermediate: int = 640
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    context: int = 512
    norm_eps: float = 1e-5
    rope_theta: float = 10_000.0

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise ValueError(f"expected one of the layouts {', '.join(LAYOUTS)}, found {self.layout}")
        if self.hidden % (2 * self.heads) or self.heads % self.kv_heads:
            raise ValueError(f"expected heads that divide the width into even heads, found {self.heads} for {self.hidden}, {self.kv_heads} of keys")

    @property
    def head_dim(self) -> int:
        return self.hidden // self.heads

    @property
    def tied(self) -> bool:
        return self.layout == "bitnet"

    def to_json(self) -> dict:
        return asdict(self)


class Norm(nn.Module):
    """Root mean square norm in float32, or in the float64 of its input."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(wide(x), self.weight.shape, self.weight, self.eps)


def angles(shape: Shape) -> tuple[Tensor, Tensor]:
    """Cosines and sines, positions × half a head."""
    half = torch.arange(0, shape.head_dim, 2, dtype=torch.float64) / shape.head_dim
    turns = torch.outer(torch.arange(shape.context, dtype=torch.float64), shape.rope_theta**-half)
    return turns.cos().float(), turns.sin().float()


def rotate(x: Tensor, cos: Tensor, sin: Tensor, neighbours: bool) -> Tensor:
    """Turns the pairs of every head; `x` is batch × heads × positions × width."""
    a, b = (x[..., 0::2], x[..., 1::2]) if neighbours else x.chunk(2, -1)
    turned = (a * cos - b * sin, b * cos + a * sin)
    return torch.stack(turned, -1).flatten(-2) if neighbours else torch.cat(turned, -1)


class Attention(nn.Module):
    def __init__(self, shape: Shape, rule: Rule) -> None:
        super().__init__()
        self.shape = shape
        self.sizes = [shape.hidden, shape.kv_heads * shape.head_dim, shape.kv_heads * shape.head_dim]
        self.wqkv = SparseBitLinear(shape.hidden, self.sizes, rule)
        self.wo = SparseBitLinear(shape.hidden, [shape.hidden], rule)
        self.sub_norm = Norm(shape.hidden, shape.norm_eps) if shape.layout == "bitnet" else nn.Identity()

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        shape = self.shape
        neighbours = shape.layout == "sparse-bitnet"
        q, k, v = (part.unflatten(-1, (-1, shape.head_dim)).transpose(1, 2) for part in self.wqkv(x).split(self.sizes, -1))
        q, k = (rotate(wide(part), cos, sin, neighbours).to(v.dtype) for part in (q, k))
        repeat = shape.heads // shape.kv_heads
        k, v = (part.repeat_interleave(repeat, 1) if repeat > 1 else part for part in (k, v))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.wo(self.sub_norm(mixed.transpose(1, 2).flatten(-2)))


class FeedForward(nn.Module):
    def __init__(self, shape: Shape, rule: Rule) -> None:
        super().__init__()
        self.squared = shape.layout == "bitnet"
        self.w13 = SparseBitLinear(shape.hidden, [shape.intermediate, shape.intermediate], rule)
        self.w2 = SparseBitLinear(shape.intermediate, [shape.hidden], rule)
        self.sub_norm = Norm(shape.intermediate, shape.norm_eps) if self.squared else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.w13(x).chunk(2, -1)
        gate = F.relu(gate).square() if self.squared else F.silu(gate)
        return self.w2(self.sub_norm(gate * up))


class Block(nn.Module):
    def __init__(self, shape: Shape, rule: Rule) -> None:
        super().__init__()
        self.attention_norm = Norm(shape.hidden, shape.norm_eps)
        self.attention = Attention(shape, rule)
        self.ffn_norm = Norm(shape.hidden, shape.norm_eps)
        self.feed_forward = FeedForward(shape, rule)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x), cos, sin)
        return x + self.feed_forward(self.ffn_norm(x))


class Model(nn.Module):
    """A decoder. Names of parameters are those of the Sparse-BitNet trainer; `export` renames them for other layouts."""

    def __init__(self, shape: Shape, rule: Rule) -> None:
        super().__init__()
        self.shape = shape
        self.tok_embeddings = nn.Embedding(shape.vocab, shape.hidden)
        self.layers = nn.ModuleList(Block(shape, rule) for _ in range(shape.layers))
        self.norm = Norm(shape.hidden, shape.norm_eps)
        if not shape.tied:
            self.output = nn.Linear(shape.hidden, shape.vocab, bias=False)
        for name, turn in zip(("cos", "sin"), angles(shape)):
            self.register_buffer(name, turn, persistent=False)
        self.initialize()

    def initialize(self) -> None:
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                # Outputs that are added to the stream start smaller, by the number of additions.
                added = name.endswith(("wo.weight", "w2.weight"))
                nn.init.normal_(parameter, std=0.02 / (2 * self.shape.layers) ** 0.5 if added else 0.02)

    def linears(self) -> dict[str, SparseBitLinear]:
        return {name: module for name, module in self.named_modules() if isinstance(module, SparseBitLinear)}

    def set_rule(self, rule: Rule) -> None:
        for linear in self.linears().values():
            linear.rule = rule

    def forward(self, tokens: Tensor) -> Tensor:
        length = tokens.shape[1]
        x = self.tok_embeddings(tokens)
        cos, sin = self.cos[:length], self.sin[:length]
        for layer in self.layers:
            x = layer(x, cos, sin)
        return F.linear(self.norm(x), self.tok_embeddings.weight if self.shape.tied else self.output.weight)
