"""Where the threads of a pass write their time stamps: into the next free place of a log (`observe.stamps`)."""

from __future__ import annotations

from llorch.kernels.emit.scalars import as_int64, prefetch_to_write
from llorch.kernels.jit import kernel
from llorch.observe.stamps import ADVANCE, CURRENT, END, HEAD_BYTES, N_ACTIVE, N_RUN, NEXT, OF_THREAD

STAMPS_AHEAD = 128
"""Bytes from the stamps that are written to those whose cache line is asked for."""


@kernel
def stamp_pass(log, first, last, n_active):
    """Take a place for the pass that begins with instruction 0, or go on with it, up to `last`; `log` is an address."""
    if log:
        fields = as_int64(log)
        if first == 0:
            fields[CURRENT] = fields[NEXT] if fields[NEXT] < fields[END] else 0
            fields[NEXT] += fields[ADVANCE]
        if fields[CURRENT]:
            head = as_int64(fields[CURRENT])
            head[N_RUN] = last
            head[N_ACTIVE] = n_active


@kernel
def stamps_of_thread(log, ith):
    """Address of the stamps of thread `ith`, two for each instruction, or 0."""
    if log == 0 or as_int64(log)[CURRENT] == 0:
        return 0
    stamps = as_int64(log)[CURRENT] + HEAD_BYTES + ith * as_int64(log)[OF_THREAD]
    for ahead in range(0, STAMPS_AHEAD, HEAD_BYTES):
        prefetch_to_write(stamps + ahead)
    return stamps
