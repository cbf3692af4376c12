"""What the model is: every size, read from the file's metadata and checked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sized
from dataclasses import dataclass

import numpy as np

from llorch.errors import ModelError, described, shown

ARCHITECTURE = "llama"
FAMILIES = (
    "Llama 1 to 3.3, TinyLlama, CodeLlama, Vicuna, Mistral 7B and Nemo, SmolLM and SmolLM2, DeepSeek-LLM, "
    "DeepSeek-R1-Distill-Llama, Yi"
)
_IGNORED = ("llama.attention.sliding_window", *(f"llama.rope.scaling.yarn_{name}" for name in (
    "ext_factor", "attn_factor", "beta_fast", "beta_slow", "log_multiplier")))  # fmt: skip
"""Keys that llama.cpp reads for other architectures only; in a `llama` file they change nothing there, nor here."""
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
        rope_attn_factor: factor on RoPE's cosines and sines, beside the one that YaRN brings.
        n_ctx_orig_yarn: positions the model was trained for before YaRN stretched them; 0 without YaRN.
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
    rope_attn_factor: float = 1.0
    n_ctx_orig_yarn: int = 0

    @property
    def n_embd_q(self) -> int:
        """Width of all query heads together."""
        return self.n_head * self.head_dim

    @property
    def n_embd_kv(self) -> int:
        """Width of all key heads together."""
        return self.n_head_kv * self.head_dim

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, object], oddities: list[str] | None = None) -> ModelConfig:
        """Read and check a configuration.

        Args:
            metadata: values by GGUF key.
            oddities: what is odd in the file but does not keep it from being used is appended, a clause for each.

        Raises:
            ModelError: a key is missing, of the wrong type, out of range, or contradicts another.
        """
        read = _Reader(metadata, [] if oddities is None else oddities)
        architecture = read.text("general.architecture")
        if architecture != ARCHITECTURE:
            raise ModelError(
                f"general.architecture: {shown(architecture)} is not supported, expected {ARCHITECTURE!r}, which files "
                f"of these models say: {FAMILIES}"
            )
        if read.count("llama.expert_count", 0, smallest=0):
            raise ModelError("llama.expert_count: mixture-of-experts models are not supported")
        n_embd = read.count("llama.embedding_length")
        n_layer = read.count("llama.block_count")
        n_head = read.count_of_layers("llama.attention.head_count", n_layer)
        n_head_kv = read.count_of_layers("llama.attention.head_count_kv", n_layer, n_head)
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
        read.oddities += [f"{key} is not used for this architecture" for key in _IGNORED if key in metadata]
        n_ctx_train = read.count("llama.context_length")
        scaling = _rope_scaling(read)
        return cls(
            n_vocab=_n_vocab(read),
            n_embd=n_embd,
            n_layer=n_layer,
            n_head=n_head,
            n_head_kv=n_head_kv,
            head_dim=head_dim,
            n_ff=read.count_of_layers("llama.feed_forward_length", n_layer),
            n_ctx_train=n_ctx_train,
            n_rot=n_rot,
            rope_freq_base=read.positive("llama.rope.freq_base", 10000.0),
            rope_freq_scale=1.0 if scaling == "none" else _rope_freq_scale(read),
            norm_eps=_norm_eps(read),
            rope_attn_factor=read.positive("llama.rope.scaling.attn_factor", 1.0),
            n_ctx_orig_yarn=_n_ctx_orig(read, n_ctx_train) if scaling == "yarn" else 0,
        )


class _Reader:
    """Typed access to metadata; every error names the key, what was expected and what was found."""

    def __init__(self, metadata: Mapping[str, object], oddities: list[str]) -> None:
        self.metadata = metadata
        self.oddities = oddities

    def text(self, key: str) -> str:
        value = self.metadata.get(key)
        if not isinstance(value, str):
            raise ModelError(f"{key}: expected a string, got {described(value)}")
        return value

    def count(self, key: str, default: int | None = None, *, smallest: int = 1) -> int:
        return _count(key, self.metadata.get(key, default), smallest)

    def count_of_layers(self, key: str, n_layer: int, default: int | None = None) -> int:
        """A size that all layers share: one number, or an array with the same one for each layer.

        Source: llama.cpp `llama_model_loader::get_key_or_arr`; it runs layers of different sizes, too.
        """
        values = self.metadata.get(key)
        if not isinstance(values, np.ndarray):
            return self.count(key, default)
        if values.dtype.kind not in "iu":
            raise ModelError(f"{key}: expected whole numbers, got {described(values)}")
        if len(values) != n_layer:
            raise ModelError(f"{key}: got {len(values)} values for the {n_layer} layers of llama.block_count")
        if (differs := values != values[0]).any():
            layer = int(differs.argmax())
            raise ModelError(
                f"{key}: {values[layer]} in layer {layer}, but {values[0]} in layer 0; "
                "layers of different sizes are not supported"
            )
        size = _count(key, int(values[0]))
        self.oddities.append(f"{key} is an array with {size} for each of {n_layer} layers")
        return size

    def positive(self, key: str, default: float | None = None) -> float:
        value = self.metadata.get(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ModelError(f"{key}: expected a number, got {described(value)}")
        if not (math.isfinite(value) and value > 0):
            raise ModelError(f"{key}: {value} is out of range, expected a finite number above 0")
        return float(value)


def _whole(key: str, value: object) -> int:
    if isinstance(value, Sized) and not isinstance(value, (str, bytes)):
        raise ModelError(f"{key}: one number expected, got an array (not supported)")
    if isinstance(value, bool) or not isinstance(value, int):
        raise ModelError(f"{key}: expected a whole number, got {described(value)}")
    return value


def _count(key: str, value: object, smallest: int = 1) -> int:
    number = _whole(key, value)
    if not smallest <= number <= _MOST:
        raise ModelError(f"{key}: {number} is out of range, expected {smallest} to {_MOST}")
    return number


def _n_vocab(read: _Reader) -> int:
    """Tokens of the vocabulary; `llama.vocab_size` counts only where there are none, as in llama.cpp."""
    key = "llama.vocab_size"
    tokens = read.metadata.get("tokenizer.ggml.tokens")
    n_tokens = len(tokens) if isinstance(tokens, Sized) and not isinstance(tokens, str) else 0
    if not n_tokens:
        if key not in read.metadata:
            raise ModelError(f"{key}: missing, and there is no tokenizer.ggml.tokens to count instead")
        return read.count(key)
    stated = _whole(key, read.metadata.get(key, n_tokens))
    if stated != n_tokens:
        read.oddities.append(f"{key} is {stated}, but there are {n_tokens} tokens, which count")
    return n_tokens


def _rope_scaling(read: _Reader) -> str:
    kind = read.metadata.get("llama.rope.scaling.type", "linear")
    if not isinstance(kind, str) or kind not in ("none", "linear", "yarn"):
        raise ModelError(
            f"llama.rope.scaling.type: {shown(kind)} is not supported, expected 'none', 'linear' or 'yarn'"
        )
    return kind


def _n_ctx_orig(read: _Reader, n_ctx_train: int) -> int:
    return read.count("llama.rope.scaling.original_context_length", n_ctx_train, smallest=0) or n_ctx_train


def _rope_freq_scale(read: _Reader) -> float:
    """The inverse of the scaling factor; the old key counts only where there is no new one, as in llama.cpp."""
    keys = ("llama.rope.scaling.factor", "llama.rope.scale_linear")
    key = next((key for key in keys if key in read.metadata), None)
    factor = read.metadata[key] if key else 0.0
    # A factor of 0 is none. Arrays have no truth value of their own, so the type is asked for first.
    return 1.0 if isinstance(factor, (int, float)) and factor == 0 else 1.0 / read.positive(str(key))


def _norm_eps(read: _Reader) -> float:
    key = "llama.attention.layer_norm_rms_epsilon"
    eps = read.positive(key)
    if eps >= 1.0:
        raise ModelError(f"{key}: {eps} is out of range, expected a number below 1")
    return eps
