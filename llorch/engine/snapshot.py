"""What an engine is doing, as data that any thread may keep: for `/slots`, `/props` and metrics."""

from __future__ import annotations

from dataclasses import dataclass

from llorch.engine.block_pool import BlockPool
from llorch.engine.request import Request
from llorch.engine.scheduler import Scheduler


@dataclass(frozen=True, slots=True)
class SlotSnapshot:
    """A running generation.

    Attributes:
        slot: its place.
        request: what was asked for.
        seed: decides every draw.
        n_computed: tokens in the KV cache, prompt and answer.
        n_prompt_done: tokens of the prompt that have been in the KV cache; no fewer when it has to be read again.
        n_cached: those of them that were found there.
        n_generated: tokens of the answer so far.
        is_prefilling: whether its prompt is still being read, or read again.
    """

    slot: int
    request: Request
    seed: int
    n_computed: int
    n_prompt_done: int
    n_cached: int
    n_generated: int
    is_prefilling: bool

    @property
    def n_prompt(self) -> int:
        """Tokens of the prompt."""
        return len(self.request.token_ids)


@dataclass(frozen=True, slots=True)
class EngineSnapshot:
    """The state of an engine between two steps, or within one.

    Attributes:
        n_ctx: most tokens of one sequence.
        n_slots: sequences that run side by side.
        n_waiting: generations without a slot.
        n_blocks: KV blocks there are.
        n_free_blocks: those with nothing in them that could be found.
        n_kept_blocks: those that nobody uses, and whose contents can be found: the prefix cache.
        block_size: positions of a block.
        kv_bytes: memory of all blocks.
        n_preempted: how often a generation had to give way since the start.
        slots: the running generations, oldest first.
    """

    n_ctx: int
    n_slots: int
    n_waiting: int
    n_blocks: int
    n_free_blocks: int
    n_kept_blocks: int
    block_size: int
    kv_bytes: int
    n_preempted: int
    slots: tuple[SlotSnapshot, ...]

    @property
    def n_running(self) -> int:
        """Generations with a slot."""
        return len(self.slots)

    @property
    def n_used_blocks(self) -> int:
        """Blocks of running generations."""
        return self.n_blocks - self.n_free_blocks - self.n_kept_blocks


def snapshot_of(scheduler: Scheduler, pool: BlockPool, n_ctx: int, kv_bytes: int) -> EngineSnapshot:
    """The state of an engine's parts. No lock is needed: a list is copied in one piece, and all else are numbers."""
    n_free, n_kept = pool.n_free, pool.n_kept
    slots = [
        SlotSnapshot(
            slot=sequence.slot,
            request=sequence.request,
            seed=sequence.seed,
            n_computed=sequence.n_computed,
            n_prompt_done=sequence.n_prompt_done,
            n_cached=sequence.n_cached,
            n_generated=sequence.n_generated,
            is_prefilling=sequence.n_pending > 1,
        )
        for sequence in list(scheduler.running)
    ]
    return EngineSnapshot(
        n_ctx=n_ctx,
        n_slots=scheduler.n_slots,
        n_waiting=len(scheduler.waiting),
        n_blocks=pool.n_blocks,
        n_free_blocks=n_free - n_kept,
        n_kept_blocks=n_kept,
        block_size=pool.block_size,
        kv_bytes=kv_bytes,
        n_preempted=scheduler.n_preempted,
        slots=tuple(slot for slot in slots if slot.slot >= 0),
    )
