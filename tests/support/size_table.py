"""Tiny models of every shape in which `llama` files come: heads, widths, RoPE scalings, biases, vocabularies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFValueType
from numpy.typing import NDArray

from tests.support.tiny_models import write_tiny_llama

BIASED = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
"""Matrices whose products a file may add biases to."""


def rope_keys(**keys: Any) -> dict[str, Any]:
    """Metadata of RoPE; `type`, `factor`, `attn_factor` and the like are those of its scaling."""
    plain = ("freq_base", "dimension_count", "scale_linear")
    typed = {
        key: (GGUFValueType.UINT32, value) if isinstance(value, int) else value for key, value in keys.items()
    }
    return {f"llama.rope.{'' if key in plain else 'scaling.'}{key}": value for key, value in typed.items()}


def _yarn(factor: float, **keys: Any) -> dict[str, Any]:
    return {"n_ctx_train": 1024, "overrides": rope_keys(type="yarn", factor=factor, **keys)}


def biases(
    n_layer: int, *, n_embd: int, n_q: int, n_kv: int, n_ff: int, names: Any
) -> dict[str, NDArray[Any]]:
    """Random biases by tensor name, as large as what they are added to."""
    rng = np.random.default_rng(7)
    sizes = dict(zip(BIASED, (n_q, n_kv, n_kv, n_embd, n_ff, n_ff, n_embd), strict=True))
    return {
        f"blk.{layer}.{name}.bias": rng.standard_normal(sizes[name]).astype(np.float32)
        for layer in range(n_layer)
        for name in names
    }


def biased(*names: str, **sizes: Any) -> dict[str, Any]:
    """A model of two layers with biases on the named matrices of each."""
    added = biases(2, n_embd=64, n_q=64, n_kv=32, n_ff=96, names=names)
    return {"n_layer": 2, "tensor_overrides": added, **sizes}


_LLAMA_3_FACTORS = np.repeat([1.0, 1.7, 8.0], [12, 8, 12]).astype(np.float32)

SIZES: dict[str, dict[str, Any]] = {
    # query heads that share a key head: 1, 2, 3, 4, 8
    "1 query head a key head": {"n_head_kv": 4},
    "2 query heads a key head": {"n_layer": 2},
    "9 heads and 3 key heads, as SmolLM has them": {"n_embd": 288, "n_head": 9, "n_head_kv": 3},
    "4 query heads a key head": {"n_head_kv": 1, "type": "F16"},
    "8 query heads a key head": {"n_embd": 256, "n_head": 8, "n_head_kv": 1},
    # widths of a head
    "head width 32": {"n_head": 2, "n_head_kv": 1},
    "head width 64": {"n_embd": 128, "n_head": 2, "n_head_kv": 1, "type": "BF16"},
    "head width 80": {"n_embd": 160, "n_head": 2, "n_head_kv": 1},
    "head width 96": {"n_embd": 192, "n_head": 2, "n_head_kv": 2, "type": "F32"},
    "head width 100": {"n_embd": 200, "n_head": 2, "n_head_kv": 1},
    "head width 128": {"n_embd": 256, "n_head": 2, "n_head_kv": 1},
    "head width 256": {"n_embd": 512, "n_head": 2, "n_head_kv": 1},
    "heads narrower than n_embd, as Mistral Nemo has them": {"n_embd": 160, "n_head": 4, "head_dim": 32},
    "heads wider than n_embd": {"n_embd": 96, "n_head": 4, "head_dim": 64, "type": "F16"},
    "heads that do not divide n_embd": {"n_embd": 64, "n_head": 3, "n_head_kv": 1, "head_dim": 64},
    # widths of the streams, vocabularies, constants
    "n_embd 8192": {"n_embd": 8192, "n_head": 2, "n_head_kv": 1, "head_dim": 64, "n_ff": 32, "tied": True},
    "n_embd 5120 in F16": {"n_embd": 5120, "n_head": 2, "n_head_kv": 1, "head_dim": 64, "n_ff": 32, "type": "F16"},
    "n_ff of an odd number of blocks": {"n_ff": 352},
    "n_ff of no whole blocks": {"n_ff": 172},
    "a sliding window, which is not used": {
        "overrides": {"llama.attention.sliding_window": (GGUFValueType.UINT32, 4)}
    },
    "a prime vocabulary": {"n_vocab": 331},
    "a prime vocabulary, tied": {"n_vocab": 331, "tied": True},
    "eps 1e-6": {"overrides": {"llama.attention.layer_norm_rms_epsilon": 1e-6}},
    "eps 1e-3": {"overrides": {"llama.attention.layer_norm_rms_epsilon": 1e-3}},
    # RoPE
    "rope base 500,000 and factors, as Llama 3.1 has them": {
        "n_embd": 128, "n_head": 2, "n_head_kv": 1, "overrides": rope_keys(freq_base=500000.0),
        "tensor_overrides": {"rope_freqs.weight": _LLAMA_3_FACTORS},
    },
    "rope base 1,000,000": {"overrides": rope_keys(freq_base=1e6)},
    "rope scaling none": {"overrides": rope_keys(type="none", factor=4.0)},
    "rope scaling linear": {"overrides": rope_keys(type="linear", factor=4.0)},
    "rope scaling by its old key": {"overrides": rope_keys(scale_linear=2.5)},
    "rope scaling linear, with an attention factor": {"overrides": rope_keys(factor=3.0, attn_factor=1.25)},
    "yarn 4": {"n_embd": 128, "n_head": 2, "n_head_kv": 1, **_yarn(4.0, original_context_length=256)},
    "yarn 16": {"n_embd": 256, "n_head": 2, "n_head_kv": 1, **_yarn(16.0, original_context_length=64)},
    "yarn 16 with an attention factor": _yarn(16.0, original_context_length=64, attn_factor=0.8),
    "yarn 3 of the whole context": {"n_embd": 128, "n_head": 2, "n_head_kv": 1, **_yarn(3.0)},
    "yarn without a factor": _yarn(0.0, original_context_length=128),
    "yarn below 1": _yarn(0.5, original_context_length=128),
    "yarn with factors and another base": {
        "n_embd": 128, "n_head": 2, "n_head_kv": 1, **_yarn(8.0, original_context_length=100, freq_base=1e6),
        "tensor_overrides": {"rope_freqs.weight": _LLAMA_3_FACTORS},
    },
    "yarn keys of other architectures": _yarn(
        4.0, original_context_length=64, yarn_beta_fast=8.0, yarn_log_multiplier=0.5, yarn_ext_factor=0.5
    ),
    # biases
    "biases of q, k and v": biased("attn_q", "attn_k", "attn_v"),
    "a bias of the output": biased("attn_output", type="F16"),
    "biases of the attention": biased(*BIASED[:4], type="F32"),
    "biases of the feed-forward network": biased(*BIASED[4:]),
    "a bias of k alone, with yarn": biased("attn_k", **_yarn(4.0, original_context_length=64)),
    "all biases": biased(*BIASED, type="BF16"),
}  # fmt: skip
"""Arguments of `write_tiny_llama` by what is special; the usual type is Q8_0."""


def write(name: str, folder: Path, **changes: Any) -> Path:
    """Write the model of that name into a folder; `changes` are other arguments of `write_tiny_llama`."""
    path = folder / f"{name.replace(' ', '-').replace(',', '')}.gguf"
    write_tiny_llama(path, **{**SIZES[name], **changes})
    return path
