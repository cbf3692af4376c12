#!/usr/bin/env python3
"""Store the frequencies that transformers computes for RoPE scalings of `config.json`, for tests without PyTorch.

python -m tools.oracles.rope_scalings -o tests/golden/hugging_face/rope_scalings.json
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tools.oracles.transformers_run import versions

LLAMA3: dict[str, Any] = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
YARN: dict[str, Any] = {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 4096}

CONFIGS: Mapping[str, dict[str, Any]] = {
    "default": {"rope_scaling": None},
    "default by name": {"rope_scaling": {"rope_type": "default"}, "rope_theta": 500000.0},
    "linear": {"rope_scaling": {"type": "linear", "factor": 4.0}},
    "dynamic": {"rope_scaling": {"type": "dynamic", "factor": 3.0}},
    "llama3": {"rope_scaling": LLAMA3, "rope_theta": 500000.0, "head_dim": 128},
    "llama3 of 1B": {"rope_scaling": LLAMA3 | {"factor": 32.0}, "rope_theta": 500000.0, "head_dim": 64},
    "yarn": {"rope_scaling": YARN, "head_dim": 128},
    "yarn without its original length": {"rope_scaling": {"type": "yarn", "factor": 2.0}},
    "yarn that shrinks": {"rope_scaling": YARN | {"factor": 0.5}},
    "yarn with betas": {"rope_scaling": YARN | {"beta_fast": 16, "beta_slow": 2}, "head_dim": 128},
    "yarn without rounding": {"rope_scaling": YARN | {"truncate": False}, "head_dim": 64},
    "yarn with a magnitude": {"rope_scaling": YARN | {"attention_factor": 0.75}},
    "yarn with betas and a magnitude": {"rope_scaling": YARN | {"beta_fast": 64.0, "attention_factor": 1.5}},
    "yarn with its own magnitude spelled out": {
        "rope_scaling": YARN | {"attention_factor": 1.2079441541679836}
    },
    "yarn with mscale": {"rope_scaling": YARN | {"mscale": 0.707, "mscale_all_dim": 1.0}},
    "yarn with equal mscales": {"rope_scaling": YARN | {"mscale": 1.0, "mscale_all_dim": 1.0}},
    "yarn with one mscale": {"rope_scaling": YARN | {"mscale": 2.0}},
    "yarn whose ramp is one pair": {
        "rope_scaling": YARN | {"original_max_position_embeddings": 4},
        "head_dim": 8,
    },
    "yarn whose ramp begins behind the head": {
        "rope_scaling": YARN | {"original_max_position_embeddings": 1000000},
        "head_dim": 8,
        "rope_theta": 10.0,
    },
}
"""Entries of a config beside those of `BASE`."""
BASE: dict[str, Any] = {
    "hidden_size": 64,
    "num_attention_heads": 4,
    "head_dim": 16,
    "max_position_embeddings": 32768,
    "rope_theta": 10000.0,
}


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--out", required=True, type=Path, help="file to write")
    args = parser.parse_args(argv)
    lines = []
    for name, entries in CONFIGS.items():
        config = LlamaConfig(**json.loads(json.dumps(BASE | entries)))
        scaling = config.rope_scaling or {}
        compute = ROPE_INIT_FUNCTIONS[scaling.get("rope_type", "default")]
        frequencies, magnitude = compute(config, "cpu")
        case = {
            "config": BASE | entries,
            "frequencies": [float(f"{f:.9g}") for f in frequencies.tolist()],
            "magnitude": magnitude,
        }
        lines.append(f"  {json.dumps(name)}: {json.dumps(case)}")
    head = {"generated_by": "tools/oracles/rope_scalings.py; do not edit", "versions": versions()}
    rows = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in head.items()]
    text = ",\n".join([*rows, ' "cases": {\n' + ",\n".join(lines) + "\n }"])
    args.out.write_text(f"{{\n{text}\n}}\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
