"""The law of the engine: cached or computed, alone or in company, disturbed or not, a generation has the same bits.

The bits compared are those of the logits from which each token is chosen.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llorch.engine.engine import open_configured
from llorch.engine.params import SamplingParams
from llorch.engine.request import Request
from llorch.open_model import OpenModel
from llorch.settings import Settings
from tests.support.watched_engine import Outcome, WatchedEngine

N_CTX = 192


@pytest.fixture(
    scope="module",
    params=["tiny", "demo", pytest.param("smollm2", marks=[pytest.mark.smollm2, pytest.mark.slow])],
)
def loaded(request: pytest.FixtureRequest) -> Iterator[OpenModel]:
    paths = {"tiny": "tiny_model", "smollm2": "smollm2"}
    name = request.param
    path: Path | str = request.getfixturevalue(paths[name]) if name in paths else name
    with open_configured(Settings(model=str(path), threads=2, batch_size=64)) as loaded:
        yield loaded


def requests_for(loaded: OpenModel, n: int = 16) -> list[Request]:
    """Prompts of which many begin alike: of two families, cut at several places; greedy and sampled by turns."""
    rng = random.Random(1)
    families = [[rng.randrange(3, loaded.config.n_vocab) for _ in range(120)] for _ in range(2)]
    made = []
    for i in range(n):
        shared = families[i % 2][: (0, 33, 64, 70, 96, 120)[i % 6]]
        own = [rng.randrange(3, loaded.config.n_vocab) for _ in range(1 + i % 4)]
        params = SamplingParams(temperature=(i // 2) % 2, seed=i, repetition_penalty=1.1)
        made.append(Request(f"job{i}", tuple(shared + own), params, 40 + 10 * (i % 3), ignore_eos=i % 3 > 0))
    return made


@pytest.fixture(scope="module")
def alone(loaded: OpenModel) -> dict[str, Outcome]:
    """Every generation by an engine of its own that keeps nothing."""
    outcomes: dict[str, Outcome] = {}
    for request in requests_for(loaded):
        outcomes |= WatchedEngine(loaded, parallel=1, ctx_size=N_CTX, prefix_cache=False).run(request)
    return outcomes


@pytest.mark.parametrize(("n", "prefix_cache"), [(3, True), (16, True), (16, False)])
def test_in_company_of_any_number_a_generation_has_its_own_bits(
    n: int, prefix_cache: bool, loaded: OpenModel, alone: dict[str, Outcome]
) -> None:
    watched = WatchedEngine(loaded, parallel=n, ctx_size=N_CTX, prefix_cache=prefix_cache)
    assert watched.run(*requests_for(loaded)) == alone
    assert any(end.usage.cached_tokens for end in watched.ends.values()) == prefix_cache


@pytest.mark.parametrize("n", range(1, 17))
def test_any_number_at_once_have_the_bits_of_one_alone(
    n: int, loaded: OpenModel, alone: dict[str, Outcome]
) -> None:
    requests = requests_for(loaded)[16 - n :]
    outcomes = WatchedEngine(loaded, parallel=n, ctx_size=N_CTX).run(*requests)
    assert outcomes == {request.job_id: alone[request.job_id] for request in requests}


def test_a_prompt_read_from_the_cache_has_the_bits_of_one_computed(
    loaded: OpenModel, alone: dict[str, Outcome]
) -> None:
    watched = WatchedEngine(loaded, parallel=16, ctx_size=N_CTX)
    watched.run(*requests_for(loaded))
    watched.ends.clear()
    watched._events.clear()
    watched._hashes.clear()
    assert watched.run(*requests_for(loaded)) == alone
    for request in requests_for(loaded):
        n_prompt = len(request.token_ids)
        assert watched.ends[request.job_id].usage.cached_tokens in (0, (n_prompt - 1) // 32 * 32)


@pytest.mark.parametrize(
    ("n_blocks", "settings"),
    [
        (6, {"parallel": 2, "draft": "ngram"}),
        (7, {"parallel": 5, "prefix_cache": False}),
        (9, {"parallel": 16}),
    ],
)
def test_who_had_to_give_way_goes_on_with_the_same_bits(
    n_blocks: int, settings: dict[str, Any], loaded: OpenModel, alone: dict[str, Outcome]
) -> None:
    watched = WatchedEngine(loaded, n_blocks, ctx_size=N_CTX, **settings)
    assert watched.run(*requests_for(loaded)) == alone
    assert watched.engine.snapshot().n_preempted
    assert watched.engine.block_pool.n_free == n_blocks


@pytest.mark.parametrize("seed", range(2))
def test_requests_that_come_and_are_aborted_at_any_time_change_no_other(
    seed: int, loaded: OpenModel, alone: dict[str, Outcome]
) -> None:
    rng = random.Random(seed)
    watched = WatchedEngine(loaded, rng.choice([6, 10, 40]), parallel=rng.choice([2, 4, 8]), ctx_size=N_CTX)
    requests = requests_for(loaded)
    rng.shuffle(requests)
    aborted = {request.job_id for request in requests if rng.random() < 0.3}
    for request in requests:
        n_steps = itertools.count()
        watched.run(request, until=lambda: next(n_steps) >= rng.randrange(6))  # noqa: B023
        if aborted:
            watched.engine.abort(rng.choice(sorted(aborted)))
    outcomes = watched.run()
    assert {job_id: outcomes[job_id] for job_id in set(alone) - aborted} == {
        job_id: alone[job_id] for job_id in set(alone) - aborted
    }
    assert watched.engine.block_pool.n_free == watched.engine.block_pool.n_blocks
