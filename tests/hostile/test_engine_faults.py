"""Faults planted in every part of a step: the generation at fault fails, the others go on bit for bit.

Nothing is mocked: the real part runs, and raises for one of the generations.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import llorch.engine.engine as engine_module
from llorch.engine.engine import Engine, open_configured
from llorch.engine.events import ErrorEvent, Event, TokenEvent
from llorch.engine.params import SamplingParams
from llorch.engine.request import Request
from llorch.engine.sampling import Sampler
from llorch.engine.session import CallerDriver, Session
from llorch.errors import KernelError, LlorchError, RequestError
from llorch.open_model import OpenModel
from llorch.settings import Settings
from tests.support.engine_faults import (
    BAD,
    JOBS,
    PLANTS,
    Plant,
    begin_fails,
    patch_to_fail,
    request,
    schedule_refuses,
)
from tests.support.generations import check_protocol, end_of, run


@pytest.fixture(scope="module")
def loaded(tiny_model: Path) -> Iterator[OpenModel]:
    with open_configured(Settings(model=str(tiny_model), threads=2, batch_size=16)) as loaded:
        yield loaded


def new_engine(loaded: OpenModel, **settings: Any) -> Engine:
    return Engine(loaded, Settings(**{"parallel": 3, "ctx_size": 64, **settings}))


@pytest.fixture(scope="module")
def alone(loaded: OpenModel) -> dict[str, tuple[int, ...]]:
    """The tokens of every generation when nothing goes wrong and nobody else is there."""
    return {job_id: end_of(run(new_engine(loaded), request(job_id))[job_id]).token_ids for job_id in JOBS}


every_plant = pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)


def check_outcome(events: dict[str, list[Event]], alone: dict[str, tuple[int, ...]]) -> None:
    """The bad one has ended with an error that tells nothing of the inside; the others as if it had not been there."""
    assert set(events) == set(JOBS)
    error = events[BAD][-1]
    assert isinstance(error, ErrorEvent)
    assert (error.code, error.retriable) == ("internal_error", False)
    assert "a fault of ours" not in error.message
    for job_id in set(JOBS) - {BAD}:
        check_protocol(events[job_id])
        assert end_of(events[job_id]).token_ids == alone[job_id]


def check_nothing_is_left(engine: Engine) -> None:
    assert engine.block_pool.n_free == engine.block_pool.n_blocks
    state = engine.snapshot()
    assert (state.n_running, state.n_waiting, engine.has_work) == (0, 0, False)
    assert sorted(engine._scheduler._free_slots) == [0, 1, 2]


@every_plant
def test_a_fault_fails_its_own_generation_only(
    plant: Plant, loaded: OpenModel, alone: dict[str, tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = new_engine(loaded)
    plant(engine, monkeypatch)
    check_outcome(run(engine, *map(request, JOBS)), alone)
    check_nothing_is_left(engine)
    monkeypatch.undo()
    assert end_of(run(engine, request(BAD))[BAD]).token_ids == alone[BAD]


@pytest.mark.parametrize("plant", [*PLANTS, begin_fails], ids=lambda plant: plant.__name__)
def test_threads_that_share_a_model_do_not_meet_the_fault_of_another(
    plant: Plant, loaded: OpenModel, alone: dict[str, tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits computes for all, so the fault of one is raised in the thread of another."""
    engine = new_engine(loaded)
    driver = CallerDriver(engine)
    generators = {job_id: driver.events(request(job_id)) for job_id in JOBS}
    plant(engine, monkeypatch)
    found: dict[str, tuple[int, ...] | BaseException] = {}

    def work(job_id: str) -> None:
        try:
            found[job_id] = end_of(list(generators[job_id])).token_ids
        except BaseException as error:
            found[job_id] = error

    threads = [threading.Thread(target=work, args=(job_id,)) for job_id in JOBS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    error = found.pop(BAD)
    assert type(error) is LlorchError
    assert "the log says why" in str(error)
    assert found == {job_id: ids for job_id, ids in alone.items() if job_id != BAD}
    check_nothing_is_left(engine)


def test_the_log_says_why_and_the_prompt_is_not_in_it(
    loaded: OpenModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    engine = new_engine(loaded)
    schedule_refuses(engine, monkeypatch)
    run(engine, request(BAD))
    record = next(record for record in caplog.records if record.levelno == logging.ERROR)
    assert record.getMessage() == "bad failed: RuntimeError"
    assert record.exc_info is not None
    assert "a fault of ours" in caplog.text


@pytest.mark.parametrize("name", ["admit", "schedule"])
def test_a_fault_that_passes_fails_nobody(
    name: str, loaded: OpenModel, alone: dict[str, tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = new_engine(loaded)
    numbers = iter(range(10**6))
    patch_to_fail(monkeypatch, engine._scheduler, name, lambda *args: next(numbers) == 0)
    events = run(engine, *map(request, JOBS))
    assert {job_id: end_of(events[job_id]).token_ids for job_id in JOBS} == alone


@pytest.mark.parametrize("name", ["admit", "schedule"])
def test_a_scheduler_that_always_fails_ends_what_it_has_and_takes_new_requests(
    name: str, loaded: OpenModel, alone: dict[str, tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = new_engine(loaded)
    patch_to_fail(monkeypatch, engine._scheduler, name, lambda *args: True)
    events = run(engine, *map(request, JOBS))
    assert all(isinstance(events[job_id][-1], ErrorEvent) for job_id in JOBS)
    check_nothing_is_left(engine)
    monkeypatch.undo()
    assert end_of(run(engine, request("a"))["a"]).token_ids == alone["a"]


def test_a_fault_of_two_together_ends_both_and_nobody_waits_for_ever(
    loaded: OpenModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = new_engine(loaded)
    scheduler = engine._scheduler
    patch_to_fail(monkeypatch, scheduler, "schedule", lambda n_rows: len(scheduler.running) == 3)
    events = run(engine, *map(request, JOBS))
    assert [isinstance(events[job_id][-1], ErrorEvent) for job_id in JOBS] == [True] * 3 + [False] * 2


def test_a_step_that_fails_as_a_whole_is_computed_one_by_one_with_the_same_bits(
    loaded: OpenModel, alone: dict[str, tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = new_engine(loaded)
    patch_to_fail(
        monkeypatch, engine_module, "batch_of", lambda chunks, tables: len(chunks) > 1, MemoryError()
    )
    events = run(engine, *map(request, JOBS))
    assert {job_id: end_of(events[job_id]).token_ids for job_id in JOBS} == alone


def test_a_model_that_cannot_compute_any_more_says_so(
    loaded: OpenModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = new_engine(loaded)
    patch_to_fail(
        monkeypatch, engine_module, "batch_of", lambda *args: True, KernelError("the team is closed")
    )
    engine.add(request("a"))
    with pytest.raises(KernelError):
        engine.step()


def test_events_without_a_mailbox_keep_nobody_from_theirs(
    loaded: OpenModel, alone: dict[str, tuple[int, ...]]
) -> None:
    engine = new_engine(loaded)
    driver = CallerDriver(engine)
    engine.add(request("b"))  # nobody reads its events
    events = list(driver.events(request("a")))
    assert end_of(events).token_ids == alone["a"]
    assert all(isinstance(event, TokenEvent) for event in events[1:-1])
    assert list(driver.events(request("c")))
    check_nothing_is_left(engine)


def test_every_token_forbidden_fails_that_request_alone(
    loaded: OpenModel, alone: dict[str, tuple[int, ...]]
) -> None:
    n_vocab, eog_ids = loaded.config.n_vocab, loaded.tokenizer.vocab.eog_ids
    everything = dict.fromkeys(range(n_vocab), -np.inf)
    but_the_end = {token_id: -np.inf for token_id in range(n_vocab) if token_id not in eog_ids}
    engine = new_engine(loaded)
    session = Session(engine, lambda events: ())
    for bias, ignores in ((everything, False), (everything, True), (but_the_end, True)):
        bad = Request(BAD, (1, 5), SamplingParams(logit_bias=bias), 5, ignore_eos=ignores)
        with pytest.raises(
            RequestError, match="logit_bias: expected a token that may be chosen; got every token"
        ):
            session.check(bad)
    possible = Request("end", (1, 5), SamplingParams(logit_bias=but_the_end), 5)
    events = run(engine, request("a"), possible)
    assert (end_of(events["end"]).finish_reason, end_of(events["end"]).token_ids) == ("stop", ())
    assert end_of(events["a"]).token_ids == alone["a"]


def test_ctrl_c_in_the_thread_that_computes_costs_the_others_nothing(
    loaded: OpenModel, alone: dict[str, tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = new_engine(loaded)
    numbers = iter(range(10**6))
    sample = Sampler.sample

    def sample_or_be_interrupted(self: Sampler, logits: Any) -> int:
        if next(numbers) == 10:
            raise KeyboardInterrupt
        return sample(self, logits)

    monkeypatch.setattr(Sampler, "sample", sample_or_be_interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(engine, *map(request, JOBS))
    events = run(engine)
    assert {job_id: end_of(events[job_id]).token_ids for job_id in JOBS} == alone
