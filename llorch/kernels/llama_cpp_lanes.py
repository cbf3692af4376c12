"""The order in which llama.cpp's AVX2 build adds floats: what the slow twins share.

Two correct engines differ in the last bit of a sum, and now and then that bit rounds an activation to the
neighbouring int8: texts part although nothing is wrong. With `LLORCH_SUMS=llama.cpp` the twins (`*_llama_cpp.py`)
take the place of the fast kernels, and nothing is left to differ: all stages, and whole texts, equal in every bit
those of llama.cpp's x86 build with AVX2 and FMA, its matrix products by `ggml_vec_dot_*` (`GGML_LLAMAFILE=OFF`), a
float32 KV cache and no flash attention. The twins say what one lane of a 256-bit register does, lane after lane;
lanes never meet before the end of a row.

Source: ggml-cpu's vec.cpp, arch/x86/quants.c, ops.cpp, simd-mappings.h at llama.cpp 0c1e570; bit-exact.
"""

from __future__ import annotations

from llorch.kernels.emit.scalars import as_float32, fused_multiply_add
from llorch.kernels.jit import kernel

STEP = 32
"""Columns that four registers of eight lanes take at a time; twins keep that many lanes in their scratch."""


@kernel
def add_lanes_in_halves(a):
    """How `hsum_float_8` adds eight lanes; softmax sums and BF16 products are added so, too."""
    return ((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7]))


@kernel
def add_lanes_in_pairs(a):
    """How `GGML_F32x8_REDUCE` adds eight lanes."""
    return ((a[0] + a[4]) + (a[1] + a[5])) + ((a[2] + a[6]) + (a[3] + a[7]))


@kernel
def add_registers(lanes):
    """Four registers of eight lanes onto the first."""
    for lane in range(8):
        lanes[lane] = (lanes[lane] + lanes[lane + 16]) + (lanes[lane + 8] + lanes[lane + 24])


@kernel
def add_product(a, b, total, i, n):
    """``total + a * b`` for column `i` behind the last whole step of `n` float32.

    GCC multiplies these in vectors of eight or four, rounded, and adds them one by one; only the last ``n % 4``
    are fused.
    """
    return fused_multiply_add(a, b, total) if i >= n // 4 * 4 else total + a * b


@kernel
def put(value, at, accumulate):
    """Store the float32 `value` at address `at`, or add it to the one there."""
    out = as_float32(at)
    out[0] = out[0] + value if accumulate else value
