"""The tiny random directories whose values are stored: one for each way in which Llama configurations differ."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.hf_directories import write_directory
from tools.make_w8a8 import make_w8a8

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}

TINY_LLAMAS: Mapping[str, Mapping[str, Any]] = {
    "gqa": {},
    "mha": {"config": {"num_key_value_heads": 4}},
    "mqa": {"config": {"num_key_value_heads": 1}},
    "tied": {"config": {"tie_word_embeddings": True}},
    "no_kv_heads_key": {"config": {"num_key_value_heads": 4}, "without": ["num_key_value_heads"]},
    "wide_heads": {"config": {"head_dim": 32}},
    "narrow_heads": {"config": {"head_dim": 8}},
    "attention_biases": {"config": {"attention_bias": True}},
    "mlp_biases": {"config": {"attention_bias": True, "mlp_bias": True}},
    "linear": {"config": {"rope_scaling": {"type": "linear", "factor": 4.0}}},
    "llama3": {"config": {"rope_scaling": LLAMA3, "rope_theta": 500000.0}},
    "yarn": {"config": {"rope_scaling": YARN}},
    "dynamic_within_its_context": {"config": {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}},
    "eps_and_theta": {"config": {"rms_norm_eps": 1e-3, "rope_theta": 1000000.0}},
    "sharded": {"shards": 3},
    "bf16": {"dtype": "BF16"},
    "bf16_tied_sharded": {"dtype": "BF16", "shards": 2, "config": {"tie_word_embeddings": True}},
    "bf16_biases": {"dtype": "BF16", "config": {"attention_bias": True, "mlp_bias": True}},
    "f16": {"dtype": "F16"},
    "mixed": {"dtype": {"": "BF16", "norm": "F32", "q_proj": "F16", "down_proj": "F32"}},
}
"""Arguments of `tests.support.hf_directories.write_directory` by name; each gets its place here as its seed."""

QUANTIZED: Mapping[str, Mapping[str, Any]] = {
    "gqa": {"seed": 102},
    "llama3": {"seed": 10, **TINY_LLAMAS["llama3"]},
    "biases": {"seed": 102, **TINY_LLAMAS["mlp_biases"]},
    "bf16": {"seed": 15, **TINY_LLAMAS["bf16"]},
    "near_a_tie": {"seed": 103},
}
"""Those that are quantised to int8 (`tools/make_w8a8.py`).

An activation between two integers, as near to the middle as float32 sums are exact, may become either of them, and
then logits differ by 1e-4 instead of 1e-13. With most seeds there is one within 124 tokens of a model of random
weights; these are seeds without, and one with.
"""


def directory_of(name: str) -> dict[str, Any]:
    """All arguments of `write_directory` for one of them."""
    return {"tokenizer": False, "seed": list(TINY_LLAMAS).index(name), **TINY_LLAMAS[name]}


CHECKPOINTED: Mapping[str, Mapping[str, Any]] = {
    "tiny-f32": {"config": {"attention_bias": True, "mlp_bias": True, "rope_scaling": LLAMA3, "head_dim": 8}},
    "tiny-bf16": {
        "dtype": "BF16",
        "shards": 2,
        "config": {"tie_word_embeddings": True, "rope_scaling": YARN},
    },
}
"""Arguments of `write_directory` for those of which every intermediate is stored, one of int8 weights besides."""
W8A8 = "tiny-w8a8"
CHECKPOINTED_NAMES = (*CHECKPOINTED, W8A8)


def write_checkpointed(name: str, path: Path) -> Path:
    """Write one of `CHECKPOINTED_NAMES`; returns `path`, which must not exist."""
    if name != W8A8:
        return write_directory(path, **CHECKPOINTED[name])
    with tempfile.TemporaryDirectory() as folder:
        return make_w8a8(write_directory(Path(folder), dtype="BF16"), path)
