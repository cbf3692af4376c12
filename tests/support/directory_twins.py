"""The same random Llama as a GGUF file and as a Hugging Face directory, written apart from `llorch.formats`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.support.hf_directories import CONFIG, write_weights
from tests.support.safetensors_writer import encoded
from tests.support.tiny_models import write_tiny_llama

N_HEADS = {"attn_q": 4, "attn_k": 2}
NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
SIZES = {
    "n_layer": 2,
    "n_embd": 64,
    "n_head": 4,
    "n_head_kv": 2,
    "n_ff": 96,
    "n_vocab": 320,
    "n_ctx_train": 128,
}
BIASES: dict[str, int] = {
    "attn_q": 64, "attn_k": 32, "attn_v": 32, "attn_output": 64, "ffn_gate": 96, "ffn_up": 96, "ffn_down": 64
}  # fmt: skip


def write_twins(
    folder: Path,
    *,
    type: str = "F32",
    types: Mapping[str, str] | None = None,
    tied: bool = False,
    biases: bool = False,
    shards: int = 1,
    config: Mapping[str, Any] | None = None,
) -> tuple[Path, Path]:
    """Write both; their weights have the same bits.

    Args:
        folder: to write into.
        type: of the matrices; vectors are float32.
        types: of some matrices, by the end of the GGUF name.
        tied: whether the head is the embedding.
        biases: whether all matrices of the layers have biases.
        shards: safetensors files.
        config: other entries of config.json.

    Returns:
        The file and the directory.
    """
    file, directory = folder / "tiny.gguf", folder / "tiny"
    random, added = np.random.default_rng(5), {}
    for i in range(SIZES["n_layer"] if biases else 0):
        for name, n in BIASES.items():
            added[f"blk.{i}.{name}.bias"] = random.standard_normal(n).astype(np.float32) / 8
    types = types or {}
    weights = write_tiny_llama(file, type=type, types=types, tied=tied, tensor_overrides=added, **SIZES)  # type: ignore[arg-type]
    directory.mkdir()
    stored = {}
    for name, values in weights.items():
        *layer, role, kind = name.split(".")
        named = [dtype for end, dtype in types.items() if f".{name}".endswith(f".{end}")]
        dtype = named[0] if named else type if values.ndim == 2 else "F32"
        prefix = f"model.layers.{layer[1]}." if layer else ""
        stored[f"{prefix}{NAMES[role]}.{kind}"] = dtype, encoded(_halves(values, N_HEADS.get(role)), dtype)
    write_weights(directory, stored, shards)
    entries = {
        **CONFIG,
        "vocab_size": 320,
        "max_position_embeddings": 128,
        "tie_word_embeddings": tied,
        "attention_bias": biases,
        "mlp_bias": biases,
        **(config or {}),
    }
    (directory / "config.json").write_text(json.dumps(entries))
    return file, directory


def _halves(values: NDArray[np.float32], n_head: int | None) -> NDArray[np.float32]:
    """Rows as Hugging Face has them: of each head first those with even numbers in GGUF, then the odd ones."""
    if n_head is None:
        return values
    heads = np.split(values, n_head)
    return np.concatenate([half for head in heads for half in (head[0::2], head[1::2])])
