"""Weight formats of synthetic files: blocks of random bytes with sane scales, and which matrix has which format."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

POOL_BLOCKS = 262_147
"""A prime number, so that the rows of a matrix begin at different blocks of a pool."""
WEIGHT_STD = 0.02

_MIXED = re.compile(r"blk\.(\d+)\.(?:attn_v|ffn_down)\.weight")

Blocks = NDArray[np.uint8]


def _halves(rng: np.random.Generator, n: int, value: float) -> Blocks:
    """float16 scales near `value`, none of them subnormal: uint8 (n, 2)."""
    return (value * rng.uniform(0.8, 1.2, (n, 1))).astype("<f2").view(np.uint8)


def _q8_0(rng: np.random.Generator, n: int) -> Blocks:
    """Normally distributed weights, quantised as usual."""
    values = rng.standard_normal((n, 32), np.float32) * np.float32(WEIGHT_STD)
    scale = np.abs(values).max(axis=1, keepdims=True) / np.float32(127)
    quants = np.rint(values / scale).astype(np.int8).view(np.uint8)
    return np.hstack([scale.astype("<f2").view(np.uint8), quants])


def _q4_0(rng: np.random.Generator, n: int) -> Blocks:
    """A scale, 32 nibbles that mean ``n - 8``."""
    return np.hstack([_halves(rng, n, WEIGHT_STD / 4.6), rng.integers(0, 256, (n, 16), np.uint8)])


def _q4_k(rng: np.random.Generator, n: int) -> Blocks:
    """A scale of scales and one of minima, 8 pairs of 6 bits, 256 nibbles: ``d * scale * n - dmin * min``."""
    d, dmin = _halves(rng, n, WEIGHT_STD / 200), _halves(rng, n, WEIGHT_STD / 26)
    return np.hstack([d, dmin, rng.integers(0, 256, (n, 12 + 128), np.uint8)])


def _q6_k(rng: np.random.Generator, n: int) -> Blocks:
    """256 quants of 6 bits in two arrays, 16 scales of 8 bits, their scale: ``d * scale * (n - 32)``."""
    quants, scales = rng.integers(0, 256, (n, 128 + 64), np.uint8), rng.integers(5, 17, (n, 16), np.uint8)
    return np.hstack([quants, scales, _halves(rng, n, WEIGHT_STD / 200)])


@dataclass(frozen=True)
class BlockType:
    """A weight format.

    Attributes:
        ggml_id: its number in a file.
        block_size: weights in a block.
        block_bytes: bytes of a block.
        random: makes blocks: uint8 (n, block_bytes).
    """

    ggml_id: int
    block_size: int
    block_bytes: int
    random: Callable[[np.random.Generator, int], Blocks]

    def pool(self, rng: np.random.Generator) -> Blocks:
        """`POOL_BLOCKS` blocks: uint8 (POOL_BLOCKS * block_bytes,)."""
        return self.random(rng, POOL_BLOCKS).reshape(-1)


Q8_0 = BlockType(8, 32, 34, _q8_0)
Q4_0 = BlockType(2, 32, 18, _q4_0)
Q4_K = BlockType(12, 256, 144, _q4_k)
Q6_K = BlockType(14, 256, 210, _q6_k)


@dataclass(frozen=True)
class FileType:
    """What `llama-quantize` makes when asked for a type.

    Attributes:
        number: `general.file_type`.
        usual: of most matrices.
        output: of the matrix that makes logits.
        mixes: whether some of `attn_v` and `ffn_down` are Q6_K.
    """

    number: int
    usual: BlockType
    output: BlockType
    mixes: bool = False

    def type_of(self, name: str, n_in: int, n_layer: int, tied: bool) -> BlockType:
        """The format of a matrix.

        Args:
            name: of the tensor.
            n_in: length of its rows.
            n_layer: layers of the model.
            tied: whether the embedding makes the logits, too.
        """
        found = self.usual
        if name == ("token_embd.weight" if tied else "output.weight"):
            found = self.output
        elif self.mixes and (match := _MIXED.fullmatch(name)) and _has_more_bits(int(match[1]), n_layer):
            found = Q6_K
        return Q8_0 if found is Q6_K and n_in % Q6_K.block_size else found


def _has_more_bits(layer: int, n_layer: int) -> bool:
    """The first and last eighth of the layers, and every third between. Source: llama.cpp's src/llama-quant.cpp."""
    first = n_layer // 8
    return layer < first or layer >= 7 * n_layer // 8 or (layer - first) % 3 == 2


FILE_TYPES = {
    "q8_0": FileType(7, Q8_0, Q8_0),
    "q4_0": FileType(2, Q4_0, Q6_K),
    "q4_k_m": FileType(15, Q4_K, Q6_K, mixes=True),
    "q6_k": FileType(18, Q6_K, Q6_K),
}
"""By the names that `make_synthetic --type` takes."""
