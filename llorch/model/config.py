"""What the model is: every size, read from the file's metadata and checked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sized
from dataclasses import dataclass

from llorch.errors import ModelError, described, shown

ARCHITECTURE = "llama"
_MOST = 1 << 24
"""No size of a real model comes near; larger numbers are refused before anything is computed from them."""


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Sizes and constants of a Llama model, in llama.cpp's words.

    Attributes:
        n_vocab: tokens in the vocabulary.
        n_embd: width of the residual stream.
        n_layer: transformer blocks.
        n_head, n_head_kv: query heads, and key/value heads they share.
        head_dim: width of one head.
        n_ff: width of the feed-forward network.
        n_ctx_train: positions the model was trained for.
        n_rot: components of a head that RoPE rotates.
        rope_freq_base: RoPE's base frequency.
        rope_freq_scale: factor on positions, 1 / (linear scaling factor).
        norm_eps: epsilon of RMSNorm.
    """

    n_vocab: int
    n_embd: int
    n_layer: int
    n_head: int
    n_head_kv: int
    head_dim: int
    n_ff: int
    n_ctx_train: int
    n_rot: int
    rope_freq_base: float
    rope_freq_scale: float
    norm_eps: float

    @property
    def n_embd_q(self) -> int:
        """Width of all query heads together."""
        return self.n_head * self.head_dim

    @property
    def n_embd_kv(self) -> int:
        """Width of all key heads together."""
        return self.n_head_kv * self.head_dim

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, object]) -> ModelConfig:
        """Read and check a configuration.

        Raises:
            ModelError: a key is missing, of the wrong type, out of range, or contradicts another.
        """
        read = _Reader(metadata)
        architecture = read.text("general.architecture")
        if architecture != ARCHITECTURE:
            raise ModelError(
                f"general.architecture: {architecture!r} is not supported, expected {ARCHITECTURE!r} "
                "(Llama 1-3, TinyLlama, Mistral and other models of that layout)"
            )
        if read.count("llama.expert_count", 0, smallest=0):
            raise ModelError("llama.expert_count: mixture-of-experts models are not supported")
        n_embd = read.count("llama.embedding_length")
        n_head = read.count("llama.attention.head_count")
        n_head_kv = read.count("llama.attention.head_count_kv", n_head)
        if n_head % n_head_kv:
            raise ModelError(
                f"llama.attention.head_count_kv: {n_head_kv} does not divide the {n_head} heads of "
                "llama.attention.head_count"
            )
        if n_embd % n_head and "llama.attention.key_length" not in metadata:
            raise ModelError(
                f"llama.attention.head_count: {n_head} heads do not share llama.embedding_length {n_embd} evenly, "
                "and llama.attention.key_length does not say how wide they are"
            )
        head_dim = read.count("llama.attention.key_length", n_embd // n_head)
        value_dim = read.count("llama.attention.value_length", head_dim)
        if value_dim != head_dim:
            raise ModelError(
                f"llama.attention.value_length: {value_dim} differs from the key length {head_dim}, "
                "which is not supported"
            )
        n_rot = read.count("llama.rope.dimension_count", head_dim)
        if n_rot % 2 or n_rot > head_dim:
            raise ModelError(
                f"llama.rope.dimension_count: {n_rot} must be even and at most the head width {head_dim}"
            )
        return cls(
            n_vocab=_n_vocab(read),
            n_embd=n_embd,
            n_layer=read.count("llama.block_count"),
            n_head=n_head,
            n_head_kv=n_head_kv,
            head_dim=head_dim,
            n_ff=read.count("llama.feed_forward_length"),
            n_ctx_train=read.count("llama.context_length"),
            n_rot=n_rot,
            rope_freq_base=read.positive("llama.rope.freq_base", 10000.0),
            rope_freq_scale=_rope_freq_scale(read),
            norm_eps=_norm_eps(read),
        )


class _Reader:
    """Typed access to metadata; every error names the key, what was expected and what was found."""

    def __init__(self, metadata: Mapping[str, object]) -> None:
        self.metadata = metadata

    def text(self, key: str) -> str:
        value = self.metadata.get(key)
        if not isinstance(value, str):
            raise ModelError(f"{key}: expected a string, got {described(value)}")
        return value

    def count(self, key: str, default: int | None = None, *, smallest: int = 1) -> int:
        value = self.metadata.get(key, default)
        if isinstance(value, Sized) and not isinstance(value, (str, bytes)):
            raise ModelError(f"{key}: one number for all layers expected, got an array (not supported)")
        if isinstance(value, bool) or not isinstance(value, int):
            raise ModelError(f"{key}: expected a whole number, got {described(value)}")
        if not smallest <= value <= _MOST:
            raise ModelError(f"{key}: {value} is out of range, expected {smallest} to {_MOST}")
        return value

    def positive(self, key: str, default: float | None = None) -> float:
        value = self.metadata.get(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ModelError(f"{key}: expected a number, got {described(value)}")
        if not (math.isfinite(value) and value > 0):
            raise ModelError(f"{key}: {value} is out of range, expected a finite number above 0")
        return float(value)


def _n_vocab(read: _Reader) -> int:
    if "llama.vocab_size" in read.metadata:
        return read.count("llama.vocab_size")
    tokens = read.metadata.get("tokenizer.ggml.tokens")
    if not isinstance(tokens, Sized) or not len(tokens):
        raise ModelError("llama.vocab_size: missing, and there is no tokenizer.ggml.tokens to count instead")
    return len(tokens)


def _rope_freq_scale(read: _Reader) -> float:
    kind = read.metadata.get("llama.rope.scaling.type", "linear")
    if kind == "none":
        return 1.0
    if kind != "linear":
        raise ModelError(
            f"llama.rope.scaling.type: {shown(kind)} is not supported, expected 'none' or 'linear'"
        )
    for key in ("llama.rope.scaling.factor", "llama.rope.scale_linear"):
        factor = read.metadata.get(key, 0.0)
        if factor != 0.0:  # llama.cpp reads a factor of 0 as none
            return 1.0 / read.positive(key)
    return 1.0


def _norm_eps(read: _Reader) -> float:
    key = "llama.attention.layer_norm_rms_epsilon"
    eps = read.positive(key)
    if eps >= 1.0:
        raise ModelError(f"{key}: {eps} is out of range, expected a number below 1")
    return eps
