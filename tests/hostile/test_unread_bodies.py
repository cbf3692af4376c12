"""Answers that come before the body has been read: the client gets them, and then the connection ends."""

from __future__ import annotations

import contextlib
import socket
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from llorch.server import linger, protocol
from tests.support.live_server import WAIT_S, LiveServer, wait_until
from tests.support.raw_http import (
    TCP_TABLE,
    body_of,
    connect,
    exchange,
    headers_of,
    is_held,
    read_to_end,
    request,
    serving,
    status_of,
)

JSON = "Content-Type: application/json"
ENDLESS = "Content-Length: 100000000"
STATUSES = [400, 401, 403, 404, 405, 408, 413, 415, 431, 503, 200]

needs_tcp_table = pytest.mark.skipif(not TCP_TABLE.exists(), reason="looks into Linux' table of connections")


async def early_app(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the status in the path, and reads nothing."""
    status = int(scope["path"][1:])
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"early"})


@pytest.mark.parametrize(
    "framing", ["Content-Length: 3000000", "Transfer-Encoding: chunked", "Expect: 100-continue"]
)
@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_an_early_answer_arrives_whole_however_much_is_still_on_its_way(framing: str, version: str) -> None:
    body = b"a" * 2_000_000
    if "chunked" in framing:
        body = b"100000\r\n" + b"a" * 0x100000 + b"\r\n" + b"1\r\na\r\n"
    headers = [framing, "Content-Length: 3000000"] if "Expect" in framing else [framing]
    with serving(early_app) as port:
        for status in STATUSES:
            answer = exchange(port, request("POST", f"/{status}", *headers, body=body, version=version))
            assert (status_of(answer), body_of(answer)) == (status, b"early")
            assert headers_of(answer)["connection"] == "close"


def test_a_whole_body_that_nobody_reads_costs_no_connection() -> None:
    whole = request("POST", "/415", "Content-Length: 3", body=b"abc")
    with serving(early_app) as port, connect(port) as client:
        for _ in range(3):
            client.sendall(whole)
            answer = b""
            while not answer.endswith(b"early"):
                answer += client.recv(65536)
            assert "connection" not in headers_of(answer)


def send_until_cut_off(client: socket.socket, piece: bytes, most: int = 1 << 60) -> None:
    """Go on sending, up to `most` pieces; the server must not let that happen."""
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        for _, _ in zip(wait_until(WAIT_S), range(most), strict=False):
            client.sendall(piece)
        pytest.fail("the server still holds the connection")


def test_who_trickles_a_body_after_the_answer_is_cut_off_at_the_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(linger, "DRAIN_DEADLINE_S", 0.2)
    with serving(early_app) as port, contextlib.ExitStack() as stack:
        clients = {status: stack.enter_context(connect(port)) for status in STATUSES}
        for status, client in clients.items():
            client.sendall(request("POST", f"/{status}", ENDLESS))
        for status, client in clients.items():
            assert status_of(read_to_end(client)) == status  # and the server has closed its sending side
        for client in clients.values():
            send_until_cut_off(client, b"x")


def test_who_sends_too_much_after_the_answer_is_cut_off_before_the_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(linger, "DRAIN_DEADLINE_S", 1e6)
    with serving(early_app) as port, connect(port) as client:
        client.sendall(request("POST", "/413", "Content-Length: 999999999"))
        send_until_cut_off(client, b"x" * (1 << 20), most=40)


@needs_tcp_table
@pytest.mark.parametrize("sent", [b"", b"abc"])
def test_who_neither_sends_nor_closes_is_let_go(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linger, "DRAIN_DEADLINE_S", 0.2)
    with serving(early_app) as port, connect(port) as client:
        client.sendall(request("POST", "/404", ENDLESS, body=sent))
        assert status_of(read_to_end(client)) == 404
        assert not all(is_held(client) for _ in wait_until(WAIT_S))


@needs_tcp_table
def test_who_never_reads_an_answer_is_let_go_when_the_connection_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(linger, "FLUSH_DEADLINE_S", 0.2)

    async def large_app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a" * 50_000_000})

    with serving(large_app) as port, connect(port) as client:
        client.sendall(request("GET", "/", "Connection: close"))
        assert client.recv(4) == b"HTTP"
        assert not all(is_held(client) for _ in wait_until(WAIT_S))


@needs_tcp_table
def test_who_asks_on_and_never_reads_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "_AFTER_STREAM_S", 0.1)

    async def large_app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(50):
            await send({"type": "http.response.body", "body": b"a" * 1_000_000, "more_body": True})

    with (
        serving(large_app, partial(protocol.BoundedProtocol, send_timeout_s=0.1)) as port,
        connect(port) as client,
    ):
        client.sendall(request("GET", "/"))
        assert client.recv(4) == b"HTTP"
        assert not all(is_held(client) for _ in wait_until(WAIT_S))


@pytest.mark.parametrize(
    ("method", "path", "headers", "host", "status"),
    [
        ("POST", "/generate", [JSON], "evil.example", 403),
        ("POST", "/nothing", [JSON], "localhost", 404),
        ("PUT", "/generate", [JSON], "localhost", 405),
        ("POST", "/generate", [JSON], "localhost", 413),
        ("POST", "/generate", ["Content-Type: text/plain"], "localhost", 415),
        ("GET", "/health", [], "localhost", 200),
        ("GET", "/ready/", [], "localhost", 200),
    ],
)
def test_the_server_answers_early_and_lets_go(
    server: LiveServer, method: str, path: str, headers: list[str], host: str, status: int
) -> None:
    data = request(method, path, *headers, ENDLESS, body=b"{" * 2_000_000, host=host)
    for _ in range(5):
        answer = exchange(server.port, data)
        assert status_of(answer) == status
        assert len(body_of(answer)) == int(headers_of(answer)["content-length"]) > 0
    server.assert_alive()


def test_a_client_without_the_key_cannot_hold_a_socket(long_model: Path, tmp_path: Path) -> None:
    server = LiveServer(long_model, tmp_path / "log", LLORCH_API_KEY="sesame")
    try:
        began_s = time.monotonic()
        with connect(server.port) as client:
            client.sendall(request("POST", "/generate", JSON, ENDLESS))
            assert status_of(read_to_end(client)) == 401
            send_until_cut_off(client, b"x")
        assert time.monotonic() - began_s >= linger.DRAIN_DEADLINE_S
        assert "Traceback" not in server.log
    finally:
        assert server.stop() == 0
