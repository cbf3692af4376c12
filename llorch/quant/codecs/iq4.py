"""IQ4_NL and IQ4_XS: four bits choose one of 16 unevenly spaced values.

Source: `gguf.quants`, bit-exact.
"""

from __future__ import annotations

import numpy as np

from llorch.quant.codecs.block_fields import halves, split, unpack
from llorch.quant.codecs.floats import Bytes, Floats

CODEBOOK = np.array(
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.int8
)  # fmt: skip


def decode_iq4_nl(data: Bytes) -> Floats:
    """Blocks of 32: a float16 scale and 32 nibbles."""
    d, low = split(data, 2, 16)
    with np.errstate(invalid="ignore"):
        return (halves(d) * CODEBOOK[unpack(low, 4, 16)].astype(np.float32)).ravel()


def decode_iq4_xs(data: Bytes) -> Floats:
    """Super-blocks of 256: a float16 scale, eight integer scales of six bits, less 32, and 256 nibbles."""
    d, high, four, low = split(data, 2, 2, 4, 128)
    scales = (unpack(four, 4, 1) | unpack(high, 2, 1) << 4).view(np.int8) - np.int8(32)
    values = CODEBOOK[unpack(low, 4, 16)].astype(np.float32).reshape(-1, 8, 32)
    with np.errstate(invalid="ignore"):
        return ((halves(d) * scales.astype(np.float32))[:, :, None] * values).ravel()
