"""What a weight format is: one object that holds all the engine does with weights of a type."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llorch.kernels import paths
from llorch.kernels.buffers import ActivationForm
from llorch.kernels.jit import Unit
from llorch.kernels.layout import TILE_ROWS, ceil_div, round_up
from llorch.kernels.tiles.layout import TileScheme
from llorch.machine.memory import aligned_zeros
from llorch.quant.tensor import Tensor
from llorch.quant.types import BF16, QuantType

DECODED_BYTES = 2
"""Bytes per column that hold a row that a slow twin decodes into scratch: integers, scales and minima."""


@dataclass(frozen=True, slots=True, eq=False)
class Tiling:
    """How the rows of a matrix are re-ordered for the kernels, once, when weights are packed into memory.

    Attributes:
        scheme: what tiles hold.
        pack: unit ``pack(source, n_in, n_out, tiles, tile_stride, first, last, row_order)``: makes tiles
            ``first <= i < last`` of the rows at `source`; non-zero if a scale is NaN or infinite. `row_order` as in
            `Matrix`, used where weights are plain.
        scratch_bytes: bytes of scratch that one thread needs, by number of columns and whether the matrix is packed.
    """

    scheme: TileScheme
    pack: Unit
    scratch_bytes: Callable[[int, bool], int]

    def tile_bytes(self, n_in: int) -> int:
        """Bytes of a tile of `n_in` columns, a multiple of 64."""
        return self.scheme.tile_bytes(n_in)


@dataclass(frozen=True, slots=True, eq=False)
class WeightFormat:
    """A weight format (`llorch.quant.types` says what its blocks are and how NumPy reads them).

    Attributes:
        quant: layout and codec.
        activation: the form that activations take before they meet these weights; None: the float32 rows themselves.
        embed: operation of `ops.embed`: rows of an embedding table as float32.
        scan: unit ``scan(address, n_blocks)``: non-zero if a scale (or value) is NaN or infinite.
        fast_product: operation of `ops.matmul`.
        llama_cpp_product: its slow twin, which adds floats in llama.cpp's order, for rows as in the file.
        tiling: how rows are packed; None where they are used as in the file.
        scale_name: what a NaN would be found in, for error messages.
    """

    quant: QuantType
    activation: ActivationForm | None
    embed: Unit
    scan: Unit
    fast_product: Unit
    llama_cpp_product: Unit
    tiling: Tiling | None = None
    scale_name: str = "value"

    @property
    def arithmetic(self) -> Literal["integer", "bfloat", "float"]:
        """What its products multiply: integers, pairs of BF16, or float32."""
        if self.tiling is not None:
            return "integer"
        return "bfloat" if self.quant is BF16 else "float"

    @property
    def product(self) -> Unit:
        """The product in the order of additions that was chosen (`paths.sums`)."""
        return self.llama_cpp_product if paths.sums() == "llama.cpp" else self.fast_product

    def scratch_bytes(self, n_in: int, is_packed: bool) -> int:
        """Bytes of scratch that one thread needs for products with rows of `n_in` columns."""
        if self.product is not self.fast_product:
            return DECODED_BYTES * n_in
        return self.tiling.scratch_bytes(n_in, is_packed) if self.tiling else 0

    def packed_bytes(self, n_out: int, n_in: int) -> int:
        """Bytes of a matrix packed into memory."""
        if self.tiling is None:
            return n_out * self.quant.row_bytes(n_in)
        return ceil_div(n_out, TILE_ROWS) * self.tiling.tile_bytes(n_in)


class RowTables(NamedTuple):
    """What kernels look up for each row of a matrix, and the addresses for `Matrix`.

    Attributes:
        order: int32 (n_out,), the stored row of each row, or None.
        scales: float32 (n_out, rounded up to whole tiles), or None.
    """

    order: NDArray[np.int32] | None
    scales: NDArray[np.float32] | None

    @classmethod
    def of(cls, tensor: Tensor) -> RowTables:
        """Both where rows have factors, since kernels for these look every row up; else the order, if there is one."""
        order = tensor.placement.row_order if tensor.placement else None
        if tensor.row_scales is None:
            return cls(order, None)
        n_out = tensor.shape[0]
        scales = aligned_zeros((round_up(n_out, TILE_ROWS),), np.float32)
        scales[:n_out] = tensor.row_scales
        return cls(np.arange(n_out, dtype=np.int32) if order is None else order, scales)

    @property
    def addresses(self) -> tuple[int, int]:
        """Of the order and the scales; 0 for None."""
        order = 0 if self.order is None else int(self.order.ctypes.data)
        return order, 0 if self.scales is None else int(self.scales.ctypes.data)


@dataclass(frozen=True, slots=True)
class Matrix:
    """A weight matrix where the kernels find it.

    Attributes:
        format: of its weights.
        n_out, n_in: shape.
        address: first byte, of the rows as in the file or of the tiles.
        is_packed: whether `address` holds tiles.
        memory: what keeps the bytes at the addresses alive.
        row_order: address of int32 (n_out,), the stored row of each row; 0 where rows follow each other.
        row_scales: address of float32 (n_out, rounded up to whole tiles), factors of the rows; 0 where they have none.
    """

    format: WeightFormat
    n_out: int
    n_in: int
    address: int
    is_packed: bool
    memory: object = field(repr=False, default=None)
    row_order: int = 0
    row_scales: int = 0

    @property
    def tile_stride(self) -> int:
        """Bytes of one tile, packed already or made on the fly; 0 where there are none."""
        return self.format.tiling.tile_bytes(self.n_in) if self.format.tiling else 0
