"""Names of Llama's tensors in Hugging Face's models, and what they are in GGUF."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from llorch.formats.hugging_face.config import LlamaSizes

EMBEDDING, NORM, HEAD = "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"

_OUTER: Mapping[str, str] = {
    EMBEDDING: "token_embd.weight",
    NORM: "output_norm.weight",
    HEAD: "output.weight",
}
_NORMS = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
_ATTENTION = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
}
_MLP = {
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_OF_LAYER = _NORMS | _ATTENTION | _MLP
_VOCAB, _WIDTH, _INNER = "vocab_size", "hidden_size", "intermediate_size"
_QUERIES, _KEYS = "num_attention_heads * head_dim", "num_key_value_heads * head_dim"
_MATRICES: Mapping[str, tuple[str, str]] = {
    "token_embd": (_VOCAB, _WIDTH),
    "output": (_VOCAB, _WIDTH),
    "attn_q": (_QUERIES, _WIDTH),
    "attn_k": (_KEYS, _WIDTH),
    "attn_v": (_KEYS, _WIDTH),
    "attn_output": (_WIDTH, _QUERIES),
    "ffn_gate": (_INNER, _WIDTH),
    "ffn_up": (_INNER, _WIDTH),
    "ffn_down": (_WIDTH, _INNER),
}
"""Shapes, in the keys of config.json; what is not here is a vector of the hidden size."""
_LAYER_NAME = re.compile(r"model\.layers\.(0|[1-9][0-9]{0,6})\.(.+)\.(weight|bias)")
_BUFFER = re.compile(r"model\.(layers\.[0-9]{1,7}\.self_attn\.)?rotary_emb\.inv_freq")


def is_buffer(name: str) -> bool:
    """Whether a tensor is a table that old versions of transformers stored, and that config.json implies."""
    return _BUFFER.fullmatch(name) is not None


def gguf_name(name: str) -> str | None:
    """GGUF's name of a tensor, None if Llama has none of that name."""
    if name in _OUTER:
        return _OUTER[name]
    match = _LAYER_NAME.fullmatch(name)
    if match is None or match[2] not in _OF_LAYER or (match[2] in _NORMS and match[3] == "bias"):
        return None
    return f"blk.{match[1]}.{_OF_LAYER[match[2]]}.{match[3]}"


def implied_names(sizes: LlamaSizes) -> Iterator[str]:
    """Names of all tensors that a config implies; lazily, it may claim millions of layers."""
    yield from (EMBEDDING, NORM) if sizes.is_tied else (EMBEDDING, NORM, HEAD)
    of_layer = [f"{name}.weight" for name in _OF_LAYER]
    of_layer += [f"{name}.bias" for name in _ATTENTION if sizes.attention_bias]
    of_layer += [f"{name}.bias" for name in _MLP if sizes.mlp_bias]
    for layer in range(sizes.n_layer):
        yield from (f"model.layers.{layer}.{name}" for name in of_layer)


def bias_key(gguf: str) -> str | None:
    """The key of config.json that says whether there is a bias of this GGUF name; None for a weight."""
    if not gguf.endswith(".bias"):
        return None
    return "attention_bias" if ".attn_" in gguf else "mlp_bias"


def layer_of(gguf: str) -> int | None:
    """Number of the layer of a tensor by its GGUF name, None outside the layers."""
    return int(gguf.split(".")[1]) if gguf.startswith("blk.") else None


def implied_shape(gguf: str, sizes: LlamaSizes) -> tuple[tuple[int, ...], str]:
    """Shape that a config implies for a tensor, given its GGUF name; and the keys it comes from, for messages."""
    role, _, kind = gguf.removeprefix(f"blk.{layer_of(gguf)}.").rpartition(".")
    widths = {
        _VOCAB: sizes.n_vocab,
        _WIDTH: sizes.n_embd,
        _QUERIES: sizes.n_head * sizes.head_dim,
        _KEYS: sizes.n_head_kv * sizes.head_dim,
        _INNER: sizes.n_ff,
    }
    keys = _MATRICES.get(role, (_WIDTH,))
    if kind == "bias":
        keys = keys[:1]
    return tuple(widths[key] for key in keys), " × ".join(keys)
