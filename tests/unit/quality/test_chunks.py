from __future__ import annotations

import numpy as np
import pytest

from llorch.quality.chunks import Chunks, pieces


def chunks_of(n_chunks: int, n_ctx: int, bos_id: int | None = None) -> Chunks:
    return Chunks(np.arange(n_chunks * n_ctx, dtype=np.int32).reshape(n_chunks, n_ctx) + 10, bos_id)


@pytest.mark.parametrize(
    ("n_ctx", "n_rows", "n_outputs", "n_together"),
    [(8, 100, 100, 100), (8, 5, 100, 2), (8, 100, 2, 3), (7, 3, 1, 1), (16, 40, 9, 2), (3, 1, 1, 1)],
)
@pytest.mark.parametrize("begin", [0, 2])
def test_passes_read_every_token_once_in_order_and_ask_for_every_prediction_that_counts(
    n_ctx: int, n_rows: int, n_outputs: int, n_together: int, begin: int
) -> None:
    chunks = chunks_of(5, n_ctx)
    rows, outputs = [], []
    for piece in pieces(chunks, begin, n_rows, n_outputs, n_together):
        assert 0 < len(piece.positions) <= n_rows
        assert len(piece.output_rows) <= n_outputs
        assert len(set(piece.chunks)) <= n_together
        found = list(zip(piece.chunks.tolist(), piece.positions.tolist(), strict=True))
        rows += found
        outputs += [found[row] for row in piece.output_rows]
    length, half = n_ctx - 1, n_ctx // 2
    assert rows == [(chunk, i) for chunk in range(begin, 5) for i in range(length)]
    assert outputs == [(chunk, i) for chunk in range(begin, 5) for i in range(half, length)]
    assert len(outputs) == (5 - begin) * chunks.n_counted


def test_predictions_of_the_second_half_are_judged_by_the_token_behind_each() -> None:
    chunks = chunks_of(2, 6)
    assert chunks.n_counted == 2
    assert chunks.wanted().tolist() == [14, 15, 20, 21]


def test_the_first_token_of_every_chunk_is_read_as_bos_where_the_model_has_one() -> None:
    assert chunks_of(2, 4, bos_id=1).read().tolist() == [[1, 11, 12], [1, 15, 16]]
    assert chunks_of(2, 4).read().tolist() == [[10, 11, 12], [14, 15, 16]]
