"""Constraints on the choice of tokens, in the engine."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llorch.engine.constraint import Constraint
from llorch.engine.engine import open_configured
from llorch.engine.events import ErrorEvent, Event, StepEvent
from llorch.engine.params import SamplingParams
from llorch.engine.request import Request
from llorch.engine.session import Session
from llorch.errors import RequestError
from llorch.open_model import OpenModel
from llorch.settings import Settings
from tests.support.allowed_sets import Sets
from tests.support.drafts import new_engine
from tests.support.generations import check_end, check_protocol, end_of, run

EOS = 2
N_VOCAB = 320


@pytest.fixture(scope="module")
def loaded(tiny_model: Path) -> Iterator[OpenModel]:
    with open_configured(Settings(model=str(tiny_model), threads=1)) as loaded:
        yield loaded


def request(*sets: set[int] | None, job_id: str = "job", max_tokens: int = 20, **fields: Any) -> Request:
    fields.setdefault("constraint", lambda: Sets(sets, N_VOCAB))
    params = fields.pop("params", SamplingParams(temperature=2, top_k=0, seed=1))
    return Request(job_id, (1, 70, 71), params, max_tokens, **fields)


def test_every_generation_has_a_constraint_of_its_own(loaded: OpenModel) -> None:
    made: list[Sets] = []

    def constraint() -> Constraint:
        made.append(Sets([{90, 91}, {92}, {93, 94}, {EOS}], N_VOCAB))
        return made[-1]

    requests = [request(job_id=f"{i}", constraint=constraint) for i in range(4)]
    for draft in ("off", "ngram"):
        made.clear()
        events = run(new_engine(loaded, draft, parallel=3), *requests)
        for one, of_it in zip(requests, made, strict=True):
            end = check_end(events[one.job_id], one, 64, loaded.tokenizer)
            assert end.finish_reason == "stop"
            assert [*end.token_ids] == of_it.accepted
            assert (len(end.token_ids), end.token_ids[1]) == (3, 92)


def test_the_end_is_chosen_where_the_text_may_end(loaded: OpenModel) -> None:
    params = SamplingParams(temperature=0, logit_bias={EOS: 50.0})
    end = end_of(run(new_engine(loaded, "off"), request({90}, {91, EOS}, {92}, params=params))["job"])
    assert (end.finish_reason, end.token_ids) == ("stop", (90,))


def test_a_text_that_is_complete_at_the_limit_is_complete(loaded: OpenModel) -> None:
    events = run(new_engine(loaded, "off"), request({90}, {91}, {EOS}, max_tokens=2))["job"]
    assert (end_of(events).finish_reason, end_of(events).token_ids) == ("stop", (90, 91))
    events = run(new_engine(loaded, "off"), request({90}, {91}, {EOS}, max_tokens=1))["job"]
    assert (end_of(events).finish_reason, end_of(events).token_ids) == ("length", (90,))


def test_no_step_is_computed_for_an_end_that_is_due(loaded: OpenModel) -> None:
    engine = new_engine(loaded, "off")
    engine.add(request({90}, {91}, {EOS}))
    n_steps = 0
    while engine.has_work:
        engine.step()
        n_steps += 1
    assert n_steps == 2


def test_it_cannot_go_with_ignored_ends(loaded: OpenModel) -> None:
    with pytest.raises(RequestError, match="ignore_eos: expected false with a constraint"):
        new_engine(loaded, "off").check(request({90}, ignore_eos=True))


class Faulty(Sets):
    """Raises at the second token."""

    def accept(self, token_id: int) -> None:
        if len(self.accepted) == 1:
            raise ValueError("the grammar of a stranger")
        super().accept(token_id)


def check_only_the_bad_one_failed(events: dict[str, list[Event]], alone: tuple[int, ...]) -> None:
    check_protocol(events["good"])
    assert end_of(events["good"]).token_ids == alone
    error = events["bad"][-1]
    assert isinstance(error, ErrorEvent)
    assert (error.code, error.retriable) == ("constraint_error", False)
    assert "stranger" not in error.message


@pytest.mark.parametrize(
    ("constraint", "says"),
    [
        (lambda: Faulty([{90}] * 9, N_VOCAB), r"failed \(ValueError\)"),
        (lambda: Sets([{90}, set()], N_VOCAB), "leaves none"),
        (lambda: Sets([{90}, {91}, {EOS}], N_VOCAB), "leaves none"),
    ],
    ids=["raises", "dead end", "excluded by bias"],
)
def test_a_constraint_that_fails_ends_its_own_generation(
    loaded: OpenModel, constraint: Callable[[], Constraint], says: str, caplog: pytest.LogCaptureFixture
) -> None:
    params = SamplingParams(temperature=0, logit_bias={91: float("-inf")})
    free = Request("good", (1, 80, 81), SamplingParams(seed=5, temperature=1), 12, ignore_eos=True)
    alone = end_of(run(new_engine(loaded, "off"), free)["good"]).token_ids
    engine = new_engine(loaded, "off")
    with caplog.at_level(logging.WARNING):
        events = run(engine, request(job_id="bad", constraint=constraint, params=params), free)
    check_only_the_bad_one_failed(events, alone)
    error = events["bad"][-1]
    assert isinstance(error, ErrorEvent)
    assert re.search(says, error.message)
    assert engine.block_pool.n_free == engine.block_pool.n_blocks


def test_a_constraint_that_cannot_be_made_fails_its_own_request(loaded: OpenModel) -> None:
    def refuse() -> Constraint:
        raise RuntimeError("no grammar")

    found: list[StepEvent] = []

    def deliver(step_events: list[StepEvent]) -> list[str]:
        found.extend(step_events)
        return []

    session = Session(new_engine(loaded, "off"), deliver)
    free = Request("good", (1, 80, 81), SamplingParams(seed=5, temperature=1), 3, ignore_eos=True)
    session.add(request(job_id="bad", constraint=refuse))
    session.add(free)
    for _ in range(6):
        session.pump(wait=False)
    events: dict[str, list[Event]] = {"bad": [], "good": []}
    for step_event in found:
        events[step_event.job_id].append(step_event.event)
    assert len(end_of(events["good"]).token_ids) == 3
    (error,) = events["bad"]
    assert isinstance(error, ErrorEvent)
    assert (error.code, "RuntimeError" in error.message) == ("constraint_error", True)
