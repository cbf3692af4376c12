"""Guards of attention: a prompt's rows to a context in the cache, and one row to contexts that come from memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from llorch.kernels import step as st
from llorch.kernels.buffers import Rows
from llorch.kernels.kv_types import KV_TYPES
from llorch.kernels.layout import GROUP_ROWS, KV_BLOCK_SIZE
from llorch.kernels.ops.attend import attend
from llorch.kernels.ops.attend_parts import PartBuffers
from llorch.kernels.program import Program
from llorch.machine.memory import aligned_zeros
from llorch.model.attention_tasks import attention_tasks
from tools.performance.guards.bench import N_REPEATS, Guard
from tools.performance.products import random_rows, step_of

HEAD_DIM = 64
MOST_REP = 4
"""Most query heads that share a KV head in these cases."""
KV = KV_TYPES["f16"]
PROMPT, LONG = "attention of a prompt", "attention of a token over a long context"


def prompt() -> Guard:
    """The last rows of a prompt of 512, four heads that share a KV head: 128 KB of keys and values."""
    return _guard(PROMPT, GROUP_ROWS, 512, 4, 1, 1)


def long_context(ring_bytes: int) -> Guard:
    """One row at position 1023, heads of Llama 3; each instruction attends to the cache of another layer, 2 MB."""
    n_context, n_head, n_head_kv = 1024, 32, 8
    return _guard(
        LONG, 1, n_context, n_head, n_head_kv, max(3, ring_bytes // _layer_bytes(n_context, n_head_kv))
    )


def _layer_bytes(n_context: int, n_head_kv: int) -> int:
    return 2 * n_context * n_head_kv * HEAD_DIM * KV.item_bytes


def _guard(name: str, n_rows: int, n_context: int, n_head: int, n_head_kv: int, n_layers: int) -> Guard:
    """The last rows of a context attend to all of it, in each layer, or again and again in one."""
    positions = np.arange(n_context - n_rows, n_context, dtype=np.int32)
    cache = aligned_zeros((n_layers, 2, n_context * n_head_kv * HEAD_DIM), KV.dtype)
    cache[0] = np.random.default_rng(0).standard_normal(cache[0].shape)
    cache[1:] = cache[0]
    tasks = attention_tasks(positions, np.zeros(n_rows, np.int32), n_head_kv, 1)
    step, keep = step_on(cache, positions)
    step[st.TASKS], step[st.N_TASKS] = tasks.ctypes.data, len(tasks)
    q, out = random_rows(n_rows, n_head * HEAD_DIM), Rows.empty(n_rows, n_head * HEAD_DIM)
    parts, program = PartBuffers(n_head, n_head_kv, HEAD_DIM), Program()
    for layer in range(n_layers) if n_layers > 1 else [0] * N_REPEATS:
        attend(program, layer, q, out, n_head, n_head_kv, HEAD_DIM, KV, parts)
    n_macs = 2 * int((positions + 1).sum()) * n_head * HEAD_DIM
    ring = (_layer_bytes(n_context, n_head_kv), int(cache.ctypes.data)) if n_layers > 1 else (0, 0)
    return Guard(name, program, step, n_macs, "float32", *ring, keep=(*keep, tasks))


def step_on(
    cache: NDArray[Any], positions: NDArray[np.int32]
) -> tuple[NDArray[np.int64], tuple[object, ...]]:
    """A step of rows of one sequence, and what it points into; `cache`: (n_layer, keys or values, ...)."""
    slots = np.zeros(len(positions), np.int32)
    table = np.arange(positions.max() // KV_BLOCK_SIZE + 1, dtype=np.int32)[None]
    step = step_of(len(positions))
    step[st.POSITIONS], step[st.SLOTS] = positions.ctypes.data, slots.ctypes.data
    step[st.TABLES], step[st.TABLE_STRIDE] = table.ctypes.data, table.strides[0]
    step[st.KEYS], step[st.VALUES] = (int(cache[0, i].ctypes.data) for i in (0, 1))
    step[st.LAYER_KEY_BYTES] = step[st.LAYER_VALUE_BYTES] = cache.strides[0]
    step[st.BLOCK_KEY_BYTES] = step[st.BLOCK_VALUE_BYTES] = cache[0, 0].nbytes // table.size
    return step, (cache, positions, slots, table)
