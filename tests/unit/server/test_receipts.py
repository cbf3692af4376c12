"""Who writes receipts: made once, of what was loaded, and never of a file that is another by now."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from llorch.engine.service import EngineService
from llorch.formats.gguf.file import GGUFFile
from llorch.receipts.issue import Issuer, described_model
from llorch.server.errors import GenerationFailedError, NotReadyError
from llorch.server.receipts import ReceiptDesk
from llorch.settings import Settings
from tests.support.services import do, running


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copy(tiny_model, tmp_path / "model.gguf"))


@pytest.fixture
def service(model: Path) -> Iterator[EngineService]:
    service = running(model, weights="packed", threads=1)
    yield service
    do(service.stop(0))


def test_the_file_is_hashed_once_for_all_that_ask(
    service: EngineService, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed, n_calls = GGUFFile.hashed, 0

    def count(self: GGUFFile) -> tuple[int, str]:
        nonlocal n_calls
        n_calls += 1
        return hashed(self)

    monkeypatch.setattr(GGUFFile, "hashed", count)

    async def ask() -> set[Issuer]:
        desk = ReceiptDesk(service)
        first = await asyncio.gather(*(desk.issuer(None) for _ in range(5)))
        return {*first, await desk.issuer(None)}

    assert len(do(ask())) == 1
    assert n_calls == 1


def test_other_requests_are_answered_meanwhile_and_a_deadline_ends_the_wait(
    service: EngineService, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed, may_go_on = GGUFFile.hashed, threading.Event()

    def wait(self: GGUFFile) -> tuple[int, str]:
        assert may_go_on.wait(60)
        return hashed(self)

    monkeypatch.setattr(GGUFFile, "hashed", wait)

    async def ask() -> None:
        desk = ReceiptDesk(service)
        patient = asyncio.create_task(desk.issuer(None))
        with pytest.raises(GenerationFailedError) as late:
            await desk.issuer(0.01)  # the event loop is free, or it would wait for ever
        assert late.value.status == 504
        may_go_on.set()
        assert await patient is await desk.issuer(0.01)

    do(ask())


def test_a_file_that_was_written_to_since_gets_no_receipt(service: EngineService, model: Path) -> None:
    os.utime(model, ns=(0, 1))

    async def ask() -> GenerationFailedError:
        with pytest.raises(GenerationFailedError) as refused:
            await ReceiptDesk(service).issuer(None)
        return refused.value

    error = do(ask())
    assert (error.status, error.event.code) == (503, "receipt_unavailable")
    assert str(model.parent) not in error.event.message


def test_a_failure_to_hash_is_tried_again_by_the_next_that_asks(
    service: EngineService, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hashed, faults = GGUFFile.hashed, [MemoryError("no room")]

    def fail_once(self: GGUFFile) -> tuple[int, str]:
        if faults:
            raise faults.pop()
        return hashed(self)

    monkeypatch.setattr(GGUFFile, "hashed", fail_once)

    async def ask() -> Issuer:
        desk = ReceiptDesk(service)
        with pytest.raises(GenerationFailedError) as refused:
            await desk.issuer(None)
        assert refused.value.status == 503
        return await desk.issuer(None)

    assert isinstance(do(ask()), Issuer)
    assert "no receipt: no room" in caplog.text


def test_a_file_that_was_replaced_since_is_the_one_that_was_loaded(
    service: EngineService, tiny_model: Path, model: Path
) -> None:
    other = model.with_name("other")
    other.write_bytes(b"another model")
    other.rename(model)
    assert service.loaded is not None
    with GGUFFile(tiny_model) as opened:
        assert described_model(service.loaded.source) == described_model(opened)


def test_there_is_none_before_the_model_is_ready(tiny_model: Path) -> None:
    async def ask() -> None:
        with pytest.raises(NotReadyError):
            await ReceiptDesk(EngineService(Settings(model=str(tiny_model)))).issuer(None)

    do(ask())
