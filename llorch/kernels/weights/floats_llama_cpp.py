"""The slow twins of the float products: every float added in llama.cpp's order (`llama_cpp_lanes`)."""

from __future__ import annotations

from typing import Any

from numpy import float32, float64

from llorch.kernels.activations.rounded import VALUE_STRIDE, VALUES
from llorch.kernels.emit.scalars import as_float32, as_int64, atomic_add, fused_multiply_add
from llorch.kernels.jit import Unit, kernel, operation
from llorch.kernels.llama_cpp_lanes import (
    STEP,
    add_lanes_in_halves,
    add_lanes_in_pairs,
    add_product,
    add_registers,
    put,
)
from llorch.kernels.ops.matmul import ACCUMULATE, N_IN, N_OUT, WEIGHTS, X, output_of, stored_row
from llorch.quant.types import BF16, F32, QuantType


def make_product_llama_cpp(quant: QuantType, value: Any, activation: Any) -> Unit:
    """The twin of one type: ``value(address, index)`` reads its elements, `activation` its form's, as float32."""
    is_f32, is_bf16, item = quant is F32, quant is BF16, quant.block_bytes

    @kernel
    def dot(w, x, n, lanes):
        """One row of weights with activations already rounded to the weight's type."""
        n_whole = n // STEP * STEP
        for lane in range(STEP):
            lanes[lane] = float32(0)
        for start in range(0, n_whole, STEP):
            for lane in range(STEP):
                i = start + lane
                lanes[lane] = fused_multiply_add(value(w, i), activation(x, i), lanes[lane])
        add_registers(lanes)
        if is_f32:
            total = add_lanes_in_pairs(lanes)
            for i in range(n_whole, n):
                total = add_product(value(w, i), activation(x, i), total, i, n)
            return total
        wide = float64(add_lanes_in_halves(lanes) if is_bf16 else add_lanes_in_pairs(lanes))
        for i in range(n_whole, n):
            wide += float64(value(w, i) * activation(x, i))
        return float32(wide)

    @operation(f"{quant.name} products in llama.cpp's order", name=f"product_{quant.name.lower()}_llama_cpp")
    def product(o, s, n_rows, ith, nth, counter, scratch):
        """As `weights.floats`' product."""
        x = as_int64(o[X])
        out, out_stride = output_of(o, s)
        lanes = as_float32(scratch)
        row = atomic_add(counter, 1)
        while row < o[N_OUT]:
            w = o[WEIGHTS] + stored_row(o, row) * o[N_IN] * item
            for token in range(n_rows):
                total = dot(w, x[VALUES] + token * x[VALUE_STRIDE], o[N_IN], lanes)
                put(total, out + token * out_stride + row * 4, o[ACCUMULATE])
            row = atomic_add(counter, 1)

    return product
