"""Every answer has a request id, which stands in each line of the log about it; clients that go are one quiet line."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.live_server import WAIT_S, LiveServer, events, wait_until
from tests.support.raw_http import connect, exchange, generation, headers_of, request

ENDLESS: dict[str, Any] = {"prompt": "Hello", "max_tokens": 60000, "ignore_eos": True}
HEADER = "X-Request-Id"


@pytest.fixture(scope="module")
def live(long_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server with keys, whose log is JSON and has everything; a client may pause for a second."""
    folder = tmp_path_factory.mktemp("ids")
    (folder / "keys").write_text("alice: sesame\n")
    flags = (
        "--api-key-file",
        str(folder / "keys"),
        "--log-format",
        "json",
        "--log-level",
        "debug",
        "-to",
        "1",
    )
    server = LiveServer(long_model, folder / "log", *flags)
    yield server.wait_until_ready()
    assert server.stop() == 0


def headers(request_id: str) -> dict[str, str]:
    return {"Authorization": "Bearer sesame", HEADER: request_id}


def lines_of(server: LiveServer, request_id: str, logger: str = "") -> list[dict[str, Any]]:
    """The lines about a request, once there is one of `logger`, or the last one."""
    wanted = logger or "llorch.server.request_log"
    for _ in wait_until(WAIT_S):
        whole = server.log.rpartition("\n")[0].splitlines()
        lines = [line for line in map(json.loads, whole) if line.get("request_id") == request_id]
        if any(line["logger"] == wanted for line in lines):
            return lines
    raise TimeoutError(server.log[-2000:])


def test_the_id_of_a_client_comes_back_and_stands_in_every_line(live: LiveServer) -> None:
    body = {"prompt": "my secret world", "max_tokens": 3, "ignore_eos": True, "stream": False, "job_id": "j1"}
    answer = live.post("/generate", json=body, headers=headers("client-1"))
    assert answer.headers[HEADER] == "client-1"
    lines = lines_of(live, "client-1")
    assert {"llorch.engine.engine", "llorch.engine.generations", "llorch.server.streaming"} < {
        line["logger"] for line in lines
    }
    assert {line["job_id"] for line in lines} == {"j1"}
    *_, last = lines
    assert (last["level"], last["method"], last["route"], last["status"], last["owner"]) == (
        *("info", "POST", "/generate", 200, "alice"),
    )
    assert last["duration_s"] > 0
    assert "secret" not in live.log
    assert "sesame" not in live.log


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("PUT", "/generate", 405),
        ("POST", "/generate", 415),
        ("POST", "/v1/chat/completions", 415),
        ("POST", "/v1/responses", 415),
        ("POST", "/v1/messages", 415),
        ("POST", "/api/chat", 400),
        ("GET", "/props", 200),
        ("GET", "/metrics", 200),
    ],
)
def test_errors_of_every_api_have_one_too(live: LiveServer, method: str, path: str, status: int) -> None:
    request_id = f"{method}{path}"
    ask = live.get if method == "GET" else live.post
    if method == "PUT":
        raw = exchange(live.port, request("PUT", path, "Authorization: Bearer sesame", f"{HEADER}: {request_id}",
                                          "Connection: close"))  # fmt: skip
        assert (int(raw.split()[1]), headers_of(raw)[HEADER.lower()]) == (status, request_id)
    else:
        answer = ask(path, headers=headers(request_id))
        assert (answer.status_code, answer.headers[HEADER]) == (status, request_id)
    (line,) = lines_of(live, request_id)
    assert (line["status"], line["level"]) == (status, "debug" if path == "/metrics" else "info")


def test_a_refused_key_has_an_id_and_no_owner(live: LiveServer) -> None:
    answer = live.get("/props", headers={HEADER: "stranger"})
    assert (answer.status_code, answer.headers[HEADER]) == (401, "stranger")
    (line,) = lines_of(live, "stranger")
    assert "owner" not in line


@pytest.mark.parametrize(
    "data",
    [b"this is no HTTP\r\n\r\n", request("GET", "/health", f"x: {'a' * 40000}")],
    ids=["no HTTP", "too long"],
)
def test_what_is_refused_before_it_is_read_has_a_new_one(live: LiveServer, data: bytes) -> None:
    made = headers_of(exchange(live.port, data))[HEADER.lower()]
    (line,) = lines_of(live, made, "llorch.server.protocol")
    assert line["level"] == "info"


def test_ids_that_could_forge_a_line_are_replaced(live: LiveServer) -> None:
    for bad in ("a b", '","level":"error', "x" * 200):
        answer = live.get("/health", headers={HEADER: bad})
        assert answer.headers[HEADER] != bad
        assert bad not in live.log


def quiet_lines(server: LiveServer, request_id: str) -> list[dict[str, Any]]:
    """Lines about a request that people see, when all is over; nothing else may have been said meanwhile."""
    lines = lines_of(server, request_id)
    assert {line["level"] for line in lines} <= {"debug", "info"}
    return [line for line in lines if line["level"] == "info"]


def test_a_client_that_leaves_in_mid_stream_is_one_line(live: LiveServer) -> None:
    with live.stream("/generate", json=ENDLESS, headers=headers("leaves")) as answer:
        assert next(events(answer.iter_lines()))[0] == "started"
    (line,) = quiet_lines(live, "leaves")
    assert line["outcome"] == "client left"


def test_a_client_that_resets_its_connection_is_one_line(live: LiveServer) -> None:
    with connect(live.port) as client:
        body = generation(**ENDLESS).replace(
            b"\r\n\r\n", f"\r\nAuthorization: Bearer sesame\r\n{HEADER}: resets\r\n\r\n".encode(), 1
        )
        client.sendall(body)
        assert client.recv(4096)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    (line,) = quiet_lines(live, "resets")
    assert line["outcome"] == "client left"


def test_a_client_that_does_not_read_is_one_line(live: LiveServer) -> None:
    body = json.dumps(
        {"prompt": "Hello", "n_predict": 60000, "ignore_eos": True, "n_probs": 20, "stream": True}
    )
    head = (f"Content-Length: {len(body)}", "Content-Type: application/json", "Authorization: Bearer sesame")
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # so that little is under way
        client.connect(("127.0.0.1", live.port))
        client.sendall(request("POST", "/completion", *head, f"{HEADER}: sleeps", body=body.encode()))
        (line,) = quiet_lines(live, "sleeps")
    assert line["outcome"] == "client left"


def test_a_client_that_leaves_before_its_body_is_whole_is_one_line(live: LiveServer) -> None:
    with connect(live.port) as client:
        head = ("Content-Type: application/json", "Content-Length: 100", "Authorization: Bearer sesame")
        client.sendall(request("POST", "/generate", *head, f"{HEADER}: half", body=b"{"))
    (line,) = quiet_lines(live, "half")
    assert line["route"] == "/generate"
    assert "Traceback" not in live.log
