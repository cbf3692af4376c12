"""Tiny random Llama directories as Hugging Face lays them out, the same bytes on every machine.

Only NumPy's bit generator is used, whose stream is fixed for ever, not its distributions, which may change.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tests.support.hf_tokenizers import BOS, EOS, SPECIAL, byte_level, sentencepiece_like
from tests.support.safetensors_writer import Tensors, encoded, write_safetensors

SIZES: Mapping[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_act": "silu",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 384,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
}
"""The entries without which there is no model."""
CONFIG: Mapping[str, Any] = {
    **SIZES,
    "rope_theta": 10000.0,
    "rope_scaling": None,
    "tie_word_embeddings": False,
    "attention_bias": False,
    "mlp_bias": False,
    "bos_token_id": BOS,
    "eos_token_id": EOS,
}
TORCH_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_STANDARD_DEVIATION_OF_FOUR = 65536 * (4 / 12) ** 0.5


def write_directory(
    path: Path,
    *,
    config: Mapping[str, Any] | None = None,
    without: Collection[str] = (),
    dtype: str | Mapping[str, str] = "F32",
    shards: int = 1,
    seed: int = 0,
    tokenizer: bool | Literal["spm", "bpe"] = True,
) -> Path:
    """Write a directory with `config.json`, weights and a tokenizer; returns `path`.

    Args:
        path: the directory, made where it is absent.
        config: entries of `config.json` beside or instead of those of `CONFIG`.
        without: entries to leave out of it.
        dtype: type of the weights; or types by a part of the tensor's name, of which the last that occurs in it counts
            (``""`` is in all): ``{"": "BF16", "norm": "F32"}``.
        shards: number of safetensors files; with more than one there is an index.
        seed: other weights for each.
        tokenizer: True is "spm", SentencePiece's kind; "bpe" is the one of bytes; False writes none.
    """
    path.mkdir(parents=True, exist_ok=True)
    types = {"": dtype} if isinstance(dtype, str) else dtype
    values = {**CONFIG, "torch_dtype": TORCH_DTYPES.get(next(iter(types.values()))), **(config or {})}
    tensors = random_tensors(values, types, seed)
    _write_json(path / "config.json", {k: v for k, v in values.items() if k not in without})
    _write_json(path / "generation_config.json", {k: values[k] for k in ("bos_token_id", "eos_token_id")})
    write_weights(path, tensors, shards)
    if tokenizer:
        _write_tokenizer(path, byte_level() if tokenizer == "bpe" else sentencepiece_like())
    return path


def write_weights(path: Path, tensors: Tensors, shards: int = 1) -> None:
    """`model.safetensors`, or numbered files with about as many tensors each and their index."""
    about = {"format": "pt"}
    if shards == 1:
        write_safetensors(path / "model.safetensors", tensors, metadata=about)
        return
    names = list(tensors)
    weight_map: dict[str, str] = {}
    for i, part in enumerate(np.array_split(np.arange(len(names)), shards)):
        file = f"model-{i + 1:05d}-of-{shards:05d}.safetensors"
        members = {names[at]: tensors[names[at]] for at in part}
        write_safetensors(path / file, members, metadata=about)
        weight_map |= dict.fromkeys(members, file)
    total = sum(array.nbytes for _, array in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    _write_json(path / "model.safetensors.index.json", index)


def tensor_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Shape by Hugging Face name of every tensor of a model with this configuration."""
    n_embd, n_ff, n_vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    head_dim = config.get("head_dim") or n_embd // config["num_attention_heads"]
    n_q, n_kv = config["num_attention_heads"] * head_dim, config["num_key_value_heads"] * head_dim
    matrices = {
        "self_attn.q_proj": (n_q, n_embd),
        "self_attn.k_proj": (n_kv, n_embd),
        "self_attn.v_proj": (n_kv, n_embd),
        "self_attn.o_proj": (n_embd, n_q),
        "mlp.gate_proj": (n_ff, n_embd),
        "mlp.up_proj": (n_ff, n_embd),
        "mlp.down_proj": (n_embd, n_ff),
    }
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (n_vocab, n_embd)}
    for layer in range(config["num_hidden_layers"]):
        head = f"model.layers.{layer}."
        shapes[f"{head}input_layernorm.weight"] = (n_embd,)
        for name, shape in matrices.items():
            shapes[f"{head}{name}.weight"] = shape
            if config["mlp_bias" if name.startswith("mlp") else "attention_bias"]:
                shapes[f"{head}{name}.bias"] = shape[:1]
        shapes[f"{head}post_attention_layernorm.weight"] = (n_embd,)
    shapes["model.norm.weight"] = (n_embd,)
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (n_vocab, n_embd)
    return shapes


def random_values(name: str, shape: tuple[int, ...], seed: int = 0) -> NDArray[np.float32]:
    """About normally distributed values that keep activations near 1: norms about 1, matrices by their width."""
    bits = np.random.PCG64([seed, zlib.crc32(name.encode())]).random_raw(int(np.prod(shape)))
    sums = bits.astype("<u8").view("<u2").reshape(-1, 4).sum(axis=1, dtype=np.int64) - 2 * 65535
    unit = sums / _STANDARD_DEVIATION_OF_FOUR
    if name.endswith("norm.weight"):
        values = 1.0 + 0.1 * unit
    elif name.endswith(".bias"):
        values = 0.3 * unit
    else:
        values = unit * (1.0 if "embed_tokens" in name else 1.5 / shape[-1] ** 0.5)
    return values.astype(np.float32).reshape(shape)


def random_tensors(config: Mapping[str, Any], types: Mapping[str, str], seed: int = 0) -> dict[str, Any]:
    """Type name and array by Hugging Face name, as `write_safetensors` takes them."""
    tensors = {}
    for name, shape in tensor_shapes(config).items():
        dtype = [kind for part, kind in types.items() if part in name][-1]
        tensors[name] = dtype, encoded(random_values(name, shape, seed), dtype)
    return tensors


def sha256_of_weights(path: Path) -> str:
    """SHA-256 of all tensors of a directory by name: of names, types and bytes, wherever in the files they lie."""
    found: dict[str, tuple[str, memoryview]] = {}
    for file in path.glob("*.safetensors"):
        content = memoryview(file.read_bytes())
        data = 8 + int.from_bytes(content[:8], "little")
        header: dict[str, Any] = json.loads(bytes(content[8:data]))
        header.pop("__metadata__", None)
        for name, info in header.items():
            begin, end = info["data_offsets"]
            found[name] = info["dtype"], content[data + begin : data + end]
    digest = hashlib.sha256()
    for name, (dtype, raw) in sorted(found.items()):
        digest.update(f"{name} {dtype}\n".encode())
        digest.update(raw)
    return digest.hexdigest()


def _write_tokenizer(path: Path, tokenizer: Mapping[str, Any]) -> None:
    _write_json(path / "tokenizer.json", tokenizer)
    is_spm = tokenizer["model"]["byte_fallback"]
    names = dict(zip(("unk_token", "bos_token", "eos_token"), SPECIAL, strict=True))
    kind = "LlamaTokenizer" if is_spm else "PreTrainedTokenizerFast"
    rest = {"tokenizer_class": kind, "add_bos_token": True, "add_eos_token": False}
    _write_json(path / "tokenizer_config.json", names | rest)
    _write_json(path / "special_tokens_map.json", names)


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
