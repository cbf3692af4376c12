"""The slow twin of the Q8_0 product: every float added in llama.cpp's order (`llama_cpp_lanes`)."""

from __future__ import annotations

from numpy import int32

from llorch.kernels.emit.scalars import as_int8
from llorch.kernels.jit import inlined
from llorch.kernels.weights.blocks import Blocks, make_llama_cpp_product
from llorch.quant import types


@inlined
def _integer(block, i):
    return int32(as_int8(block + 2)[i])


_, product_q8_0_llama_cpp = make_llama_cpp_product(Blocks(types.Q8_0, _integer))
