"""A real `llorch serve` process on a free port, and a reader of its server-sent events."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Self

import httpx

READY_S = 200.0
"""The kernels may have to be compiled first."""
WAIT_S = 100.0
"""Only a failing test waits so long."""
NO_TLS = False
"""httpx would read all certificates of the world for each request, 40 ms of CPU time."""


class LiveServer:
    """`llorch serve` in a process of its own; its log is kept in a file."""

    wrapper: Sequence[str] = ()
    """A command that runs it."""
    stdin = subprocess.DEVNULL

    def __init__(self, model: Path | str, log_path: Path, *flags: str, **variables: str) -> None:
        self.log_path = log_path
        serve = [sys.executable, "-m", "llorch", "serve", "-m", str(model), "--port", "0"]
        command = [*self.wrapper, *serve, *flags]
        with log_path.open("wb") as log:
            self.process = subprocess.Popen(
                command, stdin=self.stdin, stdout=log, stderr=log, env={**os.environ, **variables}
            )
        self.url = self._wait_for_url()
        self.port = int(self.url.rpartition(":")[2])

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def _wait_for_url(self) -> str:
        for _ in wait_until(READY_S):
            if found := re.search(r"https?://[\d.]+:\d+", self.log):
                return found[0]
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended with {self.process.returncode}: {self.log}")
        raise TimeoutError(self.log)

    def wait_until_ready(self) -> Self:
        for _ in wait_until(READY_S):
            if self.get("/ready").status_code == 200:
                return self
        raise TimeoutError(self.log)

    def get(self, path: str, **options: Any) -> httpx.Response:
        return httpx.get(f"{self.url}{path}", timeout=WAIT_S, verify=NO_TLS, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:
        return httpx.post(f"{self.url}{path}", timeout=WAIT_S, verify=NO_TLS, **options)

    def stream(self, path: str, **options: Any) -> AbstractContextManager[httpx.Response]:
        return httpx.stream("POST", f"{self.url}{path}", timeout=WAIT_S, verify=NO_TLS, **options)

    def wait_for_log(self, pattern: str, *, after: int = 0) -> str:
        """Wait for a line of the log, among what comes after its first `after` characters."""
        for _ in wait_until(WAIT_S):
            if found := re.search(pattern, self.log[after:]):
                return found[0]
        raise TimeoutError(f"{pattern!r} is not in the log: {self.log[after:]}")

    def assert_alive(self) -> None:
        """Whatever a client did, the server goes on serving."""
        assert self.process.poll() is None, self.log
        assert self.get("/health").status_code == 200

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=WAIT_S)

    def stop(self) -> int:
        """End it the polite way; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(WAIT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self.process.wait()


def wait_until(timeout_s: float) -> Iterator[None]:
    """Turns of a waiting loop, until the time is over; the last comes behind it, as a process may not run meanwhile."""
    deadline, is_over = time.monotonic() + timeout_s, False
    while not is_over:
        is_over = time.monotonic() >= deadline
        yield
        time.sleep(0.02)


def events(lines: Iterator[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and data of each server-sent event, strictly: an event is `event:`, `data:` and an empty line."""
    block: list[str] = []
    for line in lines:
        if line.startswith(":"):
            continue
        if line:
            block.append(line)
            continue
        if block:
            name, data = block
            assert name.startswith("event: ")
            assert data.startswith("data: ")
            yield name.removeprefix("event: "), json.loads(data.removeprefix("data: "))
            block = []
    assert not block


def generate_events(url: str, **body: Any) -> list[tuple[str, dict[str, Any]]]:
    """All events of one streamed generation."""
    with httpx.stream("POST", f"{url}/generate", json=body, timeout=WAIT_S) as response:
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"].startswith("text/event-stream")
        return list(events(response.iter_lines()))
