"""Tiny but complete Llama GGUF files with random weights, written by the `gguf` package.

The package is an independent implementation of the format, so a file from here that llorch reads is evidence.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

N_SPECIAL = 3  # <unk>, <s>, </s>
N_BYTES = 256
WORDS = (  # noqa: SIM905
    "▁ e t a o n i s r h d l u c m w y f g p b v k . , ' ! ? T H I A S "
    "▁t he ▁a in nd ▁s er ed ▁w ▁h re on ▁the ▁and ▁to ▁was ▁in it ou ▁he ▁b ▁f ▁o ing "
    "▁l en ▁m ▁c at an or es ▁d is ll ▁st ▁H Hello ▁Hello ▁w or ld ▁world ▁Once ▁upon ▁time"
).split()


def spm_vocabulary(n_vocab: int) -> tuple[list[bytes], list[float], list[int]]:
    """Tokens, scores and types of a SentencePiece vocabulary with byte fallback and `n_vocab` entries."""
    words = list(dict.fromkeys(WORDS))
    words += [f"▁w{i}" for i in range(n_vocab)]  # filler
    words = words[: n_vocab - N_SPECIAL - N_BYTES]
    tokens = [b"<unk>", b"<s>", b"</s>", *(f"<0x{i:02X}>".encode() for i in range(N_BYTES))]
    tokens += [word.encode() for word in words]
    scores = [0.0] * (N_SPECIAL + N_BYTES) + [-float(i) for i in range(len(words))]
    kinds = gguf.TokenType
    types = [kinds.UNKNOWN, kinds.CONTROL, kinds.CONTROL] + [kinds.BYTE] * N_BYTES
    types += [kinds.NORMAL] * len(words)
    return tokens, scores, [int(kind) for kind in types]


def tiny_metadata(
    *, n_vocab: int, n_layer: int, n_embd: int, n_head: int, n_head_kv: int, n_ff: int, n_ctx_train: int
) -> dict[str, tuple[gguf.GGUFValueType, Any]]:
    """Metadata of a Llama model by key: value type and value."""
    tokens, scores, types = spm_vocabulary(n_vocab)
    kind = gguf.GGUFValueType
    return {
        "general.name": (kind.STRING, "tiny llama"),
        "general.file_type": (kind.UINT32, 7),
        "llama.vocab_size": (kind.UINT32, n_vocab),
        "llama.context_length": (kind.UINT32, n_ctx_train),
        "llama.embedding_length": (kind.UINT32, n_embd),
        "llama.block_count": (kind.UINT32, n_layer),
        "llama.feed_forward_length": (kind.UINT32, n_ff),
        "llama.attention.head_count": (kind.UINT32, n_head),
        "llama.attention.head_count_kv": (kind.UINT32, n_head_kv),
        "llama.rope.dimension_count": (kind.UINT32, n_embd // n_head),
        "llama.rope.freq_base": (kind.FLOAT32, 10000.0),
        "llama.attention.layer_norm_rms_epsilon": (kind.FLOAT32, 1e-5),
        "tokenizer.ggml.model": (kind.STRING, "llama"),
        "tokenizer.ggml.pre": (kind.STRING, "default"),
        "tokenizer.ggml.tokens": (kind.ARRAY, tokens),
        "tokenizer.ggml.scores": (kind.ARRAY, scores),
        "tokenizer.ggml.token_type": (kind.ARRAY, types),
        "tokenizer.ggml.bos_token_id": (kind.UINT32, 1),
        "tokenizer.ggml.eos_token_id": (kind.UINT32, 2),
        "tokenizer.ggml.unknown_token_id": (kind.UINT32, 0),
        "tokenizer.ggml.add_bos_token": (kind.BOOL, True),
        "tokenizer.ggml.add_eos_token": (kind.BOOL, False),
        "tokenizer.ggml.add_space_prefix": (kind.BOOL, True),
    }


def tiny_tensors(
    *, n_vocab: int, n_layer: int, n_embd: int, n_head: int, n_head_kv: int, n_ff: int, head_dim: int,
    tied: bool, seed: int,
) -> dict[str, NDArray[np.float32]]:  # fmt: skip
    """Random float32 weights by GGUF name, in NumPy shape."""
    rng = np.random.default_rng(seed)
    n_embd_q, n_embd_kv = n_head * head_dim, n_head_kv * head_dim

    def matrix(n_out: int, n_in: int) -> NDArray[np.float32]:
        return (rng.standard_normal((n_out, n_in)) / np.sqrt(n_in)).astype(np.float32)

    def norm() -> NDArray[np.float32]:
        return (1 + 0.1 * rng.standard_normal(n_embd)).astype(np.float32)

    tensors = {"token_embd.weight": matrix(n_vocab, n_embd), "output_norm.weight": norm()}
    if not tied:
        tensors["output.weight"] = matrix(n_vocab, n_embd)
    for layer in range(n_layer):
        tensors |= {
            f"blk.{layer}.attn_norm.weight": norm(),
            f"blk.{layer}.attn_q.weight": matrix(n_embd_q, n_embd),
            f"blk.{layer}.attn_k.weight": matrix(n_embd_kv, n_embd),
            f"blk.{layer}.attn_v.weight": matrix(n_embd_kv, n_embd),
            f"blk.{layer}.attn_output.weight": matrix(n_embd, n_embd_q),
            f"blk.{layer}.ffn_norm.weight": norm(),
            f"blk.{layer}.ffn_gate.weight": matrix(n_ff, n_embd),
            f"blk.{layer}.ffn_up.weight": matrix(n_ff, n_embd),
            f"blk.{layer}.ffn_down.weight": matrix(n_embd, n_ff),
        }
    return tensors


def write_tiny_llama(
    path: Path | str,
    *,
    n_layer: int = 1,
    n_embd: int = 64,
    n_head: int = 4,
    n_head_kv: int = 2,
    n_ff: int = 96,
    n_vocab: int = 320,
    n_ctx_train: int = 128,
    head_dim: int | None = None,
    type: str = "Q8_0",
    types: Mapping[str, str] | None = None,
    tied: bool = False,
    seed: int = 0,
    overrides: Mapping[str, Any] | None = None,
    tensor_overrides: Mapping[str, Any] | None = None,
) -> dict[str, NDArray[np.float32]]:
    """Write a Llama model to `path` and return its weights as they were before quantisation.

    Args:
        path: file to write.
        head_dim: width of a head where it is not ``n_embd / n_head``.
        type: type of all matrices, as ggml spells it. Vectors are F32; rows that are not whole blocks F16.
        types: type by tensor name, or by its tail such as ``"attn_q.weight"``; wins over `type`.
        tied: leave `output.weight` out.
        overrides: metadata by key. None removes a key, a value keeps the usual value type, a pair
            ``(gguf.GGUFValueType, value)`` sets both.
        tensor_overrides: tensors by name: None removes one, an array adds or replaces one.
    """
    sizes = {
        "n_vocab": n_vocab, "n_layer": n_layer, "n_embd": n_embd, "n_head": n_head, "n_head_kv": n_head_kv,
        "n_ff": n_ff,
    }  # fmt: skip
    metadata = tiny_metadata(**sizes, n_ctx_train=n_ctx_train)
    if head_dim:
        keys = ("attention.key_length", "attention.value_length", "rope.dimension_count")
        metadata |= {f"llama.{key}": (gguf.GGUFValueType.UINT32, head_dim) for key in keys}
    tensors = tiny_tensors(**sizes, head_dim=head_dim or n_embd // n_head, tied=tied, seed=seed)
    for name, array in (tensor_overrides or {}).items():
        if array is None:
            del tensors[name]
        else:
            tensors[name] = np.asarray(array, np.float32)
    writer = gguf.GGUFWriter(str(path), "llama")
    try:
        _add_metadata(writer, metadata, overrides or {})
        for name, array in tensors.items():
            wanted = _tensor_type(name, array, type, types or {})
            data = gguf.quants.quantize(array, wanted)
            writer.add_tensor(name, data, raw_dtype=wanted)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()
    return tensors


def _add_metadata(writer: gguf.GGUFWriter, metadata: dict[str, Any], overrides: Mapping[str, Any]) -> None:
    for key, value in overrides.items():
        if value is None:
            metadata.pop(key)
        elif isinstance(value, tuple):
            metadata[key] = value
        else:
            usual = metadata[key][0] if key in metadata else gguf.GGUFValueType.get_type(value)
            metadata[key] = (usual, value)
    for key, (kind, value) in metadata.items():
        if key == "general.architecture":  # the writer has set it already
            writer.kv_data[0][key].value = value
        else:
            writer.add_key_value(key, value, kind)


def _tensor_type(
    name: str, array: NDArray[np.float32], default: str, types: Mapping[str, str]
) -> gguf.GGMLQuantizationType:
    for tail, chosen in types.items():
        if name == tail or name.endswith("." + tail):
            return gguf.GGMLQuantizationType[chosen]
    if array.ndim == 1:
        return gguf.GGMLQuantizationType.F32
    wanted = gguf.GGMLQuantizationType[default]
    if array.shape[-1] % gguf.GGML_QUANT_SIZES[wanted][0]:
        return gguf.GGMLQuantizationType.F16
    return wanted
