"""How a service ends, before, during and after loading: every request is told, nothing hangs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from llorch.engine.events import EndEvent, ErrorEvent
from llorch.engine.service import EngineService
from llorch.errors import EngineStoppedError, InputError, ModelError
from llorch.settings import Settings
from tests.support.services import ENDLESS, GREEDY, do, end_of, events_of, running, stream, until


@pytest.fixture(scope="module")
def model(model_path: Callable[[str], Path]) -> Path:
    return model_path("stories260K-q8_0.gguf")


def test_stop_lets_the_running_finish_and_refuses_new_ones(model: Path) -> None:
    service = running(model)

    async def work() -> None:
        going = await service.submit(prompt="Once upon a time", params=GREEDY, max_tokens=300)
        stopping = asyncio.create_task(service.stop(60))
        await until(lambda: service.stage == "stopping")
        with pytest.raises(EngineStoppedError):
            await service.submit(prompt="Once")
        end = [event async for event in stream(going)][-1]
        assert isinstance(end, EndEvent)
        assert end.finish_reason == "length"
        await stopping
        assert service.stage == "stopped"
        await service.stop(0)  # once more does no harm

    do(work())
    with pytest.raises(EngineStoppedError):
        service.wait_until_ready(1)


def test_stop_aborts_what_is_left_after_the_grace_period(long_model: Path) -> None:
    service = running(long_model)

    async def work() -> None:
        going = [asyncio.create_task(end_of(service, **ENDLESS)) for _ in range(3)]
        await until(lambda: service.n_open == 3)
        await service.stop(0)
        assert {(await task).finish_reason for task in going} == {"abort"}

    do(work())


def test_stop_before_the_model_is_loaded_ends_the_loading(model: Path) -> None:
    reached, may_go_on = threading.Event(), threading.Event()

    def progress(*_: object) -> None:
        reached.set()
        may_go_on.wait(60)

    service = EngineService(Settings(model=str(model)), progress)
    service.start()
    reached.wait(60)
    with pytest.raises(EngineStoppedError, match=r"compiling|loading"):
        do(service.submit(prompt="Once"))

    async def work() -> None:
        stopping = asyncio.create_task(service.stop(0))
        await until(lambda: service.stage == "stopping")
        may_go_on.set()
        await stopping

    do(work())
    assert service.stage == "stopped"
    assert service.loaded is None
    with pytest.raises(EngineStoppedError):
        service.wait_until_ready(1)


def test_stop_without_start_is_fine() -> None:
    service = EngineService(Settings())
    do(service.stop(0))
    assert service.stage == "stopped"


def test_a_file_that_cannot_be_loaded_is_a_failure_with_its_reason(tmp_path: Path) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(b"GGUF" + bytes(20))
    for bad, error in ((path, ModelError), (tmp_path / "nothing.gguf", InputError)):
        service = EngineService(Settings(model=str(bad)))
        service.start()
        with pytest.raises(error):
            service.wait_until_ready(100)
        assert service.stage == "failed"
        assert isinstance(service.failure, error)
        with pytest.raises(EngineStoppedError):
            do(service.submit(prompt="Once"))
        do(service.stop(0))
        assert service.stage == "failed"


def test_when_the_compute_thread_dies_every_request_is_told(long_model: Path) -> None:
    service = running(long_model)

    async def work() -> None:
        going = [asyncio.create_task(events_of(service, **ENDLESS)) for _ in range(4)]
        await until(lambda: service.n_open == 4)
        assert service.loaded is not None
        service.loaded.llama.close()  # the next step fails for real
        for task in going:
            last = (await task)[-1]
            assert isinstance(last, ErrorEvent)
            assert (last.code, last.retriable) == ("engine_failed", True)
        assert service.stage == "failed"
        assert service.ledger.tally.ends["error"] == service.ledger.tally.errors["engine_failed"] == 4
        assert "thread team is closed" in str(service.failure)
        with pytest.raises(EngineStoppedError):
            await service.submit(prompt="Once")
        await service.stop(5)

    do(work())
