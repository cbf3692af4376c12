"""Runs a program: every thread of the team walks the same instructions and does its share of each."""

from __future__ import annotations

from llorch.kernels import step as st
from llorch.kernels.barrier import barrier
from llorch.kernels.emit.functions import call_unit
from llorch.kernels.emit.scalars import as_int64, prefetch_to_write, ticks
from llorch.kernels.jit import kernel
from llorch.kernels.program import BARRIER, FLAGS, OUTPUT_ROWS, RECORD, RUN
from llorch.kernels.stamp_log import STAMPS_AHEAD, stamps_of_thread


@kernel
def run_instructions(program, first, last, step, counters, control, scratch, ith, nth):
    """Run instructions ``first <= i < last`` as thread `ith` of `nth`; returns 1 if the team was aborted.

    Args (int64; addresses unless said otherwise):
        program: int64 (n, RECORD), instructions.
        step: int64 (STEP_SIZE,), what changes from step to step.
        counters: int64 (n, nodes), 0 at the start, from which threads claim work.
        control: the team's control block.
        scratch: this thread's own scratch.
    """
    s = as_int64(step)
    counter_bytes = 8 * max(s[st.N_NODES], 1)
    stamps = stamps_of_thread(s[st.STAMPS], ith)
    now = ticks() if stamps else 0
    for i in range(first, last):
        o = as_int64(program + i * RECORD * 8)
        n_rows = s[st.N_OUTPUTS] if o[FLAGS] & OUTPUT_ROWS else s[st.N_ROWS]
        if stamps:
            # A barrier waits until what was written has arrived, and a line that nobody asked for takes its time.
            prefetch_to_write(stamps + 16 * i + STAMPS_AHEAD)
            as_int64(stamps)[2 * i] = now
        call_unit(
            o[RUN], (program + i * RECORD * 8, step, n_rows, ith, nth, counters + i * counter_bytes, scratch)
        )
        if stamps:
            now = ticks()
            as_int64(stamps)[2 * i + 1] = now
        if o[FLAGS] & BARRIER:
            if barrier(control, nth):
                return 1
            if stamps:
                now = ticks()
    return 0
