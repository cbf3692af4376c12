"""The layout table: what a block of each supported tensor type is, and how NumPy reads and writes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from llorch.quant.codecs.floats import (
    Bytes,
    Floats,
    decode_bf16,
    decode_f16,
    decode_f32,
    encode_bf16,
    encode_f16,
    encode_f32,
)
from llorch.quant.codecs.q8_0 import decode_q8_0, encode_q8_0, scales_q8_0


@dataclass(frozen=True, slots=True)
class QuantType:
    """One row of the layout table. What the engine does with weights of a type is in `llorch.kernels.weights`.

    Attributes:
        name: ggml's spelling, e.g. ``"Q8_0"``.
        ggml_id: number of the type in a GGUF tensor info.
        block_size: elements per block (1 for plain floats).
        block_bytes: bytes per block.
        decode: bytes to float32.
        encode: float32 to bytes, as a converter does when it writes a file.
        scales: bytes to what must be finite, float32 (n_blocks,): the scales of blocks, or the values themselves.
    """

    name: str
    ggml_id: int
    block_size: int
    block_bytes: int
    decode: Callable[[Bytes], Floats] = field(compare=False, repr=False)
    encode: Callable[[Floats], Bytes] = field(compare=False, repr=False)
    scales: Callable[[Bytes], Floats] = field(compare=False, repr=False)

    def row_bytes(self, n_elements: int) -> int:
        """Bytes of a row of `n_elements`, which must be a multiple of `block_size`."""
        if n_elements % self.block_size:
            raise ValueError(f"{n_elements} elements are not whole blocks of {self.block_size} ({self.name})")
        return n_elements // self.block_size * self.block_bytes


F32 = QuantType("F32", 0, 1, 4, decode_f32, encode_f32, decode_f32)
F16 = QuantType("F16", 1, 1, 2, decode_f16, encode_f16, decode_f16)
BF16 = QuantType("BF16", 30, 1, 2, decode_bf16, encode_bf16, decode_bf16)
Q8_0 = QuantType("Q8_0", 8, 32, 34, decode_q8_0, encode_q8_0, scales_q8_0)

SUPPORTED: dict[int, QuantType] = {t.ggml_id: t for t in (F32, F16, BF16, Q8_0)}
"""Types llorch can run, by ggml id."""

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
