"""What an engine tells somebody who watches its steps, for timelines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias

from llorch.engine.block_pool import BlockPool
from llorch.engine.scheduler import Chunk, Scheduler
from llorch.observe.stamps import Stamps

PassTimes: TypeAlias = tuple[float, float, float, float]
"""Of a pass (clock of `time.perf_counter`): when its step began, when `forward` was called, how many seconds that took,
and when tokens had been chosen from its logits.

A step has several passes where one failed: its chunks are then computed one by one."""


class StepWatcher(Protocol):
    """Told about every step, on the thread that computes. It must be quick and must not raise.

    Attributes:
        chunks: those of passes that it need not be told of before they begin: the very list comes again only where each
            of its sequences computes the one token that it has got since. None after steps that it was not told of.
        stamps: what passes stamp.
    """

    chunks: Sequence[Chunk] | None
    stamps: Stamps

    def begin_pass(self, chunks: Sequence[Chunk]) -> None:
        """The pass of `chunks`, which are not those of before, begins."""

    def end_pass(self, times: PassTimes, scheduler: Scheduler, pool: BlockPool) -> None:
        """A pass is over.

        Args:
            times: when.
            scheduler, pool: the state of the engine, to be read and not kept.
        """

    def fail_pass(self, begun_s: float) -> None:
        """A pass that began then, as `PassTimes` has it, has raised."""
