"""A text cut into chunks of one context each, and the chunks cut into forward passes.

Every chunk is a sequence of its own. The model reads all of it and is judged by its predictions in the second half
alone, where it always has half a context to go by.

Source: `tools/perplexity/perplexity.cpp` (`perplexity`) of llama.cpp, with `--ppl-stride 0`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llorch.errors import InputError
from llorch.text.tokenizer import Tokenizer

MIN_CONTEXT = 3
"""A shorter one has no prediction that counts."""


@dataclass(frozen=True, slots=True)
class Chunks:
    """Token ids of a text, a row for each chunk; what does not fill a chunk at the end is left out.

    Attributes:
        token_ids: int32 (n_chunks, n_ctx), as the text has them.
        bos_id: what the model reads in place of each chunk's first token; None: that token.
    """

    token_ids: NDArray[np.int32]
    bos_id: int | None

    @property
    def n_chunks(self) -> int:
        """Rows."""
        return len(self.token_ids)

    @property
    def n_ctx(self) -> int:
        """Tokens of a chunk."""
        return int(self.token_ids.shape[1])

    @property
    def first(self) -> int:
        """The first position of a chunk whose prediction counts."""
        return self.n_ctx // 2

    @property
    def n_counted(self) -> int:
        """Predictions of a chunk that count; the last token's would be of a token outside."""
        return self.n_ctx - 1 - self.first

    def read(self) -> NDArray[np.int32]:
        """What the model reads: int32 (n_chunks, n_ctx - 1), a copy."""
        ids = self.token_ids[:, :-1].copy()
        if self.bos_id is not None:
            ids[:, 0] = self.bos_id
        return ids

    def wanted(self) -> NDArray[np.int32]:
        """The tokens that all predictions are judged by: int32 (n_chunks * n_counted,), a copy."""
        return self.token_ids[:, self.first + 1 :].reshape(-1).copy()


def cut_text(tokenizer: Tokenizer, text: str, n_ctx: int, most: int | None = None) -> Chunks:
    """The chunks of `text`.

    Args:
        tokenizer: of the model; puts its BOS token in front of the text, too, if it has one.
        text: any; control tokens are not recognised in it.
        n_ctx: tokens of a chunk.
        most: leave out all chunks behind so many.

    Raises:
        InputError: it has fewer tokens than two contexts, or ends with an EOS token that the tokenizer puts there.
    """
    if tokenizer.vocab.add_eos:
        raise InputError(
            "the model puts an EOS token behind a text; llama-perplexity does not measure such models"
        )
    ids = np.array(tokenizer.encode(text), np.int32)
    if len(ids) < 2 * n_ctx:
        raise InputError(
            f"the text has {len(ids)} tokens; a context of {n_ctx} takes at least {2 * n_ctx} (-c makes it shorter)"
        )
    n_chunks = min(len(ids) // n_ctx, most or len(ids))
    return Chunks(ids[: n_chunks * n_ctx].reshape(n_chunks, n_ctx), bos_of(tokenizer))


def bos_of(tokenizer: Tokenizer) -> int | None:
    """The token that begins every chunk, if the model has one."""
    return tokenizer.vocab.bos_id if tokenizer.vocab.add_bos else None


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows of one forward pass.

    Attributes:
        chunks: int32 (n_rows,), the chunk of each row.
        positions: int32 (n_rows,), its position there.
        output_rows: int32 (n_outputs,), the rows whose predictions count, in order.
    """

    chunks: NDArray[np.int32]
    positions: NDArray[np.int32]
    output_rows: NDArray[np.int32]


def pieces(chunks: Chunks, begin: int, n_rows: int, n_outputs: int, n_together: int) -> Iterator[Piece]:
    """Cut the chunks, one behind the other, into forward passes.

    Args:
        chunks: all of them.
        begin: the first chunk to be read.
        n_rows: most rows of a pass.
        n_outputs: most predictions of a pass: each takes a row of logits.
        n_together: most chunks of a pass: each takes a sequence of the KV cache.
    """
    length = chunks.n_ctx - 1
    at, end = begin * length, chunks.n_chunks * length
    while at < end:
        index = np.arange(at, min(at + n_rows, (at // length + n_together) * length, end))
        rows = np.flatnonzero(index % length >= chunks.first)
        if len(rows) > n_outputs:
            index, rows = index[: rows[n_outputs]], rows[:n_outputs]
        at += len(index)
        yield Piece(
            (index // length).astype(np.int32), (index % length).astype(np.int32), rows.astype(np.int32)
        )
