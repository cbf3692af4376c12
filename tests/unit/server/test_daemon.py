"""Connections that never finish their headers are closed; slow answers and idle connections are not."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from llorch.server import daemon


async def slow_app(scope: Any, receive: Any, send: Any) -> None:
    await asyncio.sleep(0.6)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, int]]:
    monkeypatch.setattr(daemon, "HEADER_DEADLINE_S", 0.3)
    listener = daemon.bind("127.0.0.1", 0)
    server = uvicorn.Server(
        uvicorn.Config(slow_app, http=daemon.DeadlineProtocol, lifespan="off", log_config=None)
    )
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    yield listener.getsockname()
    server.should_exit = True
    thread.join(10)


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow:"])
def test_unfinished_headers_are_cut_off(address: tuple[str, int], sent: bytes) -> None:
    with socket.create_connection(address, timeout=5) as client:
        client.sendall(sent)
        began = time.monotonic()
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(1) == b""
        assert 0.2 < time.monotonic() - began < 3


def whole_answer(client: socket.socket) -> bytes:
    """One answer of `slow_app`; its head and its body may arrive apart."""
    received = b""
    while not received.endswith(b"\r\n\r\nok"):
        part = client.recv(4096)
        assert part, f"closed after {received!r}"
        received += part
    return received


def test_slow_answers_and_idle_connections_stay(address: tuple[str, int]) -> None:
    request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with socket.create_connection(address, timeout=5) as client:
        for _ in range(2):
            client.sendall(request)
            assert whole_answer(client).startswith(b"HTTP/1.1 200")
            time.sleep(0.5)
        client.sendall(request[:20])
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(4096) == b""
