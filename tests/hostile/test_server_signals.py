"""SIGINT and SIGTERM for a server that is process 1 of a container: it ends, and its clients get what they are due."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.support.commands import as_process_1, child_of
from tests.support.live_server import WAIT_S, LiveServer

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Container(LiveServer):
    """A server that is process 1 of its container; signals come from outside."""

    wrapper: list[str]

    def __init__(self, model: Path, log_path: Path, *flags: str, **variables: str) -> None:
        self.wrapper = as_process_1()
        super().__init__(model, log_path, *flags, **variables)
        self.child = child_of(self.process)

    def signal(self, number: int) -> None:
        os.kill(self.child, number)


@pytest.fixture
def container(long_model: Path, tmp_path: Path) -> Callable[..., Container]:
    def make(**variables: str) -> Container:
        return Container(long_model, tmp_path / "log", "-np", "1", **variables)

    return make


@contextmanager
def busy(server: Container) -> Iterator[Iterator[str]]:
    """Lines of a stream that does not end by itself; the first has come."""
    body = {"prompt": "Hello", "max_tokens": 60000, "ignore_eos": True}
    with server.stream("/generate", json=body) as answer:
        lines = answer.iter_lines()
        next(lines)
        yield lines


def test_a_server_as_process_1_ends_while_it_compiles(
    container: Callable[..., Container], tmp_path: Path
) -> None:
    server = container(LLORCH_CACHE_DIR=str(tmp_path / "cache"))
    try:
        server.wait_for_log("compiling kernels")
        server.signal(signal.SIGTERM)
        assert server.process.wait(WAIT_S) == 0
        assert "Traceback" not in server.log
    finally:
        server.process.kill()


def test_a_server_as_process_1_ends_when_it_is_idle(container: Callable[..., Container]) -> None:
    server = container().wait_until_ready()
    try:
        server.signal(signal.SIGTERM)
        assert server.process.wait(WAIT_S) == 0
    finally:
        server.process.kill()


def test_a_busy_server_as_process_1_lets_its_clients_finish_for_the_grace_period(
    container: Callable[..., Container],
) -> None:
    server = container(LLORCH_SHUTDOWN_GRACE_S="0.5").wait_until_ready()
    try:
        with busy(server) as lines:
            server.signal(signal.SIGTERM)
            last = [line for line in lines if line.startswith("data: ")][-1]
        assert json.loads(last.removeprefix("data: "))["finish_reason"] == "abort"
        assert server.process.wait(WAIT_S) == 0
    finally:
        server.process.kill()


@pytest.mark.parametrize("second", SIGNALS)
def test_a_second_signal_ends_a_busy_server_as_process_1_at_once(
    container: Callable[..., Container], second: signal.Signals
) -> None:
    server = container(LLORCH_SHUTDOWN_GRACE_S="3600").wait_until_ready()
    try:
        with busy(server) as lines:
            server.signal(signal.SIGTERM)
            server.wait_for_log("stopping: 1 request")
            server.signal(second)
            with pytest.raises(httpx.HTTPError):
                list(lines)
        assert server.process.wait(WAIT_S) == 128 + second
    finally:
        server.process.kill()
