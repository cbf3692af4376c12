"""Traces of a live server whose clients send nonsense or leave, and that is stopped meanwhile."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.live_server import WAIT_S, LiveServer, events, wait_until
from tests.support.raw_http import request

ADMIN = {"X-Api-Key": "tahini"}


def begun(model: Path, log: Path, **variables: str) -> LiveServer:
    return LiveServer(model, log, "-np", "2", LLORCH_ADMIN_KEY="tahini", **variables).wait_until_ready()


@pytest.fixture(scope="module")
def live(long_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    server = begun(long_model, tmp_path_factory.mktemp("abused") / "log")
    yield server
    assert server.stop() == 0


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"max_seconds": 0}, ["max_seconds"]),
        ({"max_seconds": 601, "max_steps": 0, "operations": 1}, ["max_seconds", "max_steps", "operations"]),
        ({"max_seconds": "10", "steps": 5}, ["steps", "max_seconds"]),
        ({"max_steps": 1e300}, ["max_steps"]),
        ({"path": "/etc/passwd"}, ["path"]),
    ],
)
def test_bad_limits_are_all_named_and_nothing_begins(
    live: LiveServer, body: dict[str, Any], fields: list[str]
) -> None:
    answer = live.post("/trace/start", json=body, headers=ADMIN)
    assert answer.status_code == 400
    assert [error["field"] for error in answer.json()["errors"]] == fields
    assert live.post("/trace/stop", headers=ADMIN).status_code == 409


@pytest.mark.parametrize("path", ["/trace/start", "/trace/stop"])
@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"[]", "application/json", 400),
        (b"{", "application/json", 400),
        (b"\xff", "application/json", 400),
        (b"{}", "text/plain", 415),
        (b"[" * 100_000, "application/json", 400),
        (b" " * (1 << 21), "application/json", 413),
    ],
)
def test_bodies_that_are_no_objects_are_refused(
    live: LiveServer, path: str, content: bytes, kind: str, status: int
) -> None:
    answer = live.post(path, content=content, headers={**ADMIN, "Content-Type": kind})
    assert answer.status_code == status
    assert live.get(path, headers=ADMIN).status_code == 405


def test_a_trace_id_that_is_none_ends_nothing(live: LiveServer) -> None:
    assert live.post("/trace/start", headers=ADMIN).status_code == 200
    for trace_id, status in ((7, 400), ("", 400), ("x" * 65, 400), ("x", 409)):
        assert live.post("/trace/stop", json={"trace_id": trace_id}, headers=ADMIN).status_code == status
    assert live.post("/trace/stop", headers=ADMIN).status_code == 200


def test_a_client_that_leaves_in_the_middle_of_its_file_leaves_no_process_behind(live: LiveServer) -> None:
    live.post("/trace/start", json={"max_seconds": 600}, headers=ADMIN)
    body = {"prompt": "a", "max_tokens": 2000, "ignore_eos": True, "stream": False}
    assert live.post("/generate", json=body).status_code == 200
    client = socket.socket()
    client.settimeout(WAIT_S)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # the file is far more than buffers hold
    client.connect(("127.0.0.1", live.port))
    client.sendall(request("POST", "/trace/stop", "X-Api-Key: tahini", "Content-Length: 0"))
    assert client.recv(100).startswith(b"HTTP/1.1 200")
    assert children(live)
    client.close()
    for _ in wait_until(WAIT_S):
        if not children(live):
            break
    assert not children(live)
    live.assert_alive()
    assert live.post("/trace/start", headers=ADMIN).status_code == 200
    assert live.post("/trace/stop", headers=ADMIN).status_code == 200


def children(live: LiveServer) -> list[str]:
    tasks = Path(f"/proc/{live.process.pid}/task").glob("*/children")
    return [pid for task in tasks for pid in task.read_text().split()]


def test_a_server_that_stops_while_it_is_traced_ends_as_ever_and_still_gives_the_file(
    long_model: Path, tmp_path: Path
) -> None:
    live = begun(long_model, tmp_path / "log", LLORCH_SHUTDOWN_GRACE_S="3600")
    assert live.post("/trace/start", headers=ADMIN).status_code == 200
    body = {"prompt": "a", "max_tokens": 60_000, "ignore_eos": True}
    with live.stream("/generate", json=body) as answer:
        stream = events(answer.iter_lines())
        next(stream)
        live.process.send_signal(signal.SIGTERM)
        live.wait_for_log("stopping: 1 requests")
        assert live.post("/trace/start", headers=ADMIN).status_code == 503
        found = live.post("/trace/stop", headers=ADMIN)
        assert found.status_code == 200
        assert found.json()["llorch"]["steps"]
    assert live.process.wait(WAIT_S) == 0
    assert "Traceback" not in live.log


def test_a_server_that_stops_with_a_trace_that_nobody_asked_for_ends_as_ever(
    long_model: Path, tmp_path: Path
) -> None:
    live = begun(long_model, tmp_path / "log")
    assert live.post("/trace/start", json={"max_seconds": 600}, headers=ADMIN).status_code == 200
    assert live.stop() == 0
    assert "Traceback" not in live.log
