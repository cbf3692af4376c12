"""The KV cache: arrays of fixed-size blocks, which block tables assign to sequences.

Keys of a block are stored transposed, ``[head_dim, kv_block_size]``, so that one vector holds one component
of many positions and a score needs no horizontal sum; values are stored ``[kv_block_size, head_dim]``. A block of all
layers lies in one piece: its first token touches one or two new pages of memory. With each layer in one piece, all
layers came to new pages in the same step, and the system had to clear 60 of 2 MiB (SmolLM2: 160 to 300 ms).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llorch.kernels.kv_types import KV_TYPES
from llorch.kernels.layout import KV_BLOCK_SIZE, padded_head_dim
from llorch.model.config import ModelConfig


class KVCache:
    """Keys and values of all sequences.

    Attributes:
        kv_type: ``"f32"`` or ``"f16"``.
        n_blocks: blocks of KV_BLOCK_SIZE positions.
        keys: float32 or float16 (n_layer, n_blocks, n_head_kv, head_dim, KV_BLOCK_SIZE), a view: blocks come first in
            memory.
        values: same dtype (n_layer, n_blocks, n_head_kv, KV_BLOCK_SIZE, head_dim padded to 16).
        places: int64 (6,), where `keys` and `values` begin, bytes from layer to layer of each, and from block to
            block, as a step has them; to ask NumPy takes a microsecond, which every step would pay.
    """

    def __init__(self, config: ModelConfig, n_blocks: int, kv_type: str = "f32") -> None:
        dtype = KV_TYPES[kv_type].dtype
        self.kv_type = kv_type
        self.n_blocks = n_blocks
        shape, width = (n_blocks, config.n_layer, config.n_head_kv), padded_head_dim(config.head_dim)
        keys, values = (
            np.zeros((*shape, *block), dtype)
            for block in ((config.head_dim, KV_BLOCK_SIZE), (KV_BLOCK_SIZE, width))
        )
        self.keys: NDArray[np.floating] = keys.swapaxes(0, 1)
        self.values: NDArray[np.floating] = values.swapaxes(0, 1)
        arrays = (self.keys, self.values)
        strides = [array.strides[axis] for axis in (0, 1) for array in arrays]
        self.places = np.array([*(array.ctypes.data for array in arrays), *strides], np.int64)

    @staticmethod
    def blocks_for(n_positions: int) -> int:
        """Number of blocks that hold `n_positions` positions."""
        return -(-n_positions // KV_BLOCK_SIZE)

    @staticmethod
    def bytes_per_block(config: ModelConfig, kv_type: str) -> int:
        """Memory of one block over all layers, keys and values together."""
        itemsize = KV_TYPES[kv_type].item_bytes
        width = config.head_dim + padded_head_dim(config.head_dim)
        return config.n_layer * config.n_head_kv * width * KV_BLOCK_SIZE * itemsize

    @property
    def n_bytes(self) -> int:
        """Memory of all blocks (pages never written are not resident)."""
        return int(self.keys.nbytes + self.values.nbytes)
