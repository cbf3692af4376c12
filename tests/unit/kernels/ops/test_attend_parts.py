"""Long contexts: parts of fixed size, added in order of position, whoever computes them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from llorch.kernels.layout import ATTENTION_PART, KV_BLOCK_SIZE
from llorch.kernels.ops.attend_parts import PartBuffers, part_bytes
from tests.support.attention_cases import ABSOLUTE, Sequences, rows_of
from tests.support.naive import bits
from tests.support.naive_attention import ONE_PART, Part, merge, parts_of

N_HEAD, N_HEAD_KV, HEAD_DIM = 6, 2, 16
BOUNDARIES = [ATTENTION_PART * n + more for n in (1, 2) for more in (-1, 0, 1)] + [5 * ATTENTION_PART + 77]


def fed(n: int, kv_type: str = "f16") -> Sequences:
    """A sequence of `n` positions whose cache is full."""
    s = Sequences([n], N_HEAD, N_HEAD_KV, HEAD_DIM, kv_type)
    s.attend(rows_of(0, 0, n), n_threads=2)
    return s


def parts(s: Sequences, position: int, head: int, part_size: int = ATTENTION_PART) -> list[Part]:
    """The slow twin's parts of one query."""
    rounded = (a[0][: position + 1, head // (N_HEAD // N_HEAD_KV)] for a in (s.k, s.v))
    keys, values = (a.astype(s.cache.keys.dtype).astype(np.float32) for a in rounded)
    return parts_of(s.q[0][position, head], keys, values, part_size)


def test_a_part_is_a_whole_number_of_blocks() -> None:
    assert ATTENTION_PART % KV_BLOCK_SIZE == 0


@pytest.mark.parametrize("kv_type", ["f32", "f16"])
@pytest.mark.parametrize("n", BOUNDARIES)
def test_parts_are_added_in_order_bit_for_bit(n: int, kv_type: str) -> None:
    s = fed(n, kv_type)
    expected = np.stack([merge(parts(s, n - 1, head)) for head in range(N_HEAD)])
    np.testing.assert_allclose(expected, s.expected(0, n - 1)[0], atol=ABSOLUTE)
    for n_threads in (1, 2):
        out = s.attend(rows_of(0, n - 1, n), n_threads)
        np.testing.assert_array_equal(bits(out[0]), bits(expected))


def test_a_context_of_one_part_is_one_online_softmax() -> None:
    s = fed(ATTENTION_PART)
    out = s.attend(rows_of(0, ATTENTION_PART - 1, ATTENTION_PART), n_threads=2)
    for head in range(N_HEAD):
        whole = merge(parts(s, ATTENTION_PART - 1, head, ONE_PART))
        np.testing.assert_array_equal(bits(out[0, head]), bits(whole))


@pytest.mark.parametrize("fault", ["descending", "a part is missing", "a part counts twice"])
def test_another_merge_would_show(fault: str) -> None:
    n = 5 * ATTENTION_PART + 77
    s = fed(n)
    out = s.attend(rows_of(0, n - 1, n), n_threads=2)[0]

    def faulty(right: list[Part]) -> list[Part]:
        if fault == "descending":
            return right[::-1]
        return right[:2] + right[3:] if fault == "a part is missing" else [*right, right[2]]

    wrong = np.stack([merge(faulty(parts(s, n - 1, head))) for head in range(N_HEAD)])
    assert (bits(wrong) != bits(out)).any()
    is_close = np.allclose(wrong, s.expected(0, n - 1)[0], atol=ABSOLUTE)
    assert is_close == (fault == "descending")


def root_mean_square_error(outputs: list[NDArray[np.float32]], expected: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean((np.stack(outputs) - expected) ** 2)))


def test_parts_are_nearer_to_float64_than_one_long_sum() -> None:
    n = 4000
    s = Sequences([n], N_HEAD, N_HEAD_KV, HEAD_DIM, "f32")
    positions = range(n - 10, n)
    expected = s.expected(0, n - 10).reshape(-1, HEAD_DIM)
    errors = {
        size: root_mean_square_error(
            [merge(parts(s, p, head, size)) for p in positions for head in range(N_HEAD)], expected
        )
        for size in (ATTENTION_PART, ONE_PART)
    }
    assert errors[ATTENTION_PART] < errors[ONE_PART]


@pytest.mark.parametrize("first", [1, ATTENTION_PART - 3, ATTENTION_PART, ATTENTION_PART + 5])
def test_chunks_of_a_prompt_give_the_bits_of_the_whole(first: int) -> None:
    """Groups of rows that lie in one part, end at its end, or reach into the next one."""
    n = 2 * ATTENTION_PART + 9
    whole = Sequences([n], N_HEAD, N_HEAD_KV, HEAD_DIM, "f16")
    expected = whole.attend(rows_of(0, 0, n), n_threads=1)
    s = Sequences([n], N_HEAD, N_HEAD_KV, HEAD_DIM, "f16")
    cuts = [0, first, first + 7, ATTENTION_PART + 40, n - 1, n]
    chunks = [s.attend(rows_of(0, a, b), n_threads=2) for a, b in itertools.pairwise(cuts)]
    np.testing.assert_array_equal(bits(np.concatenate(chunks)), bits(expected))


def agree(numbers_of_threads: list[int]) -> None:
    """One long sequence alone, and beside others, on so many threads."""
    lengths = [1500, 3, 300]
    s = Sequences(lengths, N_HEAD, N_HEAD_KV, HEAD_DIM, "f16")
    for i, n in enumerate(lengths):
        s.attend(rows_of(i, 0, n), n_threads=1)
    batches = [rows_of(0, 1499, 1500), rows_of(0, 1485, 1500) + rows_of(1, 2, 3) + rows_of(2, 250, 300)]
    for batch in batches:
        expected = s.attend(batch, n_threads=1)
        for n_threads in numbers_of_threads:
            np.testing.assert_array_equal(bits(s.attend(batch, n_threads)), bits(expected))


def test_two_to_nine_threads_give_the_bits_of_one() -> None:
    agree([2, 3, 5, 9])


@pytest.mark.slow
def test_up_to_64_threads_give_the_bits_of_one() -> None:
    agree([2, 3, 4, 6, 7, 8, 12, 16, 24, 31, 32, 48, 64])


def test_a_row_that_sees_nothing_of_a_part_is_not_touched_by_it() -> None:
    """The last rows of a group see a part that its first rows do not: there is nothing of theirs to add."""
    n = ATTENTION_PART + 4
    s = Sequences([n], N_HEAD, N_HEAD_KV, HEAD_DIM, "f16")
    s.attend(rows_of(0, 0, n - 8))
    rows = rows_of(0, n - 8, n)
    out = s.attend(rows, n_threads=2)
    np.testing.assert_allclose(out, s.expected(0)[n - 8 :], atol=ABSOLUTE)
    for i, row in enumerate(rows):
        np.testing.assert_array_equal(bits(s.attend([row])[0]), bits(out[i]))


def test_the_buffers_of_parts_take_what_the_memory_plan_counts() -> None:
    buffers = PartBuffers(9, 3, 60)
    assert buffers.outputs.shape[1] == 64
    assert part_bytes(9, 3, 60) == sum(a.nbytes for a in (buffers.outputs, buffers.states, buffers.done))
    assert not buffers.done.any()
