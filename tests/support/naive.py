"""Slow, obvious twins of the kernels and a float64 Llama: NumPy only, one idea per function.

The twins repeat the kernels' order of operations, so they must agree bit for bit; the model repeats the paper,
so it agrees to within the precision of float32 and of the activations.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

from llorch.quant.codecs.q8_0 import SCALE_BYTES as Q8_0_SCALE_BYTES
from llorch.quant.codecs.q8_0 import quantize_activation_q8_0
from llorch.quant.tensor import Tensor, dequantize
from tests.support.naive_rope_scaling import scaling_of

F32 = np.float32
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


def bits(values: Any) -> NDArray[np.uint32]:
    """Bit patterns of float32 values, for comparisons that tell -0 from 0 and see NaN equal itself."""
    return np.ascontiguousarray(values, np.float32).view(np.uint32)


def comparable(values: Floats) -> NDArray[np.uint32]:
    """Bits, but for the signs of zeros (the kernel adds to +0) and of NaN, which are not defined."""
    return bits(np.where(np.isnan(values), np.float32(np.nan), values + np.float32(0)))


def fused_multiply_add(a: Any, b: Any, c: Any) -> Floats:
    """``a * b + c`` of float32 arrays with a single rounding.

    The product is exact in float64. The sum is rounded to odd there, which makes its second rounding, to
    float32, the right one.
    """
    product = np.asarray(a, np.float64) * np.asarray(b, np.float64)
    c = np.asarray(c, np.float64)
    total = np.atleast_1d(product + c)
    with np.errstate(invalid="ignore"):
        part = total - product
        error = (product - (total - part)) + (c - part)
    words = total.view(np.int64).copy()
    towards = np.where((error > 0) == (total > 0), 1, -1)
    words += np.where((error != 0) & np.isfinite(total) & (words & 1 == 0), towards, 0)
    return words.view(np.float64).astype(F32).reshape(np.broadcast(product, c).shape)


def matmul_q8_0(weight: Tensor, x: Floats) -> Floats:
    """x @ weight.T with exact int32 block sums, accumulated in float32 in the order of the blocks."""
    n_out, n_in = weight.shape
    blocks = weight.data.reshape(n_out, n_in // 32, 34)
    d_w = blocks[..., :Q8_0_SCALE_BYTES].copy().view(np.float16)[..., 0].astype(F32)
    q_w = blocks[..., Q8_0_SCALE_BYTES:].view(np.int8).astype(np.int64)
    q_x, d_x = quantize_activation_q8_0(x)
    q_x = q_x.reshape(len(x), -1, 32).astype(np.int64)
    out = np.zeros((len(x), n_out), F32)
    for block in range(n_in // 32):
        sums = (q_x[:, block] @ q_w[:, block].T).astype(F32)
        scale = d_w[None, :, block] * d_x[:, None, block]
        out = fused_multiply_add(sums, scale, out)
    return out


def matmul_floats(weight: Floats, x: Floats) -> Floats:
    """x @ weight.T of float32 in 16 lanes that run over the columns and are folded in halves at the end."""
    n_in = weight.shape[1]
    padding = ((0, 0), (0, -n_in % 16))
    w, x = np.pad(weight, padding), np.pad(x, padding)
    lanes = np.zeros((len(x), len(w), 16), F32)
    for column in range(0, w.shape[1], 16):
        at = slice(column, column + 16)
        lanes = fused_multiply_add(x[:, None, at], w[None, :, at], lanes)
    while lanes.shape[-1] > 1:
        half = lanes.shape[-1] // 2
        lanes = lanes[..., :half] + lanes[..., half:]
    return lanes[..., 0]


def without_denormals(values: Floats) -> Floats:
    """Zeros, signs kept, in place of denormal numbers."""
    return np.where(np.abs(values) < np.finfo(F32).smallest_normal, np.copysign(F32(0), values), values)


def matmul_bf16(weight: Floats, x: Floats) -> Floats:
    """x @ weight.T of float32 that are bfloat16 in 16 lanes, which run over pairs of columns, the second first.

    Lanes are folded in halves at the end; denormal numbers are zeros wherever they turn up.
    """
    padding = ((0, 0), (0, -weight.shape[1] % 32))
    w, x = (np.pad(without_denormals(values), padding) for values in (weight, x))
    lanes = np.zeros((len(x), len(w), 16), F32)
    for step in range(0, w.shape[1], 32):
        for column in (step + 1, step):
            at = slice(column, step + 32, 2)
            lanes = without_denormals(fused_multiply_add(x[:, None, at], w[None, :, at], lanes))
    while lanes.shape[-1] > 1:
        half = lanes.shape[-1] // 2
        lanes = without_denormals(lanes[..., :half] + lanes[..., half:])
    return lanes[..., 0]


def float_product(weight: Tensor, x: Floats) -> Floats:
    """x @ weight.T of F32, F16 or BF16 weights, activations rounded as these want them."""
    kind = weight.type.name.lower()
    seen, values = round_activations(x, kind).astype(F32), dequantize(weight).reshape(weight.shape)
    return (matmul_bf16 if kind == "bf16" else matmul_floats)(values, seen)


def rms_norm(x: Floats, weight: Floats, eps: float) -> Floats:
    """RMSNorm with llama.cpp's roundings: one running float64 sum of float32 squares, the rest float32."""
    out = np.empty_like(x)
    for i, row in enumerate(x):
        total = 0.0
        for value in row:
            total += float(value * value)
        mean = F32(total / len(row))
        out[i] = row * (F32(1) / np.sqrt(mean + F32(eps))) * weight
    return out


def round_activations(x: Any, activation: str) -> Doubles:
    """x as it meets a weight: what its `QuantType.activation` leaves of it."""
    x = np.ascontiguousarray(x, F32)
    if activation == "q8_0":
        q, d = quantize_activation_q8_0(x)
        rounded: Doubles = (q.reshape(*d.shape, 32).astype(np.float64) * d[..., None]).reshape(x.shape)
        return rounded
    if activation == "f16":
        return np.asarray(x.astype(np.float16), np.float64)
    if activation == "bf16":
        kind = gguf.GGMLQuantizationType.BF16
        return np.asarray(gguf.dequantize(gguf.quantize(x, kind), kind), np.float64).reshape(x.shape)
    return np.asarray(x, np.float64)


def rotate(
    x: Doubles, positions: NDArray[Any], n_rot: int, base: float, factors: Any = 1.0, magnitude: float = 1.0
) -> Doubles:
    """RoPE: neighbouring pairs of the first n_rot components of x (n, heads, head_dim), as complex numbers."""
    frequencies = base ** (-np.arange(0, n_rot, 2) / n_rot) / factors
    turn = magnitude * np.exp(1j * positions[:, None, None] * frequencies)
    turned = (x[..., 0:n_rot:2] + 1j * x[..., 1:n_rot:2]) * turn
    out = x.copy()
    out[..., 0:n_rot:2], out[..., 1:n_rot:2] = turned.real, turned.imag
    return out


def attend(q: Doubles, keys: Doubles, values: Doubles, first_position: int = 0) -> Doubles:
    """Causal attention of one sequence, float64: q (n, n_head, d) over keys, values (n_kv, n_head_kv, d)."""
    keys = np.repeat(keys, q.shape[1] // keys.shape[1], axis=1)
    values = np.repeat(values, q.shape[1] // values.shape[1], axis=1)
    scores = np.einsum("qhd,khd->hqk", q, keys) / np.sqrt(q.shape[2])
    visible = np.arange(len(keys)) <= first_position + np.arange(len(q))[:, None]
    scores = np.where(visible, scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return np.asarray(np.einsum("hqk,khd->qhd", weights, values))


class NaiveLlama:
    """A Llama GGUF computed in float64 from dequantised weights; file and codecs are the `gguf` package's.

    Args:
        path: the file.
        rounds_activations: round what meets a weight as its type asks (and the norms as llama.cpp does),
            instead of computing exactly.
    """

    def __init__(self, path: Path, *, rounds_activations: bool) -> None:
        reader = gguf.GGUFReader(path)
        read = {key: field.contents() for key, field in reader.fields.items() if key.startswith("llama.")}
        self.rounds_activations = rounds_activations
        self.n_layer, self.n_head = read["llama.block_count"], read["llama.attention.head_count"]
        self.n_head_kv = read.get("llama.attention.head_count_kv", self.n_head)
        self.eps = read["llama.attention.layer_norm_rms_epsilon"]
        self.base = read.get("llama.rope.freq_base", 10000.0)
        n_embd = read["llama.embedding_length"]
        self.head_dim = read.get("llama.attention.key_length", n_embd // self.n_head)
        self.n_rot = read.get("llama.rope.dimension_count", self.head_dim)
        self.scaling = scaling_of(read)
        self.activation: dict[str, str] = {}
        self.weights: dict[str, Doubles] = {}
        for tensor in reader.tensors:
            kind = tensor.tensor_type
            values = np.asarray(gguf.dequantize(tensor.data, kind), np.float64)
            self.weights[tensor.name] = values.reshape([int(n) for n in reversed(tensor.shape)])
            self.activation[tensor.name] = kind.name.lower()

    def _matmul(self, x: Doubles, name: str) -> Doubles:
        rounded = round_activations(x, self.activation[name]) if self.rounds_activations else x
        product: Doubles = rounded @ self.weights[name].T
        return product + self.weights.get(name.removesuffix("weight") + "bias", 0.0)

    def _norm(self, x: Doubles, name: str) -> Doubles:
        if self.rounds_activations:
            return rms_norm(x.astype(F32), self.weights[name].astype(F32), self.eps).astype(np.float64)
        normed: Doubles = x / np.sqrt((x * x).mean(-1, keepdims=True) + self.eps) * self.weights[name]
        return normed

    def forward(self, token_ids: list[int]) -> Doubles:
        """Logits of every position: float64 (n, n_vocab)."""
        n, heads, heads_kv = len(token_ids), (self.n_head, self.head_dim), (self.n_head_kv, self.head_dim)
        positions = np.arange(n)
        factors = self.weights.get("rope_freqs.weight", 1.0)
        factors = factors * self.scaling.divisors(self.n_rot, self.base)
        x = self.weights["token_embd.weight"][token_ids]
        for layer in range(self.n_layer):
            at = f"blk.{layer}."
            h = self._norm(x, at + "attn_norm.weight")
            q = self._matmul(h, at + "attn_q.weight").reshape(n, *heads)
            k = self._matmul(h, at + "attn_k.weight").reshape(n, *heads_kv)
            v = self._matmul(h, at + "attn_v.weight").reshape(n, *heads_kv)
            q, k = (
                rotate(a, positions, self.n_rot, self.base, factors, self.scaling.magnitude) for a in (q, k)
            )
            x = x + self._matmul(attend(q, k, v).reshape(n, -1), at + "attn_output.weight")
            h = self._norm(x, at + "ffn_norm.weight")
            gate = self._matmul(h, at + "ffn_gate.weight")
            up = self._matmul(h, at + "ffn_up.weight")
            x = x + self._matmul(gate / (1 + np.exp(-gate)) * up, at + "ffn_down.weight")
        x = self._norm(x, "output_norm.weight")
        return self._matmul(x, "output.weight" if "output.weight" in self.weights else "token_embd.weight")
