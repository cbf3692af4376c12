"""Shapes of well-known Llama models: keys and tensors of a synthetic file of the same size."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class RopeScaling:
    """RoPE scaling of Llama 3 (`rope_scaling` of its config.json)."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    n_ctx_original: int

    def divisors(self, n_rot: int, freq_base: float) -> list[float]:
        """`rope_freqs.weight`: the divisor of each pair's frequency.

        Source: `Llama3Model.generate_extra_tensors` in llama.cpp's conversion scripts.
        """
        low_wavelength = self.n_ctx_original / self.low_freq_factor
        high_wavelength = self.n_ctx_original / self.high_freq_factor
        divisors = []
        for i in range(0, n_rot, 2):
            wavelength = 2 * math.pi * freq_base ** (i / n_rot)
            if wavelength < high_wavelength:
                divisors.append(1.0)
            elif wavelength > low_wavelength:
                divisors.append(self.factor)
            else:
                smooth = (self.n_ctx_original / wavelength - self.low_freq_factor) / (
                    self.high_freq_factor - self.low_freq_factor
                )
                divisors.append(1 / ((1 - smooth) / self.factor + smooth))
        return divisors


@dataclass(frozen=True)
class Shape:
    """Sizes of a model, in llama.cpp's words.

    Attributes:
        like: the published model with these sizes.
        vocabulary: ``"spm"`` (Llama 2) or ``"bpe"`` (Llama 3); it chooses the default vocabulary file.
        tied: the output matrix is the embedding.
    """

    like: str
    n_embd: int
    n_layer: int
    n_head: int
    n_head_kv: int
    n_ff: int
    n_vocab: int = 32000
    n_ctx_train: int = 2048
    rope_freq_base: float = 10000.0
    rope_scaling: RopeScaling | None = None
    vocabulary: str = "spm"
    tied: bool = False

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.n_embd // self.n_head

    def metadata(self) -> dict[str, str | int | float]:
        """The `llama.*` keys."""
        return {
            "llama.vocab_size": self.n_vocab,
            "llama.context_length": self.n_ctx_train,
            "llama.embedding_length": self.n_embd,
            "llama.block_count": self.n_layer,
            "llama.feed_forward_length": self.n_ff,
            "llama.attention.head_count": self.n_head,
            "llama.attention.head_count_kv": self.n_head_kv,
            "llama.attention.layer_norm_rms_epsilon": 1e-5,
            "llama.rope.dimension_count": self.head_dim,
            "llama.rope.freq_base": self.rope_freq_base,
        }

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Names and NumPy shapes, in the order of llama.cpp's conversion; vectors are F32."""
        if self.rope_scaling:
            yield "rope_freqs.weight", (self.head_dim // 2,)
        yield "token_embd.weight", (self.n_vocab, self.n_embd)
        n_embd_kv = self.n_head_kv * self.head_dim
        for layer in range(self.n_layer):
            prefix = f"blk.{layer}."
            yield prefix + "attn_norm.weight", (self.n_embd,)
            yield prefix + "attn_q.weight", (self.n_embd, self.n_embd)
            yield prefix + "attn_k.weight", (n_embd_kv, self.n_embd)
            yield prefix + "attn_v.weight", (n_embd_kv, self.n_embd)
            yield prefix + "attn_output.weight", (self.n_embd, self.n_embd)
            yield prefix + "ffn_norm.weight", (self.n_embd,)
            yield prefix + "ffn_gate.weight", (self.n_ff, self.n_embd)
            yield prefix + "ffn_up.weight", (self.n_ff, self.n_embd)
            yield prefix + "ffn_down.weight", (self.n_embd, self.n_ff)
        yield "output_norm.weight", (self.n_embd,)
        if not self.tied:
            yield "output.weight", (self.n_vocab, self.n_embd)

    @property
    def n_parameters(self) -> int:
        """Number of values in all tensors."""
        return sum(math.prod(shape) for _, shape in self.tensors())


SHAPES = {
    "24M": Shape("stories15M, untied", n_embd=288, n_layer=6, n_head=6, n_head_kv=6, n_ff=768),
    "134M": Shape(
        "SmolLM-135M", n_embd=576, n_layer=30, n_head=9, n_head_kv=3, n_ff=1536, n_vocab=49152, tied=True
    ),
    "1.1B": Shape("TinyLlama-1.1B", n_embd=2048, n_layer=22, n_head=32, n_head_kv=4, n_ff=5632),
    "7B": Shape("Llama-2-7B", n_embd=4096, n_layer=32, n_head=32, n_head_kv=32, n_ff=11008, n_ctx_train=4096),
    "llama-3.2-1B": Shape(
        "Llama-3.2-1B",
        n_embd=2048,
        n_layer=16,
        n_head=32,
        n_head_kv=8,
        n_ff=8192,
        n_vocab=128256,
        n_ctx_train=131072,
        rope_freq_base=500000.0,
        rope_scaling=RopeScaling(32.0, 1.0, 4.0, 8192),
        vocabulary="bpe",
        tied=True,
    ),
}
"""Shapes by the names that `make_synthetic` takes."""
