"""The slow twin of the SwiGLU gate: llama.cpp's exponential, in its bits (`llama_cpp_lanes`)."""

from __future__ import annotations

from numpy import float32, int32

from llorch.kernels.emit.scalars import as_float32, bits_of_float32, expf, float32_of_bits, fused_multiply_add
from llorch.kernels.jit import kernel


@kernel
def exp_float32_llama_cpp(x):
    """e^x as `ggml_v_expf` computes it (the polynomial of Arm's optimized routines)."""
    magic = float32(12582912.0)
    z = fused_multiply_add(x, float32(1.4426950216293335), magic)
    n = z - magic
    b = fused_multiply_add(-n, float32(0.693145751953125), x)
    b = fused_multiply_add(-n, float32(1.428606765330187e-06), b)
    e = int32(bits_of_float32(z) << int32(23))
    u = b * b
    high = fused_multiply_add(float32(0.008247390389442444), b, float32(0.04189976677298546))
    low = fused_multiply_add(float32(0.16668395698070526), b, float32(0.4999912679195404))
    j = fused_multiply_add(fused_multiply_add(high, u, low), u, float32(0.9999994039535522) * b)
    if abs(n) <= float32(126):
        k = float32_of_bits(int32(e + bits_of_float32(float32(1))))
        return fused_multiply_add(j, k, k)
    g = int32(-0x7E000000) if n <= float32(0) else int32(0)
    s1 = float32_of_bits(int32(g + int32(0x7F000000)))
    if abs(n) > float32(192):
        return s1 * s1
    s2 = float32_of_bits(int32(e - g))
    return fused_multiply_add(s2, j, s2) * s1


@kernel
def swiglu_row_llama_cpp(gate_address, up_address, n, out_address):
    """As `swiglu.swiglu_row`; the last ``n % 8`` columns take the C library's exponential."""
    gate, up, out = as_float32(gate_address), as_float32(up_address), as_float32(out_address)
    n_whole = n // 8 * 8
    for i in range(n_whole):
        out[i] = (gate[i] / (float32(1) + exp_float32_llama_cpp(-gate[i]))) * up[i]
    for i in range(n_whole, n):
        out[i] = (gate[i] / (float32(1) + expf(-gate[i]))) * up[i]
