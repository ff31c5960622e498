#!/usr/bin/env python3
"""Rotary frequencies as the transformers library computes them: what `runtime/src/rope/transformers.txt` records.

    python3 rope.py > ../../runtime/src/rope/transformers.txt

Needs transformers and torch. Each line: a name, the base, the model's context, the positions of a session, the factor of sines and cosines, and the frequency of
each pair; then `=` and the parameters as a manifest holds them.
"""
import torch
import transformers
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

DIM = 16
SHORT = [1.0, 1.05, 1.1, 1.25, 1.5, 1.75, 2.0, 2.25]
LONG = [1.25, 1.5, 2.5, 4.0, 8.0, 16.0, 30.5, 48.0]
LONGROPE = {"rope_type": "longrope", "short_factor": SHORT, "long_factor": LONG}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
YARN = {"rope_type": "yarn", "factor": 4.0}
# name, base, context, positions, parameters
CASES = [
    ("linear", 1e4, 2048, 2048, {"rope_type": "linear", "factor": 2.5}),
    ("dynamic-short", 1e4, 2048, 2048, {"rope_type": "dynamic", "factor": 4.0}),
    ("dynamic-long", 1e4, 2048, 6000, {"rope_type": "dynamic", "factor": 4.0}),
    ("llama3", 5e5, 131072, 131072, LLAMA3 | {"original_max_position_embeddings": 8192}),
    ("llama3-context", 5e5, 8192, 8192, LLAMA3),
    ("yarn", 1e6, 32768, 131072, YARN | {"original_max_position_embeddings": 32768}),
    ("yarn-context", 1e4, 4096, 4096, YARN),
    ("yarn-ratio", 1e4, 16384, 16384, {"rope_type": "yarn", "factor": None, "original_max_position_embeddings": 4096}),
    ("yarn-betas", 1e4, 4096, 4096, YARN | {"beta_fast": 16, "beta_slow": 2, "truncate": False, "attention_factor": 0.75}),
    ("yarn-mscale", 1e4, 4096, 4096, YARN | {"factor": 40.0, "mscale": 0.707, "mscale_all_dim": 1.5}),
    ("longrope-short", 1e4, 131072, 4096, LONGROPE | {"original_max_position_embeddings": 4096}),
    ("longrope-long", 1e4, 131072, 4097, LONGROPE | {"original_max_position_embeddings": 4096}),
    ("longrope-factor", 1e4, 131072, 8192, LONGROPE | {"factor": 2.0, "original_max_position_embeddings": 4096}),
    ("longrope-attention", 1e4, 4096, 4096, LONGROPE | {"attention_factor": 1.25}),
]


def text(value):
    return ",".join(map(repr, value)) if isinstance(value, list) else str(value).lower() if isinstance(value, bool) else str(value)


print(f"# transformers {transformers.__version__}, torch {torch.__version__.split('+')[0]}: tests/oracle/rope.py")
for name, theta, context, positions, parameters in CASES:
    config = LlamaConfig(head_dim=DIM, max_position_embeddings=context, rope_parameters={"rope_theta": theta} | parameters)
    frequencies, attention = ROPE_INIT_FUNCTIONS[parameters["rope_type"]](config, "cpu", seq_len=positions)
    numbers = [theta, context, positions, attention, *frequencies.tolist()]
    members = [f"{key} {text(value)}" for key, value in parameters.items() if value is not None]
    print(name, *map(repr, numbers), "=", "; ".join(members))
