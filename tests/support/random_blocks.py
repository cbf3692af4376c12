"""Weights of any type, whether it has an encoder or not: random bytes whose scales are ordinary numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llorch.quant.tensor import Tensor
from llorch.quant.types import QuantType

HALVES = {
    "Q4_0": (0,), "Q4_1": (0, 2), "Q5_0": (0,), "Q5_1": (0, 2), "Q8_0": (0,), "Q2_K": (80, 82), "Q3_K": (108,),
    "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,), "IQ4_NL": (0,), "IQ4_XS": (0,),
}  # fmt: skip
"""Where the float16 scales lie in a block. Source: the structures of ggml-common.h."""

FLOATS = {"F32": "<f4", "F16": "<f2"}


def random_blocks(quant_type: QuantType, shape: tuple[int, ...], rng: np.random.Generator) -> Tensor:
    """A tensor whose values are of the order of one: every bit random but those of scales, which have either sign."""
    n = int(np.prod(shape))
    quant_type.row_bytes(shape[-1])
    values = rng.standard_normal(n).astype(np.float32)
    if quant_type.name not in HALVES:
        upper = (values.view("<u4") >> 16).astype("<u2")
        data = upper if quant_type.name == "BF16" else values.astype(FLOATS[quant_type.name])
        return Tensor("w", quant_type, shape, data.view(np.uint8))
    blocks = rng.integers(0, 256, (n // quant_type.block_size, quant_type.block_bytes), np.uint8)
    for at in HALVES[quant_type.name]:
        blocks[:, at : at + 2] = _scales(blocks.shape[0], _unit(quant_type), rng)
    return Tensor("w", quant_type, shape, blocks.ravel())


def _unit(quant_type: QuantType) -> float:
    """A scale that makes values of the order of one."""
    largest = (
        {"Q4": 8, "Q5": 16, "Q8": 127, "IQ": 127}[quant_type.name[:2]]
        if quant_type.block_size == 32
        else 1000
    )
    return 1 / largest


def _scales(n: int, unit: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    signs = rng.choice([-1, 1], n)
    return (signs * rng.uniform(0.3, 1, n) * unit).astype("<f2")[:, None].view(np.uint8)
