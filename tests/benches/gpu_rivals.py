#!/usr/bin/env python3
"""Times what others offer on an NVIDIA GPU, through PyTorch, beside `gpu_tests time` and `sbnc bench --device cuda`.

    gpu_rivals.py layers     cuSPARSELt int8 2:4 (the best algorithm), fp8, int8 and bf16 through cuBLASLt, for the shapes of `gpu_tests`
    gpu_rivals.py model      BitNet b1.58 2B-4T's shape in bf16: prefill, and decoding as one CUDA graph of a compiled step

Windows are the median of three of `--window` milliseconds (30, as those of `gpu_tests time "as chosen"`); weights are rotated through 400 MB, so that none is read from
a cache. Needs a PyTorch with cuSPARSELt.
"""

import argparse
import statistics

import torch
from torch.nn import functional as F

SHAPES = [(3840, 2560), (2560, 2560), (13824, 2560), (2560, 6912), (37888, 3584), (8192, 8192)]
TOKENS = [16, 64, 256, 1024, 4096, 16384]
ROTATED = 400e6
# Of BitNet b1.58 2B-4T.
LAYERS, HIDDEN, HEADS, KV_HEADS, DIM, INNER, VOCAB = 30, 2560, 20, 5, 128, 6912, 128256


def captured(calls) -> torch.cuda.CUDAGraph:
    """All calls as one graph, after each was made once on a stream of its own."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for call in calls:
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for call in calls:
            call()
    return graph


def milliseconds(launch, window: float) -> float:
    """Median over three windows of the time of a launch."""
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)

    def times(rounds: int) -> float:
        begin.record()
        for _ in range(rounds):
            launch()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / rounds

    times(1)
    rounds = max(1, int(window / times(2)))
    return statistics.median(times(rounds) for _ in range(3))


def of_each(calls, window: float) -> float:
    """Microseconds of one call, over a graph that makes all of them, 60 at least."""
    calls = calls * -(-60 // len(calls))
    return 1e3 * milliseconds(captured(calls).replay, window) / len(calls)


def ternary(rows: int, cols: int) -> torch.Tensor:
    """Random trits, 2 of every 4 zero."""
    signs = torch.randint(0, 2, (rows, cols // 4, 4), device="cuda", dtype=torch.int8) * 2 - 1
    kept = torch.rand(rows, cols // 4, 4, device="cuda").argsort(-1) < 2
    return (signs * kept).reshape(rows, cols).contiguous()


def layers(window: float) -> None:
    print("| layer | tokens | cuSPARSELt | fp8 | int8 | bf16 |\n|---|---|---|---|---|---|")
    one = torch.ones((), device="cuda")
    for rows, cols in SHAPES:
        weights = [ternary(rows, cols) for _ in range(max(2, min(24, int(ROTATED // (rows * cols)) + 1)))]
        sparse = [torch._cslt_compress(w) for w in weights]
        fp8 = [w.to(torch.bfloat16).to(torch.float8_e4m3fn) for w in weights]
        for tokens in TOKENS:
            x = torch.randint(-127, 128, (tokens, cols), device="cuda", dtype=torch.int8)
            padded = F.pad(x, (0, 0, 0, max(0, 32 - tokens)))
            x8, x16 = (x.float() / 127).to(torch.float8_e4m3fn), x.to(torch.bfloat16)
            best = torch._cslt_sparse_mm_search(sparse[0], x.t(), out_dtype=torch.bfloat16)
            halves = [w.to(torch.bfloat16) for w in weights[: max(2, int(ROTATED // (2 * rows * cols)) + 1)]]
            times = [
                of_each([lambda w=w: torch._cslt_sparse_mm(w, x.t(), out_dtype=torch.bfloat16, alg_id=best) for w in sparse], window),
                of_each([lambda w=w: torch._scaled_mm(x8, w.t(), scale_a=one, scale_b=one, out_dtype=torch.bfloat16) for w in fp8], window),
                of_each([lambda w=w: torch._int_mm(padded, w.t()) for w in weights], window),
                of_each([lambda w=w: torch.mm(x16, w.t()) for w in halves], window),
            ]
            print(f"| {rows}×{cols} | {tokens} | " + " | ".join(f"{t:.1f}" for t in times) + " |", flush=True)


class Model(torch.nn.Module):
    """The shape in bf16: norms, sub-norms, rotation, squared ReLU, a head that is the embedding."""

    def __init__(self, sequences: int, context: int) -> None:
        super().__init__()
        matrix = lambda rows, cols: torch.nn.Parameter(torch.randn(rows, cols, device="cuda", dtype=torch.bfloat16) * cols**-0.5, requires_grad=False)
        self.embedding = matrix(VOCAB, HIDDEN)
        self.qkv = torch.nn.ParameterList(matrix((HEADS + 2 * KV_HEADS) * DIM, HIDDEN) for _ in range(LAYERS))
        self.out = torch.nn.ParameterList(matrix(HIDDEN, HEADS * DIM) for _ in range(LAYERS))
        self.gate_up = torch.nn.ParameterList(matrix(2 * INNER, HIDDEN) for _ in range(LAYERS))
        self.down = torch.nn.ParameterList(matrix(HIDDEN, INNER) for _ in range(LAYERS))
        angles = torch.arange(context)[:, None] * 500000.0 ** (-torch.arange(0, DIM, 2) / DIM)
        self.register_buffer("cos", angles.cos().cuda())
        self.register_buffer("sin", angles.sin().cuda())
        self.cache = [torch.zeros(2, sequences, KV_HEADS, context, DIM, device="cuda", dtype=torch.bfloat16) for _ in range(LAYERS)]
        self.keys = torch.arange(context, device="cuda")

    @staticmethod
    def norm(x: torch.Tensor) -> torch.Tensor:
        return F.rms_norm(x, x.shape[-1:])

    def rotate(self, x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        a, b = x.float().chunk(2, -1)
        cos, sin = self.cos[positions], self.sin[positions]
        return torch.cat([a * cos - b * sin, b * cos + a * sin], -1).to(x.dtype)

    def forward(self, ids: torch.Tensor, positions: torch.Tensor, causal: bool) -> torch.Tensor:
        """Logits of the last position of every sequence; `positions` are those of all of them."""
        x = self.embedding[ids]
        batch, length = ids.shape
        for layer in range(LAYERS):
            q, k, v = F.linear(self.norm(x), self.qkv[layer]).view(batch, length, -1, DIM).transpose(1, 2).split([HEADS, KV_HEADS, KV_HEADS], 1)
            q, k = self.rotate(q, positions), self.rotate(k, positions)
            keys, values = self.cache[layer]
            keys.index_copy_(2, positions, k)
            values.index_copy_(2, positions, v)
            if causal:
                attended = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
            else:
                attended = F.scaled_dot_product_attention(q, keys, values, attn_mask=(self.keys <= positions)[None, None, None, :], enable_gqa=True)
            x = x + F.linear(self.norm(attended.transpose(1, 2).reshape(batch, length, -1)), self.out[layer])
            gate, up = F.linear(self.norm(x), self.gate_up[layer]).chunk(2, -1)
            x = x + F.linear(self.norm(F.relu(gate).square() * up), self.down[layer])
        return F.linear(self.norm(x[:, -1]), self.embedding)


@torch.no_grad()
def model(window: float) -> None:
    for sequences in (1, 64):
        context = 512
        m = Model(sequences, context)
        ids = torch.zeros(sequences, 1, dtype=torch.long, device="cuda")
        position = torch.zeros(1, dtype=torch.long, device="cuda")
        compiled = torch.compile(m)

        def step() -> None:
            ids.copy_(compiled(ids, position, False).argmax(-1, keepdim=True))
            position.add_(1).remainder_(context)

        for _ in range(3):
            step()
        graph = captured([step])
        print(f"decode, {sequences} sequences, from an empty context to {context}: {sequences * 1e3 / milliseconds(graph.replay, max(window, 500)):.0f} tokens/s", flush=True)
    m = Model(1, 4096)
    ids, positions = torch.randint(0, VOCAB, (1, 4096), device="cuda"), torch.arange(4096, device="cuda")
    compiled = torch.compile(m)
    for _ in range(3):
        compiled(ids, positions, True)
    print(f"prefill of 4096: {4096e3 / milliseconds(lambda: compiled(ids, positions, True), max(window, 300)):.0f} tokens/s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("layers", "model"))
    parser.add_argument("--window", type=float, default=30.0, help="milliseconds")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    print(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}")
    {"layers": layers, "model": model}[arguments.what](arguments.window)


main()
