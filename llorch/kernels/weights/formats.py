"""The weight formats that there are kernels for."""

from __future__ import annotations

from llorch.kernels.weights.floats import BF16_WEIGHTS, F16_WEIGHTS, F32_WEIGHTS
from llorch.kernels.weights.format import WeightFormat
from llorch.kernels.weights.iq4_nl import IQ4_NL
from llorch.kernels.weights.iq4_xs import IQ4_XS
from llorch.kernels.weights.q2_k import Q2_K
from llorch.kernels.weights.q3_k import Q3_K
from llorch.kernels.weights.q4_0 import Q4_0
from llorch.kernels.weights.q4_1 import Q4_1
from llorch.kernels.weights.q4_k import Q4_K
from llorch.kernels.weights.q5_0 import Q5_0
from llorch.kernels.weights.q5_1 import Q5_1
from llorch.kernels.weights.q5_k import Q5_K
from llorch.kernels.weights.q6_k import Q6_K
from llorch.kernels.weights.q8_0 import Q8_0
from llorch.quant.types import QuantType

_FLOATS = (F32_WEIGHTS, F16_WEIGHTS, BF16_WEIGHTS)
_BLOCKS = (Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS)

FORMATS: dict[QuantType, WeightFormat] = {
    weight_format.quant: weight_format for weight_format in (*_FLOATS, *_BLOCKS)
}
"""By type. A new format is one more name in a tuple above."""
