"""What a tile is: 16 rows of a matrix, re-ordered so that one 64-byte vector holds 4 columns of all of them.

A quad is 4 columns of 16 rows: ``[16 rows][4]`` bytes. 8 quads are a unit of 32 columns, stored as bit planes: a plane
of 4 bits holds two quads in each vector, one in the lower bits of its bytes, the other in the upper ones. A tile:

quants  [n_blocks][units of a block][vectors of the planes][16 rows][4 bytes]; where i8mm multiplies, every two quads
        are a pair (`neon`)
scales  [n_blocks] times what `TileScheme` says: integer scales and minimums of sub-blocks, float16 scales of blocks;
        none for plain integers, whose scales are float32 of rows and lie apart
"""

from __future__ import annotations

from dataclasses import dataclass

from llorch.kernels import paths
from llorch.kernels.layout import TILE_ROWS, round_up

UNIT = 32
"""Columns of a unit."""

QUADS = UNIT // 4
QUAD_BYTES = TILE_ROWS * 4
HALVES_BYTES = TILE_ROWS * 2
"""Bytes of one float16 for each row."""

BYTE_COLUMN_BYTES = 2 if paths.chosen().dot == "avx2" else 1
"""Bytes of an activation's column where weights are whole signed bytes. AVX2 has no product of these: there both are
int16, of every 4 columns the even ones first, then the odd ones. To move the sign of a weight to the activation
instead, as codebooks do, takes an instruction more for each product (128 tokens: 0.81 of the speed), and cannot negate
-128. `vpmaddwd` and `vpaddd` with all operands at hand give 94 GMAC/s on a Zen 4 core of 3.6 GHz, plain rows 83, and
blocks, whose scales take a conversion, a product and an fma for each sum, 72. Tried: even weights stored as unsigned,
so that ``256 * odd + even`` is one int16 and a shift gives `odd`, in place of three shifts (1.01 to 1.02 times as
fast); weights made 16 bits wide once for all tokens, in cache, as bit planes are, with twice the bytes to read for
each four tokens (64 tokens: 0.83 to 1.01 of the speed, 512: 0.96 to 1.05, with and without prefetches 1 to 4 KiB
ahead)."""

EVEN_FIRST = [column for quad in range(0, UNIT, 4) for column in (quad, quad + 2, quad + 1, quad + 3)]
"""The columns of a unit in that order."""


@dataclass(frozen=True, slots=True)
class TileScheme:
    """How the blocks of a format lie in a tile, and what their integers mean.

    A weight is ``d * scale * (q - offset) - dmin * minimum``, where `scale` and `minimum` are integers of a sub-block
    (1 where there are none), `d` and `dmin` float16 of a block.

    Attributes:
        name: of emitted functions.
        planes: bits of the planes, lowest first; 8 alone means whole bytes.
        largest: largest magnitude of a byte that meets the dot products.
        block: columns of a block: 32, or 256 with sub-blocks.
        sub_block: columns that share integer scales; equals `block` where there are none.
        offset: subtracted from every q.
        signed: whether bytes are signed on paths whose dot products want no bias (`paths.KernelPath.bias`); their
            offset is the path's bias.
        signed_scales: whether integer scales are int8 instead of uint8.
        minimums: "", "float" (a float16 of a block), "bytes" (one for each sub-block), "nibbles" (the upper half of the
            byte that holds the scale).
        codebook: the value of each 4-bit number, or ().
        is_plain: whether weights are int8 times a factor of their row, and nothing else: sums go over whole rows, and
            rows may lie in any order.
    """

    name: str
    planes: tuple[int, ...]
    largest: int
    block: int = UNIT
    sub_block: int = UNIT
    offset: int = 0
    signed: bool = False
    signed_scales: bool = False
    minimums: str = ""
    codebook: tuple[int, ...] = ()
    is_plain: bool = False

    @property
    def has_sub_blocks(self) -> bool:
        """Whether there are integer scales."""
        return self.sub_block < self.block

    @property
    def units(self) -> int:
        """Units of a block."""
        return self.block // UNIT

    @property
    def sub_blocks(self) -> int:
        """Sub-blocks of a block that has integer scales, else 0."""
        return self.block // self.sub_block if self.has_sub_blocks else 0

    @property
    def stored_planes(self) -> tuple[int, ...]:
        """Planes of tiles on this path: without an instruction that looks bytes up, a codebook's values are stored."""
        return (8,) if self.codebook and paths.chosen().dot == "generic" else self.planes

    @property
    def unit_bytes(self) -> int:
        """Bytes of the quants of a unit."""
        return sum(self.stored_planes) * QUADS // 8 * QUAD_BYTES

    @property
    def block_bytes(self) -> int:
        """Bytes of the quants of a block."""
        return self.units * self.unit_bytes

    @property
    def minimums_at(self) -> int:
        """Where integer minimums begin among the scales of a block, behind the integer scales."""
        return self.sub_blocks * TILE_ROWS

    @property
    def d_at(self) -> int:
        """Where the float16 scales begin among the scales of a block; `dmin` follows."""
        return self.minimums_at + (self.sub_blocks * TILE_ROWS if self.minimums == "bytes" else 0)

    @property
    def scale_bytes(self) -> int:
        """Bytes of the scales of a block."""
        return 0 if self.is_plain else self.d_at + (2 if self.minimums else 1) * HALVES_BYTES

    def tile_bytes(self, n_in: int) -> int:
        """Bytes of one tile of `n_in` columns, a multiple of 64 so that every vector load is aligned."""
        return round_up(n_in // self.block * (self.block_bytes + self.scale_bytes), 64)

    @property
    def column_bytes(self) -> int:
        """Bytes of an activation's column."""
        return BYTE_COLUMN_BYTES if self.planes == (8,) and self.signed else 1

    @property
    def has_starts(self) -> bool:
        """Whether the sums of sub-blocks start at minus what the weights' offset adds to them.

        Then nothing is left to take off, which takes a multiplication and an addition for two sub-blocks: Q6_K and Q3_K
        are 10 % faster (128 tokens, AVX-512). AVX2 adds products to two int16 of a row, and so has two starts: sums of
        16 columns fit them then, whatever they hold on the way, and Q6_K has one chain for a sub-block in place of two
        (128 tokens: 1.11 times as fast).
        """
        path = paths.chosen()
        # Activations hold the starts of these (`activations.q8_k`).
        started = ((16, 4), (16, 32), (UNIT, path.bias))
        is_started = self.has_sub_blocks and (self.sub_block, self.taken_off) in started
        return is_started and self.taken_off > 0 and path.dot in ("vnni", "avx2", "generic")

    @property
    def taken_off(self) -> int:
        """What the bytes that meet the dot products exceed the integers by."""
        return paths.chosen().bias if self.signed else self.offset
