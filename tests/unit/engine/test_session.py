"""Requests in, events out: routing, aborting and failures, for any number of callers of one engine."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llorch.engine.engine import Engine, open_configured
from llorch.engine.events import EndEvent, ErrorEvent, Event, StartedEvent, StepEvent, TokenEvent
from llorch.engine.params import SamplingParams
from llorch.engine.request import Request
from llorch.engine.session import CallerDriver, Session
from llorch.errors import (
    ContextLengthError,
    EngineStoppedError,
    LlorchError,
    NumericalError,
    RequestError,
)
from llorch.open_model import OpenModel
from llorch.settings import Settings
from tests.support.generations import check_protocol, end_of, run

WAIT_S = 60.0
"""Only a failing test waits so long."""


@pytest.fixture(scope="module")
def loaded(tiny_model: Path) -> Iterator[OpenModel]:
    with open_configured(Settings(model=str(tiny_model), threads=1)) as loaded:
        yield loaded


@pytest.fixture
def engine(loaded: OpenModel) -> Engine:
    return Engine(loaded, Settings(parallel=2))


def request(job_id: str, max_tokens: int = 5, first_id: int = 5) -> Request:
    params = SamplingParams(temperature=0)
    return Request(job_id, (1, first_id, 7), params, max_tokens, ignore_eos=True)


class Outbox:
    """Collects what a session delivers."""

    def __init__(self) -> None:
        self.events: dict[str, list[Event]] = {}
        self.n_calls = 0
        self.unread: list[str] = []

    def deliver(self, events: list[StepEvent]) -> list[str]:
        self.n_calls += 1
        for step_event in events:
            self.events.setdefault(step_event.job_id, []).append(step_event.event)
        return self.unread


def pump_until_idle(session: Session, engine: Engine) -> None:
    assert session.pump(wait=False)
    while engine.has_work:
        assert session.pump(wait=False)


def test_requests_of_one_session_get_the_events_they_get_alone(engine: Engine, loaded: OpenModel) -> None:
    outbox = Outbox()
    session = Session(engine, outbox.deliver)
    requests = [request(f"{i}", 3 + i, first_id=5 + i) for i in range(4)]
    for r in requests:
        session.add(r)
    pump_until_idle(session, engine)
    assert set(outbox.events) == {"0", "1", "2", "3"}
    for r in requests:
        check_protocol(outbox.events[r.job_id])
        alone = end_of(run(Engine(loaded, Settings(parallel=1)), r)[r.job_id])
        assert end_of(outbox.events[r.job_id]).token_ids == alone.token_ids


def test_with_nothing_to_do_a_pump_returns_and_a_waiting_one_waits(engine: Engine) -> None:
    outbox = Outbox()
    session = Session(engine, outbox.deliver)
    assert session.pump(wait=False)
    assert outbox.events == {}
    before = outbox.n_calls
    thread = threading.Thread(target=session.pump, kwargs={"wait": True}, daemon=True)
    thread.start()
    assert outbox.n_calls == before  # blocked on the inbox
    session.add(request("a"))
    thread.join(WAIT_S)
    assert not thread.is_alive()
    assert isinstance(outbox.events["a"][0], StartedEvent)


def test_a_request_that_cannot_begin_ends_alone(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    outbox = Outbox()
    session = Session(engine, outbox.deliver)
    add = engine.add

    def add_or_fail(request: Request) -> int:
        if request.job_id == "bad":
            raise RuntimeError("a fault of ours")
        return add(request)

    monkeypatch.setattr(engine, "add", add_or_fail)
    for r in (request("good"), request("bad"), request("good"), Request("empty", (), SamplingParams(), 1)):
        session.add(r)
    pump_until_idle(session, engine)
    (bad,), (empty,) = outbox.events["bad"], outbox.events["empty"]
    assert isinstance(bad, ErrorEvent)
    assert isinstance(empty, ErrorEvent)
    assert (bad.code, bad.retriable) == ("internal_error", False)
    assert "a fault of ours" not in bad.message
    assert "a fault of ours" in caplog.text
    assert (empty.code, "prompt" in empty.message) == ("invalid_request", True)
    duplicate = next(event for event in outbox.events["good"] if isinstance(event, ErrorEvent))
    assert "job_id" in duplicate.message
    assert len([event for event in outbox.events["good"] if isinstance(event, TokenEvent)]) == 5


def test_an_abort_ends_its_request_within_a_step_and_not_a_later_namesake(engine: Engine) -> None:
    outbox = Outbox()
    session = Session(engine, outbox.deliver)
    old, new = request("name", 400), request("name", 400)
    session.add(old)
    session.pump(wait=False)
    session.abort(old)
    session.pump(wait=False)
    assert end_of(outbox.events.pop("name")).finish_reason == "abort"
    session.add(new)
    session.abort(old)
    session.pump(wait=False)
    assert engine.holds(new)
    session.abort(new)
    session.pump(wait=False)
    assert not engine.has_work
    session.abort(new)  # once more does no harm
    assert session.pump(wait=False)


def test_generations_that_no_caller_can_read_are_aborted(engine: Engine) -> None:
    outbox = Outbox()
    session = Session(engine, outbox.deliver)
    session.add(request("left", 400))
    session.add(request("stays"))
    outbox.unread = ["left"]
    session.pump(wait=False)
    outbox.unread = []
    pump_until_idle(session, engine)
    assert end_of(outbox.events["left"]).finish_reason == "abort"
    assert end_of(outbox.events["stays"]).finish_reason == "length"
    assert engine.block_pool.n_free == engine.block_pool.n_blocks


def test_stop_aborts_everything_and_says_so(engine: Engine) -> None:
    outbox = Outbox()
    session = Session(engine, outbox.deliver)
    for i in range(3):  # two slots
        session.add(request(f"{i}", 400))
    assert session.pump(wait=True)
    session.stop()
    assert not session.pump(wait=True)
    assert {end_of(events).finish_reason for events in outbox.events.values()} == {"abort"}
    assert len(outbox.events) == 3
    assert not engine.has_work


def test_callers_in_several_threads_compute_for_each_other(engine: Engine, loaded: OpenModel) -> None:
    driver = CallerDriver(engine)
    requests = [request(f"{i}", 20, first_id=5 + i) for i in range(6)]
    found: dict[str, list[Event]] = {}

    def work(r: Request) -> None:
        found[r.job_id] = list(driver.events(r))

    threads = [threading.Thread(target=work, args=(r,), daemon=True) for r in requests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    alone = Engine(loaded, Settings(parallel=1))
    for r in requests:
        check_protocol(found[r.job_id])
        assert end_of(found[r.job_id]).token_ids == end_of(run(alone, r)[r.job_id]).token_ids


def test_leaving_early_frees_the_slot_for_the_next_caller(engine: Engine) -> None:
    driver = CallerDriver(engine)
    for i in range(5):  # two slots
        events = driver.events(request(f"{i}", 400))
        next(events)
        events.close()
    assert isinstance(list(driver.events(request("last", 1)))[-1], EndEvent)
    assert engine.block_pool.n_free == engine.block_pool.n_blocks


def test_events_that_are_never_asked_for_cost_nothing(engine: Engine) -> None:
    driver = CallerDriver(engine)
    for _ in range(5):
        driver.events(request("unused", 400))
    assert len(list(driver.events(request("unused", 2)))) == 4
    assert not engine.has_work


def test_a_caller_that_is_destroyed_while_a_step_is_computed_blocks_nothing(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The garbage collector may close a generator anywhere, on the thread that computes too."""
    driver = CallerDriver(engine)
    left, stays = driver.events(request("left", 400)), driver.events(request("stays", 10))
    next(left)
    step: Callable[[], list[StepEvent]] = engine.step

    def step_and_close() -> list[StepEvent]:
        left.close()
        return step()

    monkeypatch.setattr(engine, "step", step_and_close)
    thread = threading.Thread(target=list, args=(stays,), daemon=True)
    thread.start()
    thread.join(WAIT_S)
    assert not thread.is_alive()
    assert not engine.has_work


def test_mistakes_are_named_at_the_call_and_failures_when_they_happen(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = CallerDriver(engine)
    with pytest.raises(ContextLengthError):
        driver.events(Request("long", (5,) * 600, SamplingParams(), 1))
    first = driver.events(request("same", 400))
    next(first)
    with pytest.raises(RequestError, match="job_id"):
        next(driver.events(request("same")))
    monkeypatch.setattr("llorch.engine.sampling.Sampler.sample", _nan)
    with pytest.raises(NumericalError, match="unusable"):
        list(first)

    def fail(request: Request) -> int:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(engine, "add", fail)
    with pytest.raises(LlorchError, match="could not begin"):
        list(driver.events(request("bad")))


def _nan(self: object, logits: object) -> int:
    raise NumericalError("the largest logit is nan")


def test_a_closed_driver_computes_no_more(engine: Engine) -> None:
    driver = CallerDriver(engine)
    events = driver.events(request("a", 400))
    next(events)
    driver.close()
    driver.close()
    with pytest.raises(EngineStoppedError, match="closed"):
        list(events)
    with pytest.raises(EngineStoppedError, match="closed"):
        list(driver.events(request("b")))


def test_work_between_two_steps_is_done_in_the_order_of_the_messages(engine: Engine) -> None:
    session = Session(engine, Outbox().deliver)
    seen: list[tuple[int, Engine, bool]] = []
    session.between_steps(lambda engine: seen.append((1, engine, engine.has_work)))
    session.add(request("a"))
    session.between_steps(lambda engine: seen.append((2, engine, engine.has_work)))
    assert seen == []
    session.pump(wait=False)
    assert seen == [(1, engine, False), (2, engine, True)]
