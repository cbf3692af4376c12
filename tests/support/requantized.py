"""Models re-quantised by llama.cpp, as `llama-quantize --allow-requantize` does it. Needs llama-cpp-python."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from llorch.quant.types import GGML_NAMES
from tests.support.tiny_models import tiny_tensors, write_tiny_llama
from tools.reference.ggml_tensor import ReferenceToolError
from tools.reference.llama_cpp_eval import load_llama_cpp

PURE = {
    "Q4_0": 2, "Q4_1": 3, "Q5_0": 8, "Q5_1": 9, "Q2_K": 10, "Q3_K": 12, "Q4_K": 15, "Q5_K": 17, "Q6_K": 18,
    "IQ4_NL": 25, "IQ4_XS": 30,
}  # fmt: skip
"""llama.cpp's `llama_ftype` by the type that all matrices take; rows that are not whole blocks fall back to others."""

MIXTURES = {"Q2_K": 10, "Q3_K_M": 12, "Q4_K_M": 15, "Q5_K_S": 16, "IQ4_XS": 30}
"""Mixtures by `llama-quantize`'s names."""


SIZES: dict[str, Any] = {
    "n_layer": 2,
    "n_embd": 256,
    "n_head": 4,
    "n_head_kv": 2,
    "n_ff": 768,
    "n_vocab": 512,
}
"""Of a model whose rows are one and three blocks of 256."""

MIXED = {
    "0.attn_q": "Q4_0", "0.attn_k": "Q4_1", "0.attn_v": "Q5_0", "0.attn_output": "Q5_1", "0.ffn_gate": "Q2_K",
    "0.ffn_up": "Q3_K", "0.ffn_down": "Q4_K", "1.attn_q": "Q5_K", "1.attn_k": "Q6_K", "1.attn_v": "IQ4_NL",
    "1.attn_output": "IQ4_XS",
}  # fmt: skip
"""Every type once; all other matrices take the model's own."""

_QUIET: list[Any] = []  # the library keeps the callback


def write_source(path: Path) -> None:
    """A Llama of random F32 weights whose large values are as frequent as in trained ones (Student's t)."""
    rng = np.random.default_rng(1)
    matrices = {
        name: rng.standard_t(4, array.shape) / np.sqrt(2 * array.shape[-1])
        for name, array in tiny_tensors(**SIZES, head_dim=64, tied=False, seed=0).items()
        if array.ndim == 2
    }
    write_tiny_llama(path, **SIZES, n_ctx_train=512, type="F32", tensor_overrides=matrices)


def requantize(
    source: Path, target: Path, file_type: int, *, pure: bool, types: Mapping[str, str] | None = None
) -> None:
    """Write `source` to `target` with matrices of another type.

    Args:
        source: a GGUF file.
        target: file to write.
        file_type: llama.cpp's `llama_ftype`.
        pure: whether all matrices take its type; else it chooses more bits for some.
        types: exceptions, by the end of a tensor's name without ``.weight``.

    Raises:
        ReferenceToolError: llama.cpp refuses.
    """
    api = load_llama_cpp()
    if not _QUIET:
        _QUIET.append(api.llama_log_callback(lambda *_: None))
    api.llama_log_set(_QUIET[0], None)
    ids = {name: number for number, name in GGML_NAMES.items()}
    patterns = [(rf"blk\.{tail}\.weight".encode(), ids[name]) for tail, name in (types or {}).items()]
    overrides = (api.llama_model_tensor_override * (len(patterns) + 1))(*patterns)
    params = api.llama_model_quantize_default_params()
    params.nthread, params.ftype, params.allow_requantize, params.pure = 2, file_type, True, pure
    params.tt_overrides = overrides
    code = api.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(params))
    if code:
        raise ReferenceToolError(f"llama.cpp cannot quantise {source} (code {code})")


def write_all(source: Path, folder: Path) -> dict[str, Path]:
    """`source` in every type, and in every mixture, by the names of types and of mixtures with a star."""
    made = {}
    for kinds, pure, mark in ((PURE, True, ""), (MIXTURES, False, "*")):
        for name, file_type in kinds.items():
            made[name + mark] = path = folder / f"{source.stem}-{name}{'' if pure else '-mixture'}.gguf"
            requantize(source, path, file_type, pure=pure)
    return made
