"""What a later request finds of an earlier one, and what it does not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llorch.engine.engine import Engine, open_configured
from llorch.engine.events import EndEvent, ErrorEvent, PromptEvent, TokenEvent
from llorch.engine.params import SamplingParams
from llorch.engine.request import Request
from llorch.engine.sampling import Sampler
from llorch.model.batch import Batch
from llorch.open_model import OpenModel
from llorch.settings import Settings
from tests.support.generations import end_of, run

PROMPT = tuple(3 + i * 7 % 300 for i in range(100))


@pytest.fixture(scope="module")
def loaded(long_model: Path) -> Iterator[OpenModel]:
    with open_configured(Settings(model=str(long_model), threads=1)) as loaded:
        yield loaded


def new_engine(loaded: OpenModel, **settings: Any) -> Engine:
    return Engine(loaded, Settings(**{"parallel": 2, "ctx_size": 256, **settings}))


def request(
    token_ids: tuple[int, ...] = PROMPT, max_tokens: int = 4, job_id: str = "a", **fields: Any
) -> Request:
    params = SamplingParams(temperature=1, seed=5)
    return Request(job_id, token_ids, params, max_tokens, **{"ignore_eos": True, **fields})


def generate(engine: Engine, request: Request) -> EndEvent:
    return end_of(run(engine, request)[request.job_id])


def fresh(loaded: OpenModel, request: Request) -> tuple[int, ...]:
    return generate(new_engine(loaded, prefix_cache=False), request).token_ids


def count_rows(engine: Engine, patch: pytest.MonkeyPatch) -> list[int]:
    """The rows of every step to come."""
    rows: list[int] = []
    forward = type(engine.loaded.llama).forward

    def counted(self: Any, batch: Batch, *args: Any, **others: Any) -> Any:
        rows.append(batch.n_rows)
        return forward(self, batch, *args, **others)

    patch.setattr(type(engine.loaded.llama), "forward", counted)
    return rows


def test_a_repeated_prompt_of_a_thousand_tokens_computes_less_than_a_tenth(
    loaded: OpenModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = new_engine(loaded, ctx_size=2048)
    prompt = tuple(3 + i * i % 300 for i in range(1000))
    rows = count_rows(engine, monkeypatch)
    first = generate(engine, request(prompt, 1))
    assert sum(rows) == 1000
    rows.clear()
    again = generate(engine, request(prompt, 1))
    assert rows == [8]
    assert (first.usage.cached_tokens, again.usage.cached_tokens) == (0, 992)
    assert first.token_ids == again.token_ids


def test_a_conversation_finds_the_answers_too(loaded: OpenModel) -> None:
    engine = new_engine(loaded)
    answer = generate(engine, request(max_tokens=60)).token_ids
    turn = request((*PROMPT, *answer, 9, 9, 9))
    end = generate(engine, turn)
    assert end.usage.cached_tokens == 128  # of 159 computed: four full blocks
    assert end.token_ids == fresh(loaded, turn)


@pytest.mark.parametrize("n_prompt", [1, 31, 32, 33, 64, 65])
def test_the_last_token_of_a_prompt_never_counts_as_cached(n_prompt: int, loaded: OpenModel) -> None:
    engine = new_engine(loaded)
    prompt = request(PROMPT[:n_prompt])
    first, again = generate(engine, prompt), generate(engine, prompt)
    assert again.usage.cached_tokens == (n_prompt - 1) // 32 * 32 < n_prompt
    assert first.token_ids == again.token_ids


def test_what_an_aborted_request_has_computed_is_found(loaded: OpenModel) -> None:
    engine = new_engine(loaded)
    engine.add(request())
    engine.step()  # the first step reads 64 tokens
    assert engine.abort("a")
    end = generate(engine, request())
    assert end.usage.cached_tokens == 64
    assert end.token_ids == fresh(loaded, request())


def test_many_at_once_with_one_prompt_compute_it_once(
    loaded: OpenModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = new_engine(loaded, parallel=8)
    rows = count_rows(engine, monkeypatch)
    requests = [request(max_tokens=1, job_id=f"{i}") for i in range(8)]
    events = run(engine, *requests)
    assert sum(rows) == 100 + 7 * 4
    assert sorted(end_of(events[r.job_id]).usage.cached_tokens for r in requests) == [0] + [96] * 7


def test_owners_find_nothing_of_each_other(loaded: OpenModel) -> None:
    engine = new_engine(loaded)
    n_cached = [
        generate(engine, request(owner=owner)).usage.cached_tokens for owner in ("", "a", "b", "a", "b", "")
    ]
    assert n_cached == [0, 0, 0, 96, 96, 96]


def test_a_request_may_want_nothing_of_the_cache(loaded: OpenModel) -> None:
    engine = new_engine(loaded)
    n_cached = [generate(engine, request(cache_prompt=c)).usage.cached_tokens for c in (False, False, True)]
    assert n_cached == [0, 0, 96]


def test_without_a_cache_nothing_is_kept(loaded: OpenModel) -> None:
    engine = new_engine(loaded, prefix_cache=False)
    assert [generate(engine, request()).usage.cached_tokens for _ in range(2)] == [0, 0]
    assert engine.snapshot().n_kept_blocks == 0


def test_log_probabilities_of_a_prompt_are_all_computed(loaded: OpenModel) -> None:
    engine = new_engine(loaded)
    judged = request(n_prompt_logprobs=0, job_id="judged")
    before = run(engine, judged)["judged"]
    generate(engine, request())
    after = run(engine, judged)["judged"]
    assert end_of(after).usage.cached_tokens == 0
    assert [event for event in before if isinstance(event, PromptEvent)] == [
        event for event in after if isinstance(event, PromptEvent)
    ]


def test_log_probabilities_are_the_same_when_their_generation_gives_way(loaded: OpenModel) -> None:
    judged = request(n_prompt_logprobs=2)
    undisturbed = run(new_engine(loaded), judged)["a"]
    engine = new_engine(loaded)
    engine.add(judged)
    events = []
    for _ in range(3):
        events += engine.step()
        for sequence in list(engine._scheduler.running):
            engine._scheduler._give_way(sequence)
    while engine.has_work:
        events += engine.step()
    for kind in (PromptEvent, TokenEvent):
        assert [e.event for e in events if isinstance(e.event, kind)] == [
            event for event in undisturbed if isinstance(event, kind)
        ]


def test_a_generation_that_failed_leaves_nothing_behind(
    loaded: OpenModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = new_engine(loaded)
    with monkeypatch.context() as patch:
        patch.setattr(Sampler, "sample", lambda self, logits: 1 // 0)
        assert isinstance(run(engine, request())["a"][-1], ErrorEvent)
    assert engine.snapshot().n_kept_blocks == 0
    assert generate(engine, request()).usage.cached_tokens == 0


def test_under_pressure_the_ends_of_old_texts_go_first(loaded: OpenModel) -> None:
    engine = new_engine(loaded, parallel=1)  # eight blocks
    for first in (3, 50, 100):
        generate(engine, request(tuple(first + i % 150 for i in range(100)), 1))
    oldest = request(tuple(3 + i % 150 for i in range(100)), 4)
    end = generate(engine, oldest)
    assert end.usage.cached_tokens == 32  # the first of three blocks had to make no room yet
    assert end.token_ids == fresh(loaded, oldest)


def test_a_full_context_ends_with_length_and_its_prefix_is_found(loaded: OpenModel) -> None:
    engine = new_engine(loaded, parallel=1, ctx_size=128)
    full = request(max_tokens=1000)
    first, again = generate(engine, full), generate(engine, full)
    for end in (first, again):
        assert (end.finish_reason, end.usage.completion_tokens) == ("length", 28)
    assert first.token_ids == again.token_ids == fresh(loaded, request(max_tokens=28))
