"""GGUF files of full-size models that take no space: the header is real, the weights are a hole in a sparse file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np

LLAMA_70B: dict[str, Any] = {
    "context_length": 131072, "embedding_length": 8192, "block_count": 80, "feed_forward_length": 28672,
    "attention.head_count": 64, "attention.head_count_kv": 8, "rope.dimension_count": 128,
    "rope.freq_base": 500000.0, "attention.layer_norm_rms_epsilon": 1e-5, "vocab_size": 128256,
}  # fmt: skip
"""Llama 3.3 70B."""


def shapes(sizes: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Every tensor of an untied Llama with RoPE factors, by name."""
    n_embd, n_ff, n_vocab = sizes["embedding_length"], sizes["feed_forward_length"], sizes["vocab_size"]
    head_dim = sizes["rope.dimension_count"]
    n_q, n_kv = (head_dim * sizes[f"attention.head_count{kind}"] for kind in ("", "_kv"))
    layer = {
        "attn_norm": (n_embd,), "attn_q": (n_q, n_embd), "attn_k": (n_kv, n_embd), "attn_v": (n_kv, n_embd),
        "attn_output": (n_embd, n_q), "ffn_norm": (n_embd,), "ffn_gate": (n_ff, n_embd), "ffn_up": (n_ff, n_embd),
        "ffn_down": (n_embd, n_ff),
    }  # fmt: skip
    outer: dict[str, tuple[int, ...]] = {
        "rope_freqs.weight": (head_dim // 2,),
        "token_embd.weight": (n_vocab, n_embd),
        "output_norm.weight": (n_embd,),
        "output.weight": (n_vocab, n_embd),
    }
    return outer | {
        f"blk.{i}.{name}.weight": shape for i in range(sizes["block_count"]) for name, shape in layer.items()
    }


def write_header(path: Path, sizes: Mapping[str, Any], usual: str, better: str) -> dict[str, int]:
    """Write the header and a hole as large as the tensors; bytes of each tensor by name.

    Args:
        path: file to write; it takes some kilobytes of the disk.
        sizes: metadata, such as `LLAMA_70B`.
        usual: type of the matrices, as ggml spells it; vectors are F32.
        better: type of the output, and of `attn_v` and `ffn_down` in half of the layers, as in `llama-quantize`'s
            mixtures.
    """
    writer = gguf.GGUFWriter(path, "llama")
    for key, value in sizes.items():
        kind = gguf.GGUFValueType.FLOAT32 if isinstance(value, float) else gguf.GGUFValueType.UINT32
        writer.add_key_value(f"llama.{key}", value, kind)
    found = {}
    for name, shape in shapes(sizes).items():
        is_better = name == "output.weight" or (name.endswith(("_v.weight", "_down.weight")) and "0." in name)
        kind_name = "F32" if len(shape) == 1 else better if is_better else usual
        quant = gguf.GGMLQuantizationType[kind_name]
        block, block_bytes = gguf.GGML_QUANT_SIZES[quant]
        found[name] = int(np.prod(shape)) // block * block_bytes
        writer.add_tensor_info(name, shape, np.dtype(np.float32), found[name], raw_dtype=quant)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    alignment = writer.data_alignment
    with path.open("r+b") as file:
        file.seek(gguf.GGUFWriter.ggml_pad(file.seek(0, 2), alignment))
        start = file.tell()
        file.write(np.ones(sizes["rope.dimension_count"] // 2, np.float32).tobytes())  # the first tensor
        file.truncate(start + sum(gguf.GGUFWriter.ggml_pad(n, alignment) for n in found.values()))
    return found
