"""The weight formats that there are kernels for."""

from __future__ import annotations

from llorch.kernels.weights import block_formats as blocks
from llorch.kernels.weights.floats import BF16_WEIGHTS, F16_WEIGHTS, F32_WEIGHTS
from llorch.kernels.weights.format import WeightFormat
from llorch.kernels.weights.int8_rows import I8_WEIGHTS
from llorch.quant.types import QuantType

_FLOATS = (F32_WEIGHTS, F16_WEIGHTS, BF16_WEIGHTS)
_LEGACY = (blocks.Q4_0, blocks.Q4_1, blocks.Q5_0, blocks.Q5_1, blocks.Q8_0, blocks.IQ4_NL)
_SUPER = (blocks.Q2_K, blocks.Q3_K, blocks.Q4_K, blocks.Q5_K, blocks.Q6_K, blocks.IQ4_XS)

FORMATS: dict[QuantType, WeightFormat] = {
    weight_format.quant: weight_format for weight_format in (*_FLOATS, I8_WEIGHTS, *_LEGACY, *_SUPER)
}
"""By type. A new format is one more name in a tuple above."""
