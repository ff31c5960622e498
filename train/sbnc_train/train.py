"""`sbnc-train train`: one run, on a CPU, on a GPU, or on several under `torchrun`.

The run's folder holds `config.json`, `state.pt` (see `checkpoint`), `loss.csv`, `masks.csv` and, at the end, `result.json`. The same command goes on with a
run that was stopped.
"""

import contextlib
import json
import math
import os
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path

import torch
from torch import distributed
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from . import checkpoint
from .checkpoint import Curve
from .data import Batches
from .files import write_atomically
from .linear import Rule
from .masks import MaskWatch
from .model import LAYOUTS, Model, Shape
from .schedule import SHAPES, Schedule


def parse_pattern(text: str) -> tuple[int, int] | None:
    if text == "none":
        return None
    n, _, m = text.partition(":")
    if not (n.isdigit() and m.isdigit() and 0 < int(n) < int(m)):
        raise SystemExit(f"--nm: expected none or N:M with 0 < N < M, found {text}")
    return int(n), int(m)


def add_arguments(parser) -> None:
    parser.add_argument("--data", type=Path, required=True, help="a data folder made by `sbnc-train prepare`")
    parser.add_argument("--out", type=Path, required=True, help="the run's folder")
    shape = parser.add_argument_group("model")
    shape.add_argument("--layout", choices=LAYOUTS, default=Shape.layout)
    for name in ("hidden", "intermediate", "layers", "heads", "kv_heads", "context"):
        shape.add_argument(f"--{name.replace('_', '-')}", type=int, default=getattr(Shape, name))
    shape.add_argument("--rope-theta", type=float, default=Shape.rope_theta)
    rule = parser.add_argument_group("linear layers")
    rule.add_argument("--weights", choices=("ternary", "bf16"), default="ternary")
    rule.add_argument("--nm", default="2:4", help="none or N:M")
    rule.add_argument("--dense-share", type=float, default=0.0, help="share of the steps that are dense before sparsity begins")
    rule.add_argument("--mask-from", choices=("latent", "quantized"), default="latent", help="ablation: choose what to keep by the quantised weight")
    rule.add_argument("--no-masked-gradient", action="store_true", help="ablation: no gradient for weights that are masked")
    steps = parser.add_argument_group("training")
    steps.add_argument("--steps", type=int, default=1000)
    steps.add_argument("--batch", type=int, default=16, help="sequences of a micro-batch on one device")
    steps.add_argument("--accumulate", type=int, default=1, help="micro-batches of a step")
    steps.add_argument("--lr", type=float, default=2e-3)
    steps.add_argument("--last-lr", type=float, default=1e-5)
    steps.add_argument("--warmup", type=int, default=50)
    steps.add_argument("--schedule", choices=SHAPES, default="cosine")
    steps.add_argument("--cooldown", type=float, default=0.3, help="trapezoid: share of the steps in which the rate falls")
    steps.add_argument("--weight-decay", type=float, default=0.1)
    steps.add_argument("--clip", type=float, default=1.0)
    steps.add_argument("--seed", type=int, default=0)
    how = parser.add_argument_group("machine")
    how.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    how.add_argument("--threads", type=int, help="threads of the CPU")
    how.add_argument("--float32", action="store_true", help="no bfloat16 autocast")
    how.add_argument("--compile", action="store_true", help="torch.compile, which fuses the quantisation and the loss")
    how.add_argument("--save-minutes", type=float, default=5.0)
    how.add_argument("--log-every", type=int, default=10)
    how.add_argument("--eval-every", type=int, default=200)
    how.add_argument("--stop-at", type=int, help="stop after this step, as if interrupted")


def shape_of(arguments, vocab: int) -> Shape:
    names = ("layout", "hidden", "intermediate", "layers", "heads", "kv_heads", "context", "rope_theta")
    return Shape(vocab=vocab, **{name: getattr(arguments, name) for name in names})


def rule_of(arguments) -> Rule:
    return Rule(arguments.weights == "ternary", parse_pattern(arguments.nm), arguments.mask_from, not arguments.no_masked_gradient)


def config_of(arguments) -> dict:
    """What decides a run's result. It is kept beside the state, and another command does not go on with it."""
    data = json.loads((arguments.data / "data.json").read_text())
    names = ("steps", "batch", "accumulate", "lr", "last_lr", "warmup", "schedule", "cooldown", "weight_decay", "clip", "seed", "float32", "dense_share")
    return {
        "shape": shape_of(arguments, data["vocab"]).to_json(),
        "rule": asdict(rule_of(arguments)),
        "training": {name: getattr(arguments, name) for name in names} | {"devices": int(os.environ.get("WORLD_SIZE", "1"))},
        "data": data,
    }


def schedule_of(config: dict) -> Schedule:
    names = {"shape": "schedule", "peak": "lr", "last": "last_lr", "decay": "weight_decay"}
    fields = ("steps", "shape", "peak", "last", "warmup", "cooldown", "decay", "dense_share")
    return Schedule(**{field: config["training"][names.get(field, field)] for field in fields})


def may_go_on(before: dict, now: dict, step: int) -> bool:
    """Whether a run is the one that was stopped at `step`: nothing differs, or only a number of steps that has had no effect yet."""
    steps = {"steps": now["training"]["steps"]}
    if before | {"training": before["training"] | steps} != now:
        return False
    schedules = [schedule_of(before), schedule_of(now)]
    unused = schedules[0].shape == "trapezoid" and schedules[0].dense_share == 0 and all(step <= s.falls_from for s in schedules)
    return before == now or unused


def optimizer_of(model: Model, lr: float) -> torch.optim.AdamW:
    """Weight decay on matrices only."""
    matrices = [p for p in model.parameters() if p.ndim == 2]
    vectors = [p for p in model.parameters() if p.ndim != 2]
    groups = [{"params": matrices, "decays": True}, {"params": vectors, "decays": False, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.95), fused=True)


def autocast(device: str, enabled: bool):
    return torch.autocast(torch.device(device).type, dtype=torch.bfloat16) if enabled else contextlib.nullcontext()


def loss_of(model, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(model(inputs).flatten(0, 1).float(), targets.flatten())


def moved(batch: tuple[torch.Tensor, torch.Tensor], device: str) -> list[torch.Tensor]:
    """Copies a batch to a device; to a GPU without waiting for what it still has to do."""
    gpu = torch.device(device).type == "cuda"
    return [(part.pin_memory() if gpu else part).to(device, non_blocking=gpu) for part in batch]


@torch.no_grad()
def evaluate(model, batches: list, device: str, bf16: bool) -> float:
    """Mean loss over held-out windows."""
    model.eval()
    total = count = 0.0
    for batch in batches:
        inputs, targets = moved(batch, device)
        with autocast(device, bf16):
            total += loss_of(model, inputs, targets).item() * targets.numel()
        count += targets.numel()
    model.train()
    return total / count


class Run:
    def __init__(self, arguments) -> None:
        self.arguments = arguments
        self.rank, self.ranks = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
        self.device = arguments.device
        if self.ranks > 1:
            distributed.init_process_group("nccl" if self.device == "cuda" else "gloo")
            if self.device == "cuda":
                self.device = f"cuda:{os.environ['LOCAL_RANK']}"
                torch.cuda.set_device(self.device)
        if arguments.threads:
            torch.set_num_threads(arguments.threads)
        torch.manual_seed(arguments.seed)
        self.config = config_of(arguments)
        self.schedule = schedule_of(self.config)
        self.final_rule = rule_of(arguments)
        self.rule = self.schedule.rule(0, self.final_rule)
        self.model = Model(shape_of(arguments, self.config["data"]["vocab"]), self.rule).to(self.device)
        self.optimizer = optimizer_of(self.model, arguments.lr)
        self.batches = Batches(arguments.data / "train.bin", arguments.context, arguments.seed, self.rank)
        self.held_out = Batches(arguments.data / "held_out.bin", arguments.context, 0)
        self.watch = MaskWatch(self.model)
        self.step = 0
        self.seconds = 0.0
        self.resume()
        self.wrapped = DistributedDataParallel(self.model) if self.ranks > 1 else self.model
        self.loss_of = torch.compile(loss_of) if arguments.compile else loss_of
        if self.rank == 0:
            self.loss_curve = Curve(arguments.out / "loss.csv", ["loss", "held_out_loss", "lr", "tokens", "seconds"], self.step)
            self.mask_curve = Curve(arguments.out / "masks.csv", MaskWatch.COLUMNS, self.step)

    def resume(self) -> None:
        state, path = checkpoint.load(self.arguments.out), self.arguments.out / "config.json"
        now = json.loads(json.dumps(self.config))
        if state is not None:
            if not may_go_on(json.loads(path.read_text()), now, state["step"]):
                raise SystemExit(f"{path}: is of a run with another configuration, which this one cannot go on with: give its options, or another --out")
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.watch.masks = {name: mask.to(self.device) for name, mask in state["masks"].items()}
            self.step, self.seconds = state["step"], state["seconds"]
        if self.rank == 0:
            write_atomically(path, (json.dumps(now, indent=1) + "\n").encode())

    def save(self) -> None:
        if self.rank == 0:
            state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "masks": self.watch.masks}
            checkpoint.save(self.arguments.out, state | {"step": self.step, "seconds": self.seconds})

    @property
    def tokens_of_step(self) -> int:
        return self.arguments.batch * self.arguments.accumulate * self.arguments.context * self.ranks

    def one_step(self) -> torch.Tensor:
        """The loss, still on its device."""
        arguments, total = self.arguments, torch.zeros((), device=self.device)
        rule = self.schedule.rule(self.step, self.final_rule)
        if rule != self.rule:
            self.model.set_rule(rule)
            self.rule = rule
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.learning_rate(self.step)
            group["weight_decay"] = self.schedule.weight_decay(self.step) if group["decays"] else 0.0
        for micro in range(arguments.accumulate):
            inputs, targets = moved(self.batches.at(self.step, micro, arguments.batch), self.device)
            last = micro + 1 == arguments.accumulate
            with self.wrapped.no_sync() if self.ranks > 1 and not last else contextlib.nullcontext():
                with autocast(self.device, not arguments.float32):
                    loss = self.loss_of(self.wrapped, inputs, targets) / arguments.accumulate
                loss.backward()
            total += loss.detach()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), arguments.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return total

    def log(self, loss: float, held_out: float) -> None:
        flips = self.watch.look(self.step)
        if self.rank:
            return
        tokens = self.step * self.tokens_of_step
        lr = self.schedule.learning_rate(self.step - 1)
        self.loss_curve.add(self.step, loss=loss, held_out_loss=held_out, lr=lr, tokens=tokens, seconds=self.seconds)
        if flips is not None:
            self.mask_curve.add(self.step, **flips)
        shown = "" if math.isnan(held_out) else f"  held out {held_out:.4f}"
        print(f"step {self.step}  loss {loss:.4f}{shown}  lr {lr:.2e}  {tokens / self.seconds:,.0f} tokens/s", file=sys.stderr, flush=True)

    def run(self) -> None:
        arguments = self.arguments
        windows = self.held_out.windows(arguments.batch, 16)
        last = min(arguments.steps, arguments.stop_at or arguments.steps)
        saved = started = time.monotonic()
        before = self.seconds
        # Asked to end, a run saves what it has. Several ranks would not end at the same step.
        asked = []
        if self.ranks == 1:
            handler = signal.signal(signal.SIGTERM, lambda *_: asked.append(True))
        while self.step < last and not asked:
            loss = self.one_step()
            evaluates = self.step % arguments.eval_every == 0 or self.step == arguments.steps
            if evaluates or self.step % arguments.log_every == 0:
                value = loss.item()
                self.seconds = before + time.monotonic() - started
                if not math.isfinite(value):
                    raise SystemExit(f"step {self.step}: the loss is {value}; the state of the last save is kept")
                held_out = evaluate(self.model, windows, self.device, not arguments.float32) if evaluates and self.rank == 0 else math.nan
                self.log(value, held_out)
            if time.monotonic() - saved > 60 * arguments.save_minutes:
                self.save()
                saved = time.monotonic()
        self.save()
        if self.ranks == 1:
            signal.signal(signal.SIGTERM, handler)
        if self.rank == 0 and self.step == arguments.steps:
            self.finish()
        if self.ranks > 1:
            distributed.barrier()
            distributed.destroy_process_group()

    def finish(self) -> None:
        windows = self.held_out.windows(self.arguments.batch, None)
        loss = evaluate(self.model, windows, self.device, False)
        result = {
            "steps": self.step,
            "tokens": self.step * self.tokens_of_step,
            "held_out_loss": round(loss, 6),
            "held_out_perplexity": round(math.exp(loss), 5),
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "seconds": round(self.seconds, 1),
        }
        write_atomically(self.arguments.out / "result.json", (json.dumps(result, indent=1) + "\n").encode())
        print(json.dumps(result, indent=1))


def run(arguments) -> None:
    Run(arguments).run()
