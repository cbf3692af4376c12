"""A Hugging Face directory made from a GGUF file of a Llama model: python -m tools.make_hf_directory GGUF DIR.

Quantised weights are decoded; F32, the default, keeps their values exactly. The rows of queries and keys go back to
the order in which the halves of a head are rotated against each other. The vocabulary and the chat template come along.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from llorch.formats.gguf.file import GGUFFile
from llorch.model.config import ModelConfig
from llorch.quant.codecs.floats import Bytes, Floats
from llorch.quant.tensor import Tensor, dequantize
from llorch.quant.types import BF16, F16, F32, QuantType
from tools.hf_llama_config import config_json, generation_config_json
from tools.hf_tokenizer_json import tokenizer_config_of, tokenizer_json_of

DTYPES: dict[str, tuple[QuantType, str]] = {
    "F32": (F32, "float32"), "F16": (F16, "float16"), "BF16": (BF16, "bfloat16"),
}  # fmt: skip
"""ggml's type and the name that config.json has for it, by safetensors' name."""

PIECE_ELEMENTS = 1 << 22
"""About as many elements as are decoded at a time."""

_OUTER = {
    "token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head",
}  # fmt: skip
_OF_LAYER = {
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip


def make_directory(source: GGUFFile, directory: Path, dtype: str = "F32", n_shards: int = 1) -> None:
    """Write a directory that `transformers` loads.

    Args:
        source: a Llama model, of types that llorch can run.
        directory: must not exist, or be empty.
        dtype: of every tensor, as safetensors spells it.
        n_shards: files that share the weights.
    """
    config = ModelConfig.from_metadata(source.metadata)
    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise SystemExit(f"{directory}: is not empty")
    tensors = {name: tensor for name, tensor in source.tensors.items() if name != "rope_freqs.weight"}
    documents = {
        "config.json": config_json(config, source, DTYPES[dtype][1]),
        "generation_config.json": generation_config_json(source.metadata),
    }
    if "tokenizer.ggml.tokens" in source.metadata:
        documents["tokenizer.json"] = tokenizer_json_of(source.path)
        documents["tokenizer_config.json"] = tokenizer_config_of(source.path)
    for name, document in documents.items():
        _write_json(directory / name, document)
    _write_weights(directory, tensors, config, dtype, n_shards)


def hugging_face_name(name: str) -> str:
    """The name that Hugging Face has for a tensor called `name` in GGUF."""
    stem, _, ending = name.rpartition(".")
    if stem in _OUTER:
        return f"{_OUTER[stem]}.{ending}"
    _, layer, role = stem.split(".")
    return f"model.layers.{layer}.{_OF_LAYER[role]}.{ending}"


def _write_weights(
    directory: Path, tensors: Mapping[str, Tensor], config: ModelConfig, dtype: str, n_shards: int
) -> None:
    shards = [list(shard) for shard in np.array_split(np.array(list(tensors)), n_shards)]
    weight_map: dict[str, str] = {}
    total = 0
    for i, names in enumerate(shards):
        file = f"model-{i + 1:05}-of-{n_shards:05}.safetensors" if n_shards > 1 else "model.safetensors"
        weight_map |= {hugging_face_name(name): file for name in names}
        total += _write_safetensors(directory / file, [tensors[name] for name in names], config, dtype)
    if n_shards > 1:
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        _write_json(directory / "model.safetensors.index.json", index)


def _write_safetensors(path: Path, tensors: Sequence[Tensor], config: ModelConfig, dtype: str) -> int:
    """Write one file; returns the bytes of its tensors."""
    quant = DTYPES[dtype][0]
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for tensor in tensors:
        begin, end = end, end + tensor.n_elements * quant.block_bytes
        entry = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [begin, end]}
        header[hugging_face_name(tensor.name)] = entry
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    with path.open("xb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        for tensor in tensors:
            _write_tensor(file, tensor, config, quant)
    return end


def _write_tensor(file: BinaryIO, tensor: Tensor, config: ModelConfig, quant: QuantType) -> None:
    encode: Callable[[Floats], Bytes] | None = quant.encode
    assert encode is not None
    for values in _pieces(tensor, config):
        file.write(encode(np.ascontiguousarray(values).ravel()).data)


def _pieces(tensor: Tensor, config: ModelConfig) -> Iterator[Floats]:
    """The values of a tensor in the order of Hugging Face, whole heads at a time."""
    is_rotated = tensor.name.split(".")[-2] in ("attn_q", "attn_k")
    n_in = tensor.shape[-1] if len(tensor.shape) > 1 else 1
    n_rows, unit = tensor.n_elements // n_in, config.head_dim if is_rotated else 1
    step = max(1, PIECE_ELEMENTS // (n_in * unit)) * unit
    for first in range(0, n_rows, step):
        last = min(first + step, n_rows)
        if len(tensor.shape) > 1:
            shape = (last - first, n_in)
            values = dequantize(Tensor(tensor.name, tensor.type, shape, tensor.rows(first, last)))
        else:
            values = dequantize(tensor)[first:last]
        if is_rotated:
            values = values.reshape(-1, config.head_dim // 2, 2, n_in).swapaxes(1, 2)
        yield values


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    """Write the directory that the command line describes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("gguf", type=Path)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--dtype", choices=list(DTYPES), default="F32")
    parser.add_argument("--shards", type=int, default=1)
    args = parser.parse_args()
    with GGUFFile(args.gguf) as source:
        make_directory(source, args.directory, args.dtype, args.shards)


if __name__ == "__main__":
    main()
