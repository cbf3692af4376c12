"""The compute thread and its asyncio interface: nothing hangs, whatever happens on either side."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llorch.engine.events import EndEvent, Event, StartedEvent, TokenEvent
from llorch.engine.service import EngineService
from llorch.errors import ContextLengthError, QueueFullError, RequestError
from tests.support.live_server import WAIT_S, wait_until
from tests.support.real_models import greedy_text
from tests.support.services import ENDLESS, GREEDY, do, end_of, events_of, running, stream, until


@pytest.fixture(scope="module")
def model(real_model: Path) -> Path:
    return real_model


@pytest.fixture(scope="module")
def service(model: Path) -> Iterator[EngineService]:
    service = running(model, ctx_size=512)
    yield service
    asyncio.run(service.stop(0))


@pytest.fixture(scope="module")
def endless(long_model: Path) -> Iterator[EngineService]:
    """A service whose context holds the whole of `ENDLESS`."""
    service = running(long_model)
    yield service
    asyncio.run(service.stop(0))


def test_events_arrive_in_order(service: EngineService, model: Path) -> None:
    events = do(events_of(service, max_tokens=10, job_id="mine"))
    assert isinstance(events[0], StartedEvent)
    assert events[0].job_id == "mine"
    end = events[-1]
    assert isinstance(end, EndEvent)
    assert end.text.startswith(greedy_text(model)[:24])
    assert len(events) == 12
    assert service.n_open == 0


def test_a_snapshot_can_be_taken_while_a_request_is_computed(endless: EngineService) -> None:
    assert EngineService(endless.settings).snapshot() is None  # nothing is loaded

    async def watch() -> None:
        submission = await endless.submit(**ENDLESS, options={"owner": "me"})
        while not isinstance((await submission.mailbox.take())[-1][1], TokenEvent):
            pass
        snapshot = endless.snapshot()
        assert snapshot is not None
        (slot,) = snapshot.slots
        assert (slot.request, slot.request.owner) == (submission.request, "me")
        assert slot.n_generated > 0
        endless.release(submission)

    do(watch())


def test_requests_side_by_side_write_what_they_write_alone(service: EngineService) -> None:
    prompts = ["Once upon a time", "Lily", "The dog " * 30, "Tom"]

    async def alone() -> list[str]:
        return [(await end_of(service, prompt=prompt, max_tokens=30)).text for prompt in prompts]

    async def together() -> list[str]:
        ends = await asyncio.gather(*(end_of(service, prompt=prompt, max_tokens=30) for prompt in prompts))
        return [end.text for end in ends]

    assert do(alone()) == do(together())


def test_defaults_come_from_the_settings_and_token_ids_are_a_prompt_too(model: Path) -> None:
    service = running(model, n_predict=3, temperature=0)
    try:
        ids = do(end_of(service, params=None)).token_ids
        assert len(ids) == 3
        prompt_ids = service.loaded.tokenizer.encode("Once upon a time")  # type: ignore[union-attr]
        assert do(end_of(service, params=None, prompt=None, token_ids=prompt_ids)).token_ids == ids
    finally:
        asyncio.run(service.stop(0))


@pytest.mark.parametrize(
    ("fields", "faulty"),
    [
        ({"prompt": ""}, ["prompt"]),
        ({"prompt": None}, ["prompt"]),
        ({"token_ids": [1]}, ["prompt"]),
        ({"prompt": "x" * 32769}, ["prompt"]),
        ({"prompt": "\ud800"}, ["prompt"]),
        ({"prompt": None, "token_ids": [1 << 20]}, ["token_ids"]),
        ({"max_tokens": -1, "stop": ["x"] * 17}, ["max_tokens", "stop"]),
    ],
)
def test_a_wrong_request_is_refused_and_leaves_nothing_behind(
    service: EngineService, fields: dict[str, Any], faulty: list[str]
) -> None:
    with pytest.raises(RequestError) as caught:
        do(events_of(service, **fields))
    assert [error.field for error in caught.value.errors] == faulty
    assert service.n_open == 0


def test_an_over_long_prompt_is_refused_with_both_numbers(service: EngineService) -> None:
    with pytest.raises(ContextLengthError) as caught:
        do(events_of(service, prompt="dog " * 2000))
    assert caught.value.n_prompt_tokens > caught.value.n_ctx == 512
    assert service.n_open == 0


def test_an_active_job_id_is_taken_and_a_finished_one_is_free(endless: EngineService) -> None:
    async def work() -> None:
        service = endless
        first = await service.submit(**ENDLESS, job_id="same")
        with pytest.raises(RequestError) as caught:
            await service.submit(prompt="B", job_id="same")
        assert [error.field for error in caught.value.errors] == ["job_id"]
        service.release(first)
        await until(lambda: service.n_open == 0)
        assert (await end_of(service, job_id="same", max_tokens=2)).finish_reason == "length"

    do(work())


def test_cancel_ends_running_and_waiting_requests(endless: EngineService) -> None:
    async def work() -> None:
        service = endless
        names = ["a", "b", "c", "d"]  # two slots
        submissions = [await service.submit(**ENDLESS, job_id=name) for name in names]
        assert all(service.cancel(name) for name in reversed(names))
        assert not service.cancel("nobody")
        for submission in submissions:
            end = [event async for event in stream(submission)][-1]
            assert isinstance(end, EndEvent)
            assert end.finish_reason == "abort"
            assert end.usage.completion_tokens < 60000
        assert not service.cancel("a")

    do(work())


def test_a_request_that_is_released_ends(endless: EngineService) -> None:
    async def work() -> None:
        service = endless
        submission = await service.submit(**ENDLESS)
        async for event in stream(submission):
            if event.type == "token":
                break
        service.release(submission)
        await until(lambda: service.n_open == 0)
        service.release(submission)  # once more does no harm

    do(work())


def test_a_client_that_never_reads_is_released(endless: EngineService) -> None:
    async def work() -> None:
        service = endless
        submission = await service.submit(**ENDLESS)
        service.release(submission)
        await until(lambda: service.n_open == 0)
        last: Event | None = None
        while not isinstance(last, EndEvent):
            last = (await submission.mailbox.take())[-1][1]
        assert last.finish_reason == "abort"

    do(work())


def test_releasing_an_old_request_does_not_touch_its_namesake(service: EngineService) -> None:
    async def work() -> None:
        old = await service.submit(prompt="Once", params=GREEDY, max_tokens=1, job_id="name")
        await until(lambda: service.n_open == 0)
        new = await service.submit(prompt="Once", params=GREEDY, max_tokens=50, job_id="name")
        service.release(old)
        end = [event async for event in stream(new)][-1]
        assert isinstance(end, EndEvent)
        assert end.finish_reason == "length"

    do(work())


def test_the_waiting_line_is_bounded(endless: EngineService) -> None:
    async def work() -> None:
        service = endless
        places = service.settings.parallel + service.settings.max_waiting
        submissions = [await service.submit(**ENDLESS) for _ in range(places)]
        with pytest.raises(QueueFullError) as caught:
            await service.submit(prompt="Once")
        assert caught.value.retry_after_s >= 1
        submissions.append(await service.submit(**ENDLESS, options={"owner": "other"}))
        for submission in submissions:
            service.release(submission)
        await until(lambda: service.n_open == 0)
        await end_of(service, max_tokens=1)

    do(work())


def test_a_closed_event_loop_does_not_stop_the_engine(endless: EngineService) -> None:
    service = endless

    async def leave() -> None:
        await service.submit(**ENDLESS)

    do(leave())  # its loop is closed now
    do(until(lambda: service.n_open == 0))
    assert do(end_of(service, max_tokens=2)).finish_reason == "length"


def test_cancelling_a_task_while_it_tokenises_gives_its_place_back(service: EngineService) -> None:
    async def work() -> None:
        task = asyncio.create_task(service.submit(prompt="a " * 16000))
        await asyncio.sleep(0)
        assert service.n_open == 1
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, ContextLengthError):
            await task
        assert service.n_open == 0

    do(work())


def test_an_idle_engine_takes_no_cpu(service: EngineService) -> None:
    do(end_of(service, max_tokens=2))
    for _ in wait_until(WAIT_S):  # the thread team spins for some milliseconds before it parks
        begin = time.process_time()
        time.sleep(0.3)
        if time.process_time() - begin < 0.05:
            return
    pytest.fail("the idle engine goes on computing")
