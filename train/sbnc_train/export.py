"""`sbnc-train export`: a run's weights in a layout that `sbnc compile` reads; and reading it back, which scoring does.

| form | files | for models of the layout |
|---|---|---|
| `sparse-bitnet` | `metadata.json` with `modelargs`, and `model_state.pt` or `model.safetensors` | `sparse-bitnet` |
| `hf` | `config.json` and `model.safetensors` with the names of Hugging Face's `bitnet` or `llama` | both |

Weights are the latent ones, in bfloat16: neither ternary nor masked. The pattern is named in the configuration, and the compiler applies it by the rule that
training used. The tokenizer goes along.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from . import checkpoint
from .data import BOS, EOS
from .files import write_atomically
from .linear import Rule
from .model import Model, Shape
from .train import schedule_of

FORMS = ("sparse-bitnet", "hf")
TOKENIZER = "tokenizer.json"


@dataclass
class Exported:
    """A checkpoint as it stands in a folder."""

    shape: Shape
    rule: Rule
    weights: dict[str, Tensor]

    def model(self) -> Model:
        model = Model(self.shape, self.rule)
        model.load_state_dict({name: weight.float() for name, weight in self.weights.items()})
        return model.eval()


def modelargs(shape: Shape, rule: Rule) -> dict:
    """The arguments of the Sparse-BitNet trainer's model."""
    n, m = rule.pattern or (2, 4)
    return {
        "d_model": shape.hidden,
        "d_ffn": shape.intermediate,
        "head": shape.heads,
        "kv_head": shape.kv_heads,
        "n_layers": shape.layers,
        "vocab_size": shape.vocab,
        "max_seq_len": shape.context,
        "norm_eps": shape.norm_eps,
        "rope_theta": shape.rope_theta,
        "weight_tying": shape.tied,
        "cross_entropy_chunk": 0,
        "bitlinear": rule.ternary,
        "srelu": False,
        "a4": False,
        "universal_n_group": -1,
        "universal_group_size": -1,
        "universal_repeat_time": -1,
        "use_weight_semi_sparse": rule.pattern is not None,
        "sparse_n": n,
        "sparse_m": m,
    }


def hf_config(shape: Shape, rule: Rule, bos: int, eos: int) -> dict:
    """What Hugging Face's `config.json` says, and the pattern under the keys of the Sparse-BitNet trainer."""
    bitnet = shape.layout == "bitnet"
    config = {
        "architectures": ["BitNetForCausalLM" if bitnet else "LlamaForCausalLM"],
        "model_type": "bitnet" if bitnet else "llama",
        "attention_bias": False,
        "bos_token_id": bos,
        "eos_token_id": eos,
        "hidden_act": "relu2" if bitnet else "silu",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "max_position_embeddings": shape.context,
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.layers,
        "num_key_value_heads": shape.kv_heads,
        "rms_norm_eps": shape.norm_eps,
        "rope_theta": shape.rope_theta,
        "tie_word_embeddings": shape.tied,
        "torch_dtype": "bfloat16",
        "vocab_size": shape.vocab,
    }
    if rule.ternary:
        config["quantization_config"] = {"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "online"}
    if rule.pattern is not None:
        config |= {"use_weight_semi_sparse": True, "sparse_n": rule.pattern[0], "sparse_m": rule.pattern[1]}
    return config


def hf_names(shape: Shape) -> dict[str, list[str]]:
    """Our names → the names of the parts, where a fused matrix is several."""
    bitnet = shape.layout == "bitnet"
    names = {"tok_embeddings.weight": ["model.embed_tokens.weight"], "norm.weight": ["model.norm.weight"]}
    if not shape.tied:
        names["output.weight"] = ["lm_head.weight"]
    for i in range(shape.layers):
        ours, theirs = f"layers.{i}.", f"model.layers.{i}."
        names |= {
            ours + "attention_norm.weight": [theirs + "input_layernorm.weight"],
            ours + "attention.wqkv.weight": [f"{theirs}self_attn.{part}_proj.weight" for part in "qkv"],
            ours + "attention.wo.weight": [theirs + "self_attn.o_proj.weight"],
            ours + "ffn_norm.weight": [theirs + "post_attention_layernorm.weight"],
            ours + "feed_forward.w13.weight": [f"{theirs}mlp.{part}_proj.weight" for part in ("gate", "up")],
            ours + "feed_forward.w2.weight": [theirs + "mlp.down_proj.weight"],
        }
        if bitnet:
            names |= {
                ours + "attention.sub_norm.weight": [theirs + "self_attn.attn_sub_norm.weight"],
                ours + "feed_forward.sub_norm.weight": [theirs + "mlp.ffn_sub_norm.weight"],
            }
    return names


def part_sizes(shape: Shape, name: str) -> list[int] | None:
    """Rows of the parts of a fused matrix."""
    keys = shape.kv_heads * shape.head_dim
    if name.endswith("wqkv.weight"):
        return [shape.hidden, keys, keys]
    return [shape.intermediate, shape.intermediate] if name.endswith("w13.weight") else None


def turn_rows(weight: Tensor, head_dim: int, to_half: bool) -> Tensor:
    """Rows of q or k, from neighbours as rotary pairs to pairs half a head apart, or back."""
    heads = weight.unflatten(0, (-1, head_dim))
    order = torch.arange(head_dim).view(-1, 2).t().flatten()
    return heads[:, order if to_half else order.argsort()].flatten(0, 1)


def to_hf(shape: Shape, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for name, parts in hf_names(shape).items():
        split = weights[name].split(part_sizes(shape, name)) if len(parts) > 1 else [weights[name]]
        for part_name, part in zip(parts, split):
            if shape.layout == "sparse-bitnet" and part_name.endswith(("q_proj.weight", "k_proj.weight")):
                part = turn_rows(part, shape.head_dim, to_half=True)
            renamed[part_name] = part.contiguous()
    return renamed


def from_hf(shape: Shape, renamed: dict[str, Tensor]) -> dict[str, Tensor]:
    weights = {}
    for name, parts in hf_names(shape).items():
        turned = [
            turn_rows(renamed[part], shape.head_dim, to_half=False)
            if shape.layout == "sparse-bitnet" and part.endswith(("q_proj.weight", "k_proj.weight"))
            else renamed[part]
            for part in parts
        ]
        weights[name] = torch.cat(turned) if len(turned) > 1 else turned[0]
    return weights


def write(out: Path, form: str, exported: Exported, *, steps: int, data: Path | None, container: str = "safetensors") -> None:
    """Writes a folder. The file with the weights comes last: a folder that has it is whole."""
    shape, rule = exported.shape, exported.rule
    if form not in FORMS:
        raise SystemExit(f"--form: expected one of {', '.join(FORMS)}, found {form}")
    if form == "sparse-bitnet" and shape.layout != "sparse-bitnet":
        raise SystemExit("--form sparse-bitnet: expected a model without sub-norms, found the layout bitnet: export it with --form hf")
    if rule.mask_from != "latent":
        raise SystemExit("a mask from quantised weights is an ablation that no compiled file has: expected --mask-from latent")
    weights = {name: weight.detach().cpu().bfloat16().contiguous() for name, weight in exported.weights.items()}
    out.mkdir(parents=True, exist_ok=True)
    bos, eos = 0, 1
    if data is not None:
        facts = json.loads((data / "data.json").read_text())
        bos, eos = facts["bos"], facts["eos"]
        shutil.copyfile(data / TOKENIZER, out / TOKENIZER)
        write_json(out / "tokenizer_config.json", {"bos_token": BOS, "eos_token": EOS, "tokenizer_class": "PreTrainedTokenizerFast"})
    if form == "hf":
        write_json(out / "config.json", hf_config(shape, rule, bos, eos))
        write_atomically(out / "model.safetensors", save(to_hf(shape, weights), metadata={"format": "pt"}))
        return
    write_json(out / "metadata.json", {"updates": steps, "modelargs": modelargs(shape, rule)})
    write_json(out / "generation_config.json", {"bos_token_id": bos, "eos_token_id": eos})
    if container == "pt":
        write_atomically(out / "model_state.pt", lambda file: torch.save(weights, file))
    else:
        write_atomically(out / "model.safetensors", save(weights, metadata={"format": "pt"}))


def write_json(path: Path, value: dict) -> None:
    write_atomically(path, (json.dumps(value, indent=1) + "\n").encode())


def read(folder: Path) -> Exported:
    """Reads what `write` wrote."""
    if (folder / "metadata.json").exists():
        args = json.loads((folder / "metadata.json").read_text())["modelargs"]
        shape = Shape(
            "sparse-bitnet", args["vocab_size"], args["d_model"], args["d_ffn"], args["n_layers"], args["head"], args["kv_head"], args["max_seq_len"],
            args["norm_eps"], args["rope_theta"],
        )  # fmt: skip
        ternary, keys = args["bitlinear"], args
    else:
        keys = json.loads((folder / "config.json").read_text())
        # Newer versions of the configuration keep the base of the angles in an object.
        theta = keys.get("rope_parameters", keys)["rope_theta"]
        shape = Shape(
            "bitnet" if keys["model_type"] == "bitnet" else "sparse-bitnet", keys["vocab_size"], keys["hidden_size"], keys["intermediate_size"],
            keys["num_hidden_layers"], keys["num_attention_heads"], keys["num_key_value_heads"], keys["max_position_embeddings"],
            keys["rms_norm_eps"], theta,
        )  # fmt: skip
        ternary = "quantization_config" in keys
    pattern = (keys["sparse_n"], keys["sparse_m"]) if keys.get("use_weight_semi_sparse") else None
    state = folder / "model_state.pt"
    weights = torch.load(state, map_location="cpu", weights_only=True) if state.exists() else load_file(folder / "model.safetensors")
    if not (folder / "metadata.json").exists():
        weights = from_hf(shape, weights)
    return Exported(shape, Rule(ternary, pattern), weights)


def read_run(run: Path) -> tuple[Exported, int]:
    """The weights of a run's last save, with the rule that its next step would have."""
    config, state = json.loads((run / "config.json").read_text()), checkpoint.load(run)
    if state is None:
        raise SystemExit(f"{run}: expected a saved state, found none")
    rule = config["rule"]
    final = Rule(**rule | {"pattern": tuple(rule["pattern"]) if rule["pattern"] else None})
    return Exported(Shape(**config["shape"]), schedule_of(config).rule(state["step"], final), state["model"]), state["step"]


def add_arguments(parser) -> None:
    parser.add_argument("--run", type=Path, required=True, help="a run's folder")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    parser.add_argument("--form", choices=FORMS, default="hf")
    parser.add_argument("--container", choices=("safetensors", "pt"), default="safetensors", help="of the form sparse-bitnet")
    parser.add_argument("--data", type=Path, help="the data folder, whose tokenizer goes along")


def run(arguments) -> None:
    exported, steps = read_run(arguments.run)
    write(arguments.out, arguments.form, exported, steps=steps, data=arguments.data, container=arguments.container)
    print(f"{arguments.out}: step {steps}, {sum(w.numel() for w in exported.weights.values()):,} parameters")
