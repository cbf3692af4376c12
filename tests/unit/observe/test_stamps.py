"""Room for stamps of forward passes."""

from __future__ import annotations

import ctypes

import numpy as np

from llorch.observe.stamps import Stamped, Stamps


def fill(stamps: Stamps, n_run: int, n_active: int, first: int) -> None:
    """Write what a forward pass would: numbers that count up."""
    stamps.n_run, stamps.n_active = n_run, n_active
    ticks = np.arange(first, first + n_run * n_active * 2)
    ctypes.memmove(stamps.address, ticks.ctypes.data, ticks.nbytes)


def numbers(stamped: Stamped) -> list[int]:
    found: list[int] = stamped.ticks.ravel().tolist()
    return found


def test_a_pass_is_overwritten_by_the_next_unless_it_is_kept() -> None:
    stamps = Stamps(3, 2)
    fill(stamps, 3, 2, 0)
    last = stamps.last
    assert stamps.ticks.shape == (3, 2, 2)
    fill(stamps, 2, 1, 50)
    assert numbers(last)[:4] == [50, 51, 52, 53]
    kept = stamps.keep()
    fill(stamps, 3, 2, 100)
    assert numbers(kept) == [50, 51, 52, 53]
    assert stamps.ticks.ravel().tolist() == list(range(100, 112))


def test_passes_that_are_kept_stay_however_many_there_are() -> None:
    stamps = Stamps(1000, 4)
    kept = []
    for i in range(200):  # more than a block holds
        fill(stamps, 1000, 4, 10_000 * i)
        kept.append(stamps.keep())
    assert len({id(stamped.buffer) for stamped in kept}) > 2
    for i, stamped in enumerate(kept):
        assert (stamped.ticks.ravel() == np.arange(10_000 * i, 10_000 * i + 8000)).all()


def test_a_pass_that_is_larger_than_a_block_is_kept_as_well() -> None:
    stamps = Stamps(100_000, 4)
    stamps.reserve()
    for i in range(2):
        fill(stamps, 100_000, 4, i)
        assert numbers(stamps.keep())[-1] == i + 799_999
