"""Which sequences of a step get drafts, and how long ones."""

from __future__ import annotations

import logging
from dataclasses import replace

from llorch.engine.kv_blocks import KVBlocks
from llorch.engine.scheduler import Chunk

logger = logging.getLogger(__name__)

MAX_ROWS = 8
"""Most rows of a step with drafts; from here on a row costs as much as a step of one, divided by the rows."""

PRICE_OF_ROW = 0.2
"""What a further row costs, as a share of a step of few rows: 0.12 to 0.29 measured, with 135 million and 1.1 billion
parameters on two cores. With n sequences in the step it must win n times as much, since all of them wait for it."""


def with_drafts(chunks: list[Chunk], n_rows: int, blocks: KVBlocks) -> list[Chunk]:
    """Append drafts to the chunks of sequences that need one token, as far as that pays.

    Args:
        chunks: what a step shall compute.
        n_rows: most rows of the step.
        blocks: gives sequences their KV blocks; nobody has to give way for a draft.
    """
    n_left = min(n_rows, MAX_ROWS) - sum(chunk.n_tokens for chunk in chunks)
    price = PRICE_OF_ROW * len(chunks)
    if n_left <= 0 or price >= 1:
        return chunks
    drafted = []
    for chunk in chunks:
        try:
            draft = _draft(chunk, price, n_left, blocks)
        except Exception as error:  # nobody needs a draft
            logger.warning("a draft failed: %s", type(error).__name__, exc_info=error)
            draft = ()
        n_left -= len(draft)
        drafted.append(replace(chunk, n_outputs=1 + len(draft), draft=draft) if draft else chunk)
    return drafted


def _draft(chunk: Chunk, price: float, n_left: int, blocks: KVBlocks) -> tuple[int, ...]:
    sequence = chunk.sequence
    if sequence.drafter is None or not sequence.n_generated or sequence.n_pending != 1:
        return ()  # one row of a prompt may be a step, too
    most = min(n_left, sequence.n_positions - len(sequence.token_ids), blocks.n_room(sequence) - 1)
    draft = sequence.drafter.propose(price, most)
    blocks.grow(sequence, 1 + len(draft))
    return draft
