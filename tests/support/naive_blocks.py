"""The product of quantised blocks in the order in which llama.cpp's AVX2 build adds, in NumPy, one rounding at a time.

The integers come from the `gguf` package: with a scale of 1 and a minimum of 0 a block dequantises to them.
"""

from __future__ import annotations

import gguf
import numpy as np
from numpy.typing import NDArray

from llorch.quant.codecs.q8_0 import activation_sums_q8_1, quantize_activation_q8_0
from llorch.quant.codecs.q8_k import quantize_activation_q8_k
from llorch.quant.tensor import Tensor
from tests.support.naive import Floats, fused_multiply_add
from tests.support.random_blocks import HALVES

Integers = NDArray[np.int64]

MINIMUM_LANES = {"Q2_K": 8, "Q4_K": 4, "Q5_K": 1}


def _with_halves(weight: Tensor, *values: float) -> NDArray[np.float32]:
    """What the `gguf` package makes of the blocks with other float16 scales: float32 (n_out, n_blocks, block size)."""
    quant = weight.type
    blocks = weight.data.reshape(-1, quant.block_bytes).copy()
    for at, value in zip(HALVES[quant.name], values, strict=False):
        blocks[:, at : at + 2] = np.array([value], "<f2").view(np.uint8)
    decoded = gguf.dequantize(blocks, gguf.GGMLQuantizationType[quant.name])
    return np.asarray(decoded, np.float32).reshape(weight.shape[0], -1, quant.block_size)


def _halves(weight: Tensor) -> list[Floats]:
    """float16 scales of the blocks as float32 (n_out, n_blocks) each."""
    blocks = weight.data.reshape(weight.shape[0], -1, weight.type.block_bytes)
    return [
        blocks[..., at : at + 2].copy().view("<f2")[..., 0].astype(np.float32)
        for at in HALVES[weight.type.name]
    ]


def _folded(lanes: Floats) -> Floats:
    """Lanes of the last axis added in halves."""
    while lanes.shape[-1] > 1:
        half = lanes.shape[-1] // 2
        lanes = lanes[..., :half] + lanes[..., half:]
    return lanes[..., 0]


def _in_lanes(products: Integers, n_lanes: int) -> Floats:
    """Sums of products over the columns of a lane, where each lane has neighbouring columns."""
    return products.reshape(*products.shape[:-1], n_lanes, -1).sum(-1).astype(np.float32)


def matmul_of_32(weight: Tensor, x: Floats) -> Floats:
    """x @ weight.T for Q4_0, Q4_1, Q5_0, Q5_1 and IQ4_NL."""
    q, d_x = quantize_activation_q8_0(x)
    q = q.reshape(len(x), 1, -1, 32).astype(np.int64)
    products = _with_halves(weight, 1, 0)[None].astype(np.int64) * q
    d, *m = _halves(weight)
    scales = d[None] * d_x[:, None]
    n_blocks = products.shape[2]
    n_registers = 2 if weight.type.name == "IQ4_NL" else 1
    n_whole = n_blocks // n_registers * n_registers
    registers = np.zeros((n_registers, *products.shape[:2], 8), np.float32)
    for block in range(n_whole):
        at = block % n_registers
        quads = _in_lanes(products[:, :, block], 8)
        registers[at] = fused_multiply_add(scales[:, :, block, None], quads, registers[at])
    total = _folded(registers[0] + registers[1] if n_registers == 2 else registers[0])
    for block in range(n_whole, n_blocks):
        total = fused_multiply_add(scales[:, :, block], products[:, :, block].sum(-1), total)
    if m:
        minima = np.zeros_like(total)
        for block in range(n_blocks):
            weighted = activation_sums_q8_1(x)[:, None, block]
            minima = fused_multiply_add(m[0][None, :, block], weighted, minima)
        total = total + minima
    return total


def matmul_of_256(weight: Tensor, x: Floats) -> Floats:
    """x @ weight.T for Q2_K to Q6_K and IQ4_XS."""
    name = weight.type.name
    q, d_x = quantize_activation_q8_k(x)
    q = q.reshape(len(x), 1, -1, 256).astype(np.int64)
    weights = _with_halves(weight, 1, 0)[None].astype(np.int64)
    shift = np.zeros((1, 1, *q.shape[2:3], 8), np.int64)
    if (
        name == "Q6_K"
    ):  # llama.cpp multiplies 0 to 63, and subtracts 32 times the sums of activations in other lanes
        blocks = weight.data.reshape(weight.shape[0], -1, weight.type.block_bytes)
        int8 = blocks[None, ..., 192:208].view(np.int8).astype(np.int64)
        offsets = 32 * np.repeat(int8, 16, axis=-1)
        weights = weights + offsets
        shift = (offsets * q).reshape(len(x), *blocks.shape[:2], 8, 32).sum(-1)
    quads = (weights * q).reshape(len(x), weight.shape[0], -1, 8, 8, 4).sum((-3, -1)) - shift
    d, *m = _halves(weight)
    n_lanes = MINIMUM_LANES.get(name, 1)
    minus = _with_halves(weight, 0, 1)[None].astype(np.int64) * q if m else None
    sums = np.zeros((len(x), weight.shape[0], 8), np.float32)
    minima = np.zeros((len(x), weight.shape[0], n_lanes), np.float32)
    for block in range(quads.shape[2]):
        if minus is not None:
            scale = (m[0][None] * d_x[:, None])[:, :, block, None]
            into = sums if n_lanes == 8 else minima
            into[...] = fused_multiply_add(scale, _in_lanes(minus[:, :, block], n_lanes), into)
        scale = (d[None] * d_x[:, None])[:, :, block, None]
        sums = fused_multiply_add(scale, quads[:, :, block].astype(np.float32), sums)
    return _folded(sums) if n_lanes == 8 or not m else _folded(sums) + _folded(minima)


def matmul(weight: Tensor, x: Floats) -> Floats:
    """x @ weight.T as the twins give it, bit for bit."""
    return (matmul_of_32 if weight.type.block_size == 32 else matmul_of_256)(weight, x)
