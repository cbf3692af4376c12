"""Directories of real sizes: weights that repeat a small pool, or sparse files of which only the headers are there."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.hf_directories import CONFIG, tensor_shapes
from tests.support.hf_tokenizers import sentencepiece_like
from tests.support.safetensors_writer import encoded

LIKE_1B: Mapping[str, Any] = {
    "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22, "num_attention_heads": 32,
    "num_key_value_heads": 4, "vocab_size": 32000, "max_position_embeddings": 2048,
}  # fmt: skip
"""TinyLlama's sizes, 1.1 billion weights."""
LIKE_8B: Mapping[str, Any] = {
    "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "vocab_size": 128256, "max_position_embeddings": 131072, "rope_theta": 500000.0,
    "rope_scaling": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
}  # fmt: skip
"""Llama 3.1's sizes, 8.0 billion weights."""
_POOL_VALUES = (1 << 20) + 7


def write_large_directory(
    path: Path, sizes: Mapping[str, Any], *, shards: int = 1, is_sparse: bool = False
) -> int:
    """Write a BF16 directory with a small tokenizer; returns the bytes of its weights.

    Args:
        path: the directory, made here.
        sizes: entries of `config.json`.
        shards: number of files.
        is_sparse: whether the weights are holes, which take no room on the disk.
    """
    config = {**CONFIG, **sizes, "torch_dtype": "bfloat16"}
    path.mkdir()
    (path / "config.json").write_text(json.dumps(config))
    (path / "tokenizer.json").write_text(json.dumps(sentencepiece_like()))
    shapes = list(tensor_shapes(config).items())
    weight_map: dict[str, str] = {}
    for number, part in enumerate(np.array_split(np.arange(len(shapes)), shards)):
        name = f"model-{number + 1:05}-of-{shards:05}.safetensors" if shards > 1 else "model.safetensors"
        members = dict(shapes[at] for at in part)
        _write(path / name, members, is_sparse=is_sparse)
        weight_map |= dict.fromkeys(members, name)
    if shards > 1:
        (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return sum(2 * int(np.prod(shape)) for _, shape in shapes)


def _write(path: Path, shapes: Mapping[str, tuple[int, ...]], *, is_sparse: bool) -> None:
    header: dict[str, Any] = {}
    end = 0
    for name, shape in shapes.items():
        begin, end = end, end + 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-(8 + len(text)) % 8)
    pool = encoded(np.random.default_rng(0).normal(0, 0.02, _POOL_VALUES).astype(np.float32), "BF16")
    ones = encoded(np.ones(1, np.float32), "BF16")
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        if is_sparse:
            file.truncate(8 + len(text) + end)
            return
        for name, shape in shapes.items():
            n = int(np.prod(shape))
            values = ones if name.endswith("norm.weight") else pool
            while n > 0:
                n -= file.write(values[:n].data) // 2
