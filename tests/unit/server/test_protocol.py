"""Connections that never finish their headers are closed; slow answers and idle connections are not."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from typing import Any

import pytest
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from llorch.server import protocol
from llorch.server.listen import bind
from llorch.server.protocol import HEADER_DEADLINE_S, BoundedProtocol
from tests.support import raw_http, virtual_time

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def slow_app(scope: Any, receive: Any, send: Any) -> None:
    await asyncio.sleep(2 * HEADER_DEADLINE_S)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


class Connection(asyncio.Transport):
    """A client that is connected to a `BoundedProtocol`, without a network."""

    def __init__(self, app: Any = slow_app) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.received = b""
        self.is_cut = False
        config = uvicorn.Config(app, lifespan="off", log_config=None, timeout_keep_alive=3600)
        config.load()
        self._protocol = BoundedProtocol(config, ServerState(), app_state={})
        self._protocol.connection_made(self)

    def send(self, data: bytes) -> None:
        self._protocol.data_received(data)

    def write(self, data: Any) -> None:
        self.received += data

    def stop_reading(self) -> None:
        self._protocol.pause_writing()

    def close(self) -> None:
        self.is_cut = True

    def abort(self) -> None:
        self.is_cut = True
        self._protocol.connection_lost(None)

    def is_closing(self) -> bool:
        return self.is_cut

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


@pytest.mark.parametrize("sent", [b"", REQUEST[:20]])
def test_unfinished_headers_are_cut_off_at_the_deadline(sent: bytes) -> None:
    async def scenario() -> None:
        client = Connection()
        if sent:
            client.send(sent)
        await asyncio.sleep(HEADER_DEADLINE_S - 0.1)
        assert not client.is_cut
        await asyncio.sleep(0.2)
        assert client.is_cut

    virtual_time.run(scenario())


def test_slow_answers_and_idle_connections_stay_and_a_second_request_has_a_deadline_too() -> None:
    async def scenario() -> None:
        client = Connection()
        for n in (1, 2):
            client.send(REQUEST)
            await asyncio.sleep(3 * HEADER_DEADLINE_S)  # two for the answer, one idle
            assert not client.is_cut
            assert client.received.count(b"HTTP/1.1 200") == client.received.count(b"\r\n\r\nok") == n
        client.send(REQUEST[:20])
        await asyncio.sleep(HEADER_DEADLINE_S - 0.1)
        assert not client.is_cut
        await asyncio.sleep(0.2)
        assert client.is_cut

    virtual_time.run(scenario())


def test_a_real_connection_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEADER_DEADLINE_S", 0.1)
    (listener,) = bind("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(slow_app, http=BoundedProtocol, lifespan="off", log_config=None))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        with socket.create_connection(listener.getsockname(), timeout=60) as client:
            with contextlib.suppress(
                ConnectionResetError, BrokenPipeError
            ):  # the deadline may be over before
                client.sendall(REQUEST[:20])
            with contextlib.suppress(ConnectionResetError):
                assert client.recv(1) == b""
    finally:
        server.should_exit = True
        thread.join(60)


def test_nothing_more_is_written_to_a_connection_that_has_failed() -> None:
    async def stream(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for piece in (b"a", b"b", b"c"):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            clients[0].is_cut = True  # the first piece failed; a later turn of the loop says so

    async def scenario() -> None:
        clients.append(Connection(stream))
        clients[0].send(REQUEST)
        await asyncio.sleep(1)

    clients: list[Connection] = []
    virtual_time.run(scenario())
    assert clients[0].received.endswith(b"\r\n\r\n1\r\na\r\n")


@pytest.mark.parametrize("other", [b"h2c", b"websocket"])
def test_a_client_that_offers_another_protocol_is_answered_in_this_one(
    other: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    async def scenario() -> None:
        client = Connection(answer)
        for _ in range(2):
            client.send(REQUEST[:-2] + b"Connection: Upgrade\r\nUpgrade: " + other + b"\r\n\r\n")
            await asyncio.sleep(1)
        assert client.received.count(b"HTTP/1.1 200") == client.received.count(b"\r\n\r\nok") == 2

    virtual_time.run(scenario())
    assert caplog.text == ""


@pytest.mark.parametrize("reads", [False, True])
def test_an_answer_that_is_given_up_because_its_client_does_not_read_is_no_error(
    reads: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def stream(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        if not reads:
            clients[0].stop_reading()

    async def scenario() -> None:
        clients.append(Connection(stream))
        clients[0].send(REQUEST)
        await asyncio.sleep(1)

    clients: list[Connection] = []
    virtual_time.run(scenario())
    assert clients[0].is_cut
    assert ("without completing response" in caplog.text) == reads  # else the application has a fault


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize(("status", "length"), [(200, None), (200, b"4"), (204, None), (304, None)])
def test_a_stream_has_the_bytes_that_h11_writes(
    method: str, version: str, status: int, length: bytes | None
) -> None:
    async def stream(scope: Any, receive: Any, send: Any) -> None:
        headers = [] if length is None else [(b"Content-Length", length)]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for piece in () if status != 200 else (b"a", b"", b"bcd"):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    answers = []
    for kind in (BoundedProtocol, H11Protocol):
        with raw_http.serving(stream, kind) as port:
            request = raw_http.request(method, "/", "Connection: close", version=version)
            head, _, body = raw_http.exchange(port, request).partition(b"\r\n\r\n")
            answers.append(([line for line in head.split(b"\r\n") if not line.startswith(b"date")], body))
    assert answers[0] == answers[1]
    assert (b"abcd" in answers[0][1].replace(b"\r\n3\r\n", b"")) == (method == "GET" and status == 200)
