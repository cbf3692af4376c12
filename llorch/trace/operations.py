"""What the instructions of a step did: stamps, names and work of each, joined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from llorch.bench.work import Work
from llorch.trace.records import StepRecord


@dataclass(frozen=True, slots=True)
class Operation:
    """An instruction of one step, as all threads ran it together.

    Attributes:
        index: of the instruction in the program.
        label: its name.
        layer: its layer, -1 outside the layers.
        begun_ns, ended_ns: from the first thread's begin to the last thread's end.
        thread_ns: begin and end on each thread.
        work: what it had to read and compute, if that is known.
    """

    index: int
    label: str
    layer: int
    begun_ns: int
    ended_ns: int
    thread_ns: tuple[tuple[int, int], ...]
    work: Work | None


def operations(
    step: StepRecord, labels: Sequence[tuple[str, int]], work: Sequence[Work] | None
) -> list[Operation]:
    """The operations of a step, in order; their times lie within its forward pass.

    Args:
        step: as recorded.
        labels: `Llama.labels`.
        work: of every instruction that ran, as `StepWork.of` has it.
    """
    stamps = np.clip(step.stamps_ns, *step.forward_ns)  # two clocks agree to within some ten nanoseconds
    found = []
    for i, times in enumerate(stamps.tolist()):
        label, layer = labels[i]
        begun_ns, ended_ns = min(t[0] for t in times), max(t[1] for t in times)
        thread_ns = tuple((begin, end) for begin, end in times)
        found.append(
            Operation(i, label, layer, begun_ns, ended_ns, thread_ns, work[i] if work is not None else None)
        )
    return found
