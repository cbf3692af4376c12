"""A model on any number of threads, pinned or on several NUMA nodes, gives the same bits."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from llorch.kernels.layout import ATTENTION_PART, CLAIMED_TILES, share_begin
from llorch.kernels.team import Team
from llorch.machine.threads import allowed_cpus
from llorch.model import llama
from tests.support.live_server import WAIT_S, wait_until
from tests.support.logits import token_ids_of
from tests.support.naive import bits
from tests.support.small_models import Run, open_model

N_LONG = 2 * ATTENTION_PART + 40
"""Tokens of a context of three parts."""


def logits(path: Path, **options: object) -> NDArray[np.float32]:
    """Logits of a long prompt read in pieces, and of two single tokens behind it."""
    with open_model(path, **options) as model:  # type: ignore[arg-type]
        token_ids = token_ids_of(N_LONG, model.config.n_vocab)
        run = Run(model.llama, n_sequences=1, n_positions=N_LONG, kv_type="f16")
        pieces = itertools.pairwise((0, 300, N_LONG - 2, N_LONG - 1, N_LONG))
        return np.concatenate(
            [run.forward([(0, i, token_ids[i]) for i in range(*piece)]) for piece in pieces]
        )


@pytest.fixture(scope="module")
def on_one_thread(tiny: Path) -> NDArray[np.uint32]:
    return bits(logits(tiny, n_threads=1))


@pytest.mark.parametrize("n_threads", [2, 5])
def test_a_long_context_has_the_same_bits_on_several_threads(
    tiny: Path, on_one_thread: NDArray[np.uint32], n_threads: int
) -> None:
    np.testing.assert_array_equal(bits(logits(tiny, n_threads=n_threads)), on_one_thread)


@pytest.mark.slow
@pytest.mark.parametrize("n_threads", [1, 3, 4, 8, 16, 31, 64])
def test_up_to_64_threads_on_few_cores_have_the_same_bits(
    tiny: Path, on_one_thread: NDArray[np.uint32], n_threads: int
) -> None:
    np.testing.assert_array_equal(bits(logits(tiny, n_threads=n_threads)), on_one_thread)


@pytest.mark.parametrize("residence", ["packed", "mapped"])
@pytest.mark.parametrize(("n_nodes", "n_threads"), [(2, 2), (3, 2), (2, 3), (4, 1)])
def test_nodes_have_the_bits_of_one(
    tiny: Path, on_one_thread: NDArray[np.uint32], n_nodes: int, n_threads: int, residence: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    cpus = sorted(allowed_cpus())
    groups = tuple((cpus[i % len(cpus)],) for i in range(n_nodes))
    monkeypatch.setattr(llama, "node_groups", lambda numa: groups if numa == "distribute" else ())
    out = logits(tiny, n_threads=n_threads, numa="distribute", residence=residence)
    np.testing.assert_array_equal(bits(out), on_one_thread)


def test_pinned_threads_have_the_same_bits_and_leave_the_caller_alone(
    tiny: Path, on_one_thread: NDArray[np.uint32]
) -> None:
    before = os.sched_getaffinity(0)
    out = logits(tiny, n_threads=len(allowed_cpus()), pin_threads=True)
    np.testing.assert_array_equal(bits(out), on_one_thread)
    assert os.sched_getaffinity(0) == before


def test_each_thread_of_a_team_is_bound_to_its_cpus() -> None:
    cpus = sorted(allowed_cpus())
    wanted = [(cpus[0],), (cpus[-1],), ()]
    team = Team(3, 64, wanted)
    try:
        for _ in wait_until(WAIT_S):  # they bind themselves when they begin
            of_threads = [os.sched_getaffinity(thread.native_id or 0) for thread in team._threads]
            if of_threads == [{cpus[-1]}, set(cpus)]:
                return
        raise AssertionError(of_threads)
    finally:
        team.close()


@pytest.mark.parametrize("n_nodes", [1, 2, 3, 8])
@pytest.mark.parametrize("n_tiles", [1, 3, 4, 5, 63, 64, 2000])
def test_the_shares_of_nodes_are_all_tiles_in_whole_claims(n_tiles: int, n_nodes: int) -> None:
    begins = [share_begin(n_tiles, node, n_nodes) for node in range(n_nodes + 1)]
    assert begins == sorted(begins)
    assert (begins[0], begins[-1]) == (0, n_tiles)
    assert all(begin % CLAIMED_TILES == 0 for begin in begins[:-1] if begin < n_tiles)
    if n_tiles == 2000:
        assert max(np.diff(begins)) - min(np.diff(begins)) <= CLAIMED_TILES
