"""`sbnc-train ppl` and `sbnc-train logits`: an exported checkpoint by PyTorch, in float32 or float64. `sbnc ppl` and `sbnc run --logits` do the same with
the compiled file; the two agree, or one of them is wrong.
"""

import json
import math
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F

from . import export
from .data import BOS
from .model import Model


@torch.no_grad()
def windows_nll(model: Model, tokens: list[int], bos: int | None, context: int, device: str = "cpu") -> Tensor:
    """Negative log-likelihoods of the second halves of whole windows; the first token of a window is the one that begins a text. The convention of `sbnc ppl`."""
    if len(tokens) < context:
        raise SystemExit(f"expected at least {context} tokens, a whole window, found {len(tokens)}")
    found = []
    for start in range(0, len(tokens) - context + 1, context):
        window = tokens[start : start + context]
        if bos is not None:
            window = [bos, *window[1:]]
        window = torch.tensor([window], device=device)
        logits = model(window[:, :-1])[0]
        first = context // 2
        found.append(F.cross_entropy(logits[first:].double(), window[0, first + 1 :], reduction="none"))
    return torch.cat(found).cpu()


def perplexity(folder: Path, text: Path, context: int | None, device: str = "cpu", dtype: torch.dtype = torch.float32) -> dict:
    exported = export.read(folder)
    tokenizer = Tokenizer.from_file(str(folder / export.TOKENIZER))
    context = context or min(512, exported.shape.context)
    tokens = tokenizer.encode(text.read_text(encoding="utf-8")).ids
    nll = windows_nll(exported.model().to(device, dtype), tokens, tokenizer.token_to_id(BOS), context, device)
    return {"context": context, "targets": nll.numel(), "nll": nll.mean().item(), "perplexity": math.exp(nll.mean().item())}


def add_ppl_arguments(parser) -> None:
    parser.add_argument("--checkpoint", type=Path, required=True, help="a folder that `sbnc-train export` wrote")
    parser.add_argument("--text", type=Path, required=True, help="a UTF-8 text")
    parser.add_argument("--context", type=int, help="tokens of a window (default: the model's, at most 512)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--float64", action="store_true", help="in float64: does not depend on the order of sums")


def run_ppl(arguments) -> None:
    dtype = torch.float64 if arguments.float64 else torch.float32
    print(json.dumps(perplexity(arguments.checkpoint, arguments.text, arguments.context, arguments.device, dtype)))


def add_logits_arguments(parser) -> None:
    parser.add_argument("--checkpoint", type=Path, required=True, help="a folder that `sbnc-train export` wrote")
    parser.add_argument("--token-ids", required=True, help="such as 0,5,9")
    parser.add_argument("--out", type=Path, required=True, help="the safetensors file to write, with one tensor `logits`")


@torch.no_grad()
def run_logits(arguments) -> None:
    tokens = torch.tensor([[int(token) for token in arguments.token_ids.split(",")]])
    save_file({"logits": export.read(arguments.checkpoint).model()(tokens)[0].contiguous()}, arguments.out)
