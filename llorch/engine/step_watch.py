"""What an engine tells somebody who watches its steps, for timelines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from llorch.engine.block_pool import BlockPool
from llorch.engine.scheduler import Chunk, Scheduler
from llorch.observe.stamps import Stamps


class StepWatcher(Protocol):
    """Told about every step, on the thread that computes. It must be quick and must not raise."""

    def begin_step(self) -> None:
        """A step begins: sequences are admitted and scheduled."""
        ...

    def begin_forward(self, chunks: Sequence[Chunk]) -> Stamps:
        """The forward pass of `chunks` begins; returns what it stamps.

        A step has several where one failed: its chunks are computed one by one. The very list of the pass before comes
        again only where each of its sequences computes the one token that it has got since.
        """
        ...

    def end_forward(self) -> None:
        """Its logits are there: tokens are chosen from them."""
        ...

    def end_step(self, scheduler: Scheduler, pool: BlockPool) -> None:
        """The step is over, whether it computed anything or not.

        Args:
            scheduler, pool: the state of the engine, to be read and not kept.
        """
        ...
