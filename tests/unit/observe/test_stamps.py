"""Room for stamps of forward passes."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from llorch.observe.stamps import Stamps


def fill(stamps: Stamps, n_run: int, n_active: int, first: int) -> None:
    """Write what a forward pass would: numbers that count up."""
    stamps.n_run, stamps.n_active = n_run, n_active
    ticks = np.arange(first, first + n_run * n_active * 2)
    ctypes.memmove(stamps.address, ticks.ctypes.data, ticks.nbytes)


def test_a_pass_is_overwritten_by_the_next_unless_it_is_kept() -> None:
    stamps = Stamps(3, 2)
    fill(stamps, 3, 2, 0)
    last = stamps.ticks
    assert last.shape == (3, 2, 2)
    fill(stamps, 2, 1, 50)
    assert last.ravel().tolist()[:4] == [50, 51, 52, 53]
    kept = stamps.keep()
    fill(stamps, 3, 2, 100)
    assert stamps.kept_at(kept, 2, 1).ravel().tolist() == [50, 51, 52, 53]
    assert stamps.ticks.ravel().tolist() == list(range(100, 112))


def test_passes_that_are_kept_stay_however_many_there_are() -> None:
    stamps = Stamps(1000, 4)
    kept = []
    for i in range(200):  # more than a block holds
        fill(stamps, 1000, 4, 10_000 * i)
        kept.append(stamps.keep())
    for i, address in enumerate(kept):
        assert (stamps.kept_at(address, 1000, 4).ravel() == np.arange(10_000 * i, 10_000 * i + 8000)).all()


def test_a_pass_that_is_larger_than_a_block_is_kept_as_well() -> None:
    stamps = Stamps(100_000, 4)
    stamps.reserve()
    for i in range(2):
        fill(stamps, 100_000, 4, i)
        assert stamps.kept_at(stamps.keep(), 100_000, 4)[-1, -1, -1] == i + 799_999


@pytest.mark.parametrize("n_run", [10, 50_000])
def test_what_does_not_fit_into_the_room_is_not_kept_and_the_next_pass_takes_its_place(n_run: int) -> None:
    n_bytes = 16 * n_run  # with 50,000 instructions there is a block for each five passes
    stamps = Stamps(n_run, 1)
    stamps.reserve(20 * n_bytes + 8)
    kept = []
    for i in range(20):
        fill(stamps, n_run, 1, i)
        kept.append(stamps.keep())
    assert all(kept)
    fill(stamps, n_run, 1, 7)
    assert stamps.keep() == 0
    fill(stamps, n_run, 1, 8)
    assert stamps.ticks[0, 0, 0] == 8
    assert [int(stamps.kept_at(address, n_run, 1)[0, 0, 0]) for address in kept] == list(range(20))
