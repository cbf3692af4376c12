"""How large the KV cache may be on this machine."""

from __future__ import annotations

import logging

from llorch.errors import SettingsError
from llorch.kernels.layout import KV_BLOCK_SIZE
from llorch.kernels.ops.attend_parts import part_bytes
from llorch.machine.memory import available_memory
from llorch.model.config import ModelConfig
from llorch.model.kv_cache import KVCache

logger = logging.getLogger(__name__)

SHARE_OF_FREE_MEMORY = 0.8
"""The rest is for activations, Python and other processes."""


def plan_kv_cache(config: ModelConfig, *, ctx_size: int, n_parallel: int, kv_type: str) -> tuple[int, int]:
    """Positions per sequence, and blocks for `n_parallel` such sequences or as many as the free memory holds.

    What attention may take beside the cache is left free (`part_bytes`). With fewer blocks than that, long sequences
    wait for each other; pages never written take no memory. A context beyond the length that the model was trained on
    is granted with a warning.

    Args:
        config: sizes of the model.
        ctx_size: tokens one sequence may hold; 0: as many as the model was trained on and the memory holds.
        n_parallel: sequences side by side.
        kv_type: number type of the cache.

    Returns:
        `n_ctx` and the number of blocks.

    Raises:
        SettingsError: not even one context of `ctx_size` fits.
    """
    n_ctx = ctx_size or config.n_ctx_train
    block_bytes = KVCache.bytes_per_block(config, kv_type)
    free = max(0, available_memory() - part_bytes(config.n_head, config.n_head_kv, config.head_dim))
    affordable = int(free * SHARE_OF_FREE_MEMORY) // block_bytes
    if affordable < KVCache.blocks_for(n_ctx):
        most = affordable * KV_BLOCK_SIZE
        if ctx_size or not most:
            needed = KVCache.blocks_for(n_ctx) * block_bytes
            raise SettingsError(
                f"ctx_size {n_ctx} needs {needed >> 20:,} MiB of KV cache ({kv_type}), and {free >> 20:,} MiB of "
                f"memory are free: choose at most {most}"
            )
        logger.warning("the context is %d tokens instead of %d: free memory holds no more", most, n_ctx)
        n_ctx = most
    if n_ctx > config.n_ctx_train:
        logger.warning(
            "the context is %d tokens, but the model was trained on %d: expect poor text beyond those",
            n_ctx,
            config.n_ctx_train,
        )
    return n_ctx, min(n_parallel * KVCache.blocks_for(n_ctx), affordable)
