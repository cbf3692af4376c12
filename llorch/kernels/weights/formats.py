"""The weight formats that there are kernels for."""

from __future__ import annotations

from llorch.kernels.weights.floats import BF16_WEIGHTS, F16_WEIGHTS, F32_WEIGHTS
from llorch.kernels.weights.format import WeightFormat
from llorch.kernels.weights.q8_0 import Q8_0
from llorch.quant.types import QuantType

FORMATS: dict[QuantType, WeightFormat] = {
    weight_format.quant: weight_format for weight_format in (F32_WEIGHTS, F16_WEIGHTS, BF16_WEIGHTS, Q8_0)
}
"""By type. A new format is one more name in the tuple above."""
