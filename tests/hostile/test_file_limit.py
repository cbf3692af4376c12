"""More connections than files may be opened: they wait, the log says so in measure, work goes on, and all recovers."""

from __future__ import annotations

import contextlib
import re
import resource
import socket
import sys
import time
from pathlib import Path

import pytest

from llorch.server.listen import FILE_RESERVE
from tests.support.live_server import WAIT_S, LiveServer, events, wait_until
from tests.support.raw_http import connect, request

ENDLESS = {"prompt": "Hello", "max_tokens": 60000, "ignore_eos": True}
SPARE = 20
"""Connections that fit below the limit."""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="sets the limit of another process")


def open_files(server: LiveServer) -> int:
    return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))


def limit_files(server: LiveServer) -> None:

    limit = open_files(server) + SPARE + FILE_RESERVE
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (limit, limit))


def health(client: socket.socket) -> bytes:
    client.sendall(request("GET", "/health"))
    answer = b""
    while not answer.endswith(b'{"status":"ok"}'):
        piece = client.recv(65536)
        assert piece
        answer += piece
    return answer


@pytest.mark.slow
def test_at_the_limit_of_open_files_accepting_pauses_and_recovers(long_model: Path, tmp_path: Path) -> None:
    server = LiveServer(
        long_model, tmp_path / "log", "-np", "1", "--host", "localhost", "--send-timeout-s", "3600"
    ).wait_until_ready()
    try:
        loaded = len(server.log)
        with connect(server.port) as early, server.stream("/generate", json=ENDLESS) as response:
            stream = events(response.iter_lines())
            assert b"200" in health(early)
            limit_files(server)
            begin, began_s = len(server.log), time.monotonic()
            with contextlib.ExitStack() as crowd:
                for _ in range(SPARE + SPARE // 2):
                    crowd.enter_context(connect(server.port))
                late = crowd.enter_context(connect(server.port))
                late.sendall(request("GET", "/health"))
                for _ in range(2):  # the pause is renewed
                    server.wait_for_log("new connections wait", after=begin)
                    begin = len(server.log)
                # Work goes on, and files can be opened: the documents need modules that nobody has asked for.
                assert [next(stream)[0] for _ in range(3)][1:] == ["token", "token"]
                early.sendall(request("GET", "/docs"))
                assert b"200 OK" in early.recv(65536)
                late.settimeout(0.01)
                with pytest.raises(TimeoutError):
                    late.recv(1)
            assert server.get("/health").status_code == 200
            assert next(stream)[0] == "token"
            lasted_s = time.monotonic() - began_s
        warnings = re.findall(r"WARNING (.*)", server.log[loaded:])
        assert 2 <= len(warnings) <= lasted_s + 2
        assert all(
            re.fullmatch(r"new connections wait: Too many open files .* \d+ files; ulimit -n .*", line)
            for line in warnings
        )
        assert "Traceback" not in server.log
        assert "accept()" not in server.log
    finally:
        assert server.stop() == 0


@pytest.mark.slow
def test_connections_that_wait_at_the_limit_are_served_when_others_leave(
    long_model: Path, tmp_path: Path
) -> None:
    server = LiveServer(long_model, tmp_path / "log").wait_until_ready()
    try:
        limit_files(server)
        with contextlib.ExitStack() as waiting:
            with contextlib.ExitStack() as crowd:
                for _ in range(SPARE + SPARE // 2):
                    crowd.enter_context(connect(server.port))
                late = [waiting.enter_context(connect(server.port)) for _ in range(SPARE // 2)]
                server.wait_for_log("new connections wait")
            for client in late:
                assert b"200" in health(client)
        for _ in wait_until(WAIT_S):
            if open_files(server) < SPARE:
                break
        server.assert_alive()
    finally:
        assert server.stop() == 0
