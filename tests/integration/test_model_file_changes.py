"""A model file that changes while it is served: noticed in a second where it is mapped, harmless where it is packed."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from llorch.engine.events import ErrorEvent
from llorch.engine.service import EngineService
from llorch.errors import EngineStoppedError, InputError
from llorch.open_model import open_model
from llorch.settings import Settings
from tests.support.live_server import READY_S, LiveServer, events
from tests.support.services import ENDLESS, do, end_of, events_of, running, until


@pytest.fixture
def model(long_model: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copy(long_model, tmp_path / "model.gguf"))


def is_watched() -> bool:
    return any(thread.name == "llorch-file-watch" for thread in threading.enumerate())


def test_ready_turns_red_and_says_why_when_a_mapped_file_is_cut(model: Path, tmp_path: Path) -> None:
    server = LiveServer(model, tmp_path / "log", "--weights", "mapped").wait_until_ready()
    try:
        n_bytes = model.stat().st_size
        os.truncate(model, n_bytes // 2)  # nothing is computed, so nothing touches what is gone
        server.wait_for_log("ERROR the model file was changed")
        ready = server.get("/ready")
        assert (ready.status_code, ready.json()["stage"]) == (503, "model_changed")
        assert ready.json()["reason"] == (
            "the model file was changed while it was in use "
            f"(model.gguf had {n_bytes} bytes and now has {n_bytes // 2}); restart the server"
        )
        refused = server.post("/generate", json={"prompt": "a"})
        assert (refused.status_code, refused.json()["stage"]) == (503, "model_changed")
        assert ready.json()["reason"] in refused.json()["message"]
        server.assert_alive()
        assert server.log.count("was changed") == 1
    finally:
        assert server.stop() == 0


def test_running_generations_end_with_an_error_when_a_mapped_file_is_written_to(
    model: Path, tmp_path: Path
) -> None:
    server = LiveServer(model, tmp_path / "log", "--weights", "mapped").wait_until_ready()
    try:
        body = {"prompt": "Hello", "max_tokens": 60000, "ignore_eos": True}
        with server.stream("/generate", json=body) as response:
            stream = events(response.iter_lines())
            next(stream)
            os.utime(model, ns=(0, 1))
            name, last = list(stream)[-1]
        assert (name, last["code"], last["retriable"]) == ("error", "model_changed", True)
        assert "model.gguf was written to" in last["message"]
    finally:
        assert server.stop() == 0


def test_every_open_request_is_told_and_no_other_is_taken(model: Path) -> None:
    service = running(model, weights="mapped")
    modified_ns = model.stat().st_mtime_ns

    async def work() -> None:
        going = [asyncio.create_task(events_of(service, **ENDLESS)) for _ in range(4)]
        await until(lambda: service.n_open == 4)
        os.utime(model, ns=(0, 1))
        for task in going:
            last = (await task)[-1]
            assert isinstance(last, ErrorEvent)
            assert last.code == "model_changed"
        assert service.stage == "model_changed"
        with pytest.raises(EngineStoppedError, match="model_changed"):
            await service.submit(prompt="Once")
        await until(lambda: not is_watched())
        os.utime(model, ns=(0, modified_ns))
        await service.stop(5)
        assert service.stage == "model_changed", "what was computed in between may be wrong"
        assert service.failure is None

    do(work())


def test_a_packed_model_is_not_watched_and_does_not_care(model: Path) -> None:
    service = running(model, weights="packed")

    async def work() -> None:
        assert not is_watched()
        before = await end_of(service, max_tokens=20, ignore_eos=True)
        os.truncate(model, 0)
        after = await end_of(service, max_tokens=20, ignore_eos=True)
        assert after.token_ids == before.token_ids
        assert (service.stage, service.reason) == ("ready", None)
        await service.stop(5)

    do(work())


def test_the_watch_of_a_mapped_model_ends_with_its_service(model: Path) -> None:
    service = running(model, weights="mapped")
    assert is_watched()
    do(service.stop(5))
    assert not is_watched()
    assert service.stage == "stopped"


@pytest.mark.skipif(sys.platform != "linux", reason="the signal differs")
def test_whoever_computes_with_a_mapped_file_that_was_cut_ends_by_the_kernels_signal(model: Path) -> None:
    """What the docs, `inspect` and the watch of `serve` are for: no program can turn this into an error."""
    program = f"""
import os, resource, llorch
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
with llorch.load({str(model)!r}, weights="mapped", threads=1) as model:
    os.truncate({str(model)!r}, 4096)
    print("cut", flush=True)
    model.generate("Hello", max_tokens=4)
    print("generated")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=READY_S)
    assert (done.returncode, done.stdout) == (-signal.SIGBUS, "cut\n"), done.stderr


@pytest.mark.parametrize("weights", ["mapped", "packed"])
def test_a_file_that_changes_while_it_is_loaded_is_refused(model: Path, weights: str) -> None:
    def change(what: str, done: int, total: int) -> None:
        os.utime(model, ns=(0, 1))

    with pytest.raises(
        InputError, match=r"model\.gguf: changed while it was loaded \(model\.gguf was written"
    ):
        open_model(model, n_threads=1, weights=weights, progress=change)
    service = EngineService(Settings(model=str(model), weights=weights), change)  # type: ignore[arg-type]
    os.utime(model)
    service.start()
    with pytest.raises(InputError, match="changed while it was loaded"):
        service.wait_until_ready(READY_S)
    assert service.stage == "failed"
    do(service.stop(0))


def test_a_model_that_was_replaced_by_renaming_goes_on(model: Path, tmp_path: Path) -> None:
    service = running(model, weights="mapped")

    async def work() -> None:
        before = await end_of(service, max_tokens=20, ignore_eos=True)
        (tmp_path / "new.gguf").write_bytes(b"another model")
        os.replace(tmp_path / "new.gguf", model)
        assert service.loaded is not None
        assert service.loaded.source.changed() is None
        after = await end_of(service, max_tokens=20, ignore_eos=True)
        assert after.token_ids == before.token_ids
        await service.stop(5)
        assert service.stage == "stopped"

    do(work())
