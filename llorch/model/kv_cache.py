"""The KV cache: arrays of fixed-size blocks, which block tables assign to sequences.

Keys of a block are stored transposed, ``[head_dim, kv_block_size]``, so that one vector holds one component
of many positions and a score needs no horizontal sum; values are stored ``[kv_block_size, head_dim]``.
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
        keys: float32 or float16 (n_layer, n_blocks, n_head_kv, head_dim, KV_BLOCK_SIZE).
        values: same dtype (n_layer, n_blocks, n_head_kv, KV_BLOCK_SIZE, head_dim padded to 16).
        places: int64 (4,), where `keys` and `values` begin, and bytes of a layer of each, as a step has them; to
            ask NumPy takes a microsecond, which every step would pay.
    """

    def __init__(self, config: ModelConfig, n_blocks: int, kv_type: str = "f32") -> None:
        dtype = KV_TYPES[kv_type].dtype
        self.kv_type = kv_type
        self.n_blocks = n_blocks
        shape = (config.n_layer, n_blocks, config.n_head_kv)
        self.keys: NDArray[np.floating] = np.zeros((*shape, config.head_dim, KV_BLOCK_SIZE), dtype)
        self.values: NDArray[np.floating] = np.zeros(
            (*shape, KV_BLOCK_SIZE, padded_head_dim(config.head_dim)), dtype
        )
        arrays = (self.keys, self.values)
        places = [*(array.ctypes.data for array in arrays), *(array.strides[0] for array in arrays)]
        self.places = np.array(places, np.int64)

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
