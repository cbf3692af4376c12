"""The SwiGLU gate."""

from __future__ import annotations

from numba import carray
from numpy import float32

from llorch.kernels.intrinsics import as_float32
from llorch.kernels.jit import kernel
from llorch.kernels.vectors import LANES, exp_float32, swiglu_16


@kernel
def swiglu_row(gate_address, up_address, n, out_address):
    """``out = gate * sigmoid(gate) * up``, float32 (n,); `out` may be `gate`."""
    n_whole = n // LANES * LANES
    for i in range(0, n_whole, LANES):
        swiglu_16(gate_address + i * 4, up_address + i * 4, out_address + i * 4)
    gate = carray(as_float32(gate_address), n)
    up = carray(as_float32(up_address), n)
    out = carray(as_float32(out_address), n)
    for i in range(n_whole, n):
        out[i] = (gate[i] / (float32(1.0) + exp_float32(-gate[i]))) * up[i]
