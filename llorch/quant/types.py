"""The layout table: what a block of each supported tensor type is, and how NumPy reads and writes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from llorch.quant.codecs.block_fields import scales_at
from llorch.quant.codecs.floats import (
    Bytes,
    Floats,
    decode_bf16,
    decode_f16,
    decode_f32,
    decode_i8,
    encode_bf16,
    encode_f16,
    encode_f32,
)
from llorch.quant.codecs.iq4 import decode_iq4_nl, decode_iq4_xs
from llorch.quant.codecs.k_quants import decode_q2_k, decode_q3_k, decode_q4_k, decode_q5_k, decode_q6_k
from llorch.quant.codecs.q4_q5 import (
    decode_q4_0,
    decode_q4_1,
    decode_q5_0,
    decode_q5_1,
    encode_q4_0,
    encode_q4_1,
    encode_q5_0,
    encode_q5_1,
)
from llorch.quant.codecs.q8_0 import decode_q8_0, encode_q8_0


@dataclass(frozen=True, slots=True)
class QuantType:
    """One row of the layout table. What the engine does with weights of a type is in `llorch.kernels.weights`.

    Attributes:
        name: ggml's spelling, e.g. ``"Q8_0"``.
        ggml_id: number of the type in a GGUF tensor info.
        block_size: elements per block (1 for plain floats).
        block_bytes: bytes per block.
        decode: bytes to float32.
        scales: bytes to what must be finite, float32 (n_blocks, n_scales): the scales of blocks, or the values
            themselves, float32 (n,).
        encode: float32 to bytes, as a converter does when it writes a file; None for types whose encoders search
            (`llorch.convert`) or that llorch does not write.
    """

    name: str
    ggml_id: int
    block_size: int
    block_bytes: int
    decode: Callable[[Bytes], Floats] = field(compare=False, repr=False)
    scales: Callable[[Bytes], Floats] = field(compare=False, repr=False)
    encode: Callable[[Floats], Bytes] | None = field(compare=False, repr=False, default=None)

    def row_bytes(self, n_elements: int) -> int:
        """Bytes of a row of `n_elements`, which must be a multiple of `block_size`."""
        if n_elements % self.block_size:
            raise ValueError(f"{n_elements} elements are not whole blocks of {self.block_size} ({self.name})")
        return n_elements // self.block_size * self.block_bytes


F32 = QuantType("F32", 0, 1, 4, decode_f32, decode_f32, encode_f32)
F16 = QuantType("F16", 1, 1, 2, decode_f16, decode_f16, encode_f16)
BF16 = QuantType("BF16", 30, 1, 2, decode_bf16, decode_bf16, encode_bf16)
I8 = QuantType("I8", 24, 1, 1, decode_i8, decode_i8)
"""int8 whose factors, one a row, lie apart (`Tensor.row_scales`). GGUF files hold no such weights, so that it is not in
`SUPPORTED`."""
Q4_0 = QuantType("Q4_0", 2, 32, 18, decode_q4_0, scales_at(18, 0), encode_q4_0)
Q4_1 = QuantType("Q4_1", 3, 32, 20, decode_q4_1, scales_at(20, 0, 2), encode_q4_1)
Q5_0 = QuantType("Q5_0", 6, 32, 22, decode_q5_0, scales_at(22, 0), encode_q5_0)
Q5_1 = QuantType("Q5_1", 7, 32, 24, decode_q5_1, scales_at(24, 0, 2), encode_q5_1)
Q8_0 = QuantType("Q8_0", 8, 32, 34, decode_q8_0, scales_at(34, 0), encode_q8_0)
Q2_K = QuantType("Q2_K", 10, 256, 84, decode_q2_k, scales_at(84, 80, 82))
Q3_K = QuantType("Q3_K", 11, 256, 110, decode_q3_k, scales_at(110, 108))
Q4_K = QuantType("Q4_K", 12, 256, 144, decode_q4_k, scales_at(144, 0, 2))
Q5_K = QuantType("Q5_K", 13, 256, 176, decode_q5_k, scales_at(176, 0, 2))
Q6_K = QuantType("Q6_K", 14, 256, 210, decode_q6_k, scales_at(210, 208))
IQ4_NL = QuantType("IQ4_NL", 20, 32, 18, decode_iq4_nl, scales_at(18, 0))
IQ4_XS = QuantType("IQ4_XS", 23, 256, 136, decode_iq4_xs, scales_at(136, 0))

_FLOATS = (F32, F16, BF16)
_BLOCKS = (Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS)

SUPPORTED: dict[int, QuantType] = {t.ggml_id: t for t in (*_FLOATS, *_BLOCKS)}
"""Types of GGUF files that llorch can run, by ggml id."""

GGML_NAMES: dict[int, str] = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 4: "Q4_2", 5: "Q4_3", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0",
    9: "Q8_1", 10: "Q2_K", 11: "Q3_K", 12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 15: "Q8_K", 16: "IQ2_XXS",
    17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 20: "IQ4_NL", 21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS",
    24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64", 29: "IQ1_M", 30: "BF16", 31: "Q4_0_4_4",
    32: "Q4_0_4_8", 33: "Q4_0_8_8", 34: "TQ1_0", 35: "TQ2_0", 36: "IQ4_NL_4_4", 37: "IQ4_NL_4_8",
    38: "IQ4_NL_8_8", 39: "MXFP4", 40: "NVFP4", 41: "Q1_0",
}  # fmt: skip
"""Names of ggml's type numbers, for error messages.

Source: the `ggml_type` enumeration; 4, 5, 31-33 and 36-38 were removed from it.
"""

GGML_LAYOUTS: dict[int, tuple[int, int]] = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 40),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292),
    16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82),
    23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2),
    34: (256, 54), 35: (256, 66), 39: (32, 17), 40: (64, 36), 41: (128, 18),
}  # fmt: skip
"""Block size (elements) and bytes per block of every type that ggml still has, supported here or not.

Tensors of unsupported types are bounds-checked and listed with their sizes too.

Source: `GGML_QUANT_SIZES` of the `gguf` package.
"""
