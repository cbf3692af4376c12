"""Request lines and headers are bounded in sum, in one piece or in many, and the refusal is the same."""

from __future__ import annotations

import contextlib
import json
import socket

import pytest

from llorch.server.protocol import MAX_HEAD_BYTES, MAX_HEADERS
from tests.support.live_server import LiveServer
from tests.support.raw_http import body_of, connect, exchange, headers_of, read_to_end, request, status_of

LONG = "a" * (MAX_HEAD_BYTES + 1)


def many(n: int, name: str = "x") -> list[str]:
    return [f"{name}: a"] * n


HEADS = {
    "one long header": request("GET", "/health", f"x: {LONG}"),
    "a header of a megabyte": request("GET", "/health", f"x: {'a' * 1_000_000}"),
    "a long name": request("GET", "/health", f"{LONG}: x"),
    "a long path": request("GET", f"/{LONG}"),
    "a long query": request("GET", f"/health?{LONG}"),
    "headers just too many": request("GET", "/health", *many(MAX_HEADERS)),
    "headers by the thousand": request("GET", "/health", *many(100_000)),
    "folded lines": request("GET", "/health", "x: a", *[" " + "a" * 60] * 1000),
    "no end": request("GET", "/health", f"x: {'a' * 1_000_000}")[:-4],
    "HTTP/1.0": request("GET", "/health", f"x: {LONG}", version="1.0", host=""),
    "trailers": request(
        "POST", "/generate", "Content-Type: application/json", "Transfer-Encoding: chunked",
        body=b"2\r\n{}\r\n0\r\n" + b"x: a\r\n" * 20_000 + b"\r\n",
    ),
    "a chunk's extension": request(
        "POST", "/generate", "Content-Type: application/json", "Transfer-Encoding: chunked",
        body=b"2;" + LONG.encode() * 2 + b"\r\n{}\r\n0\r\n\r\n",
    ),
}  # fmt: skip


def send(client: socket.socket, data: bytes, piece: int) -> None:
    """Send `data` in pieces, as far as the server takes it."""
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with contextlib.suppress(ConnectionError):
        for start in range(0, len(data), piece):
            client.sendall(data[start : start + piece])


@pytest.mark.parametrize("piece", [1 << 30, 16_000, 1_000], ids=["at once", "in pieces", "in small pieces"])
@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_too_much_of_a_head_is_431_and_the_end(server: LiveServer, head: bytes, piece: int) -> None:
    with connect(server.port) as client:
        send(client, head, piece)
        answer = read_to_end(client)
    assert status_of(answer) == 431
    assert headers_of(answer)["connection"] == "close"
    (error,) = json.loads(body_of(answer))["errors"]
    assert (error["field"], str(MAX_HEAD_BYTES) in error["message"]) == ("headers", True)
    server.assert_alive()


@pytest.mark.parametrize("size", [1 << 30, 1_000])
def test_a_head_below_the_bounds_is_served(server: LiveServer, size: int) -> None:
    head = request("GET", "/health", "Connection: close", f"x: {'a' * (MAX_HEAD_BYTES - 200)}")
    for data in (head, request("GET", "/health", *many(MAX_HEADERS - 2), "Connection: close")):
        with connect(server.port) as client:
            send(client, data, size)
            assert status_of(read_to_end(client)) == 200


def test_a_head_behind_another_request_is_bounded_too(server: LiveServer) -> None:
    first = request("GET", "/health")
    answer = exchange(server.port, first + HEADS["one long header"])
    head, _, rest = answer.partition(b'{"status":"ok"}')
    assert (status_of(head), status_of(rest)) == (200, 431)


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00" * 20,
        b"GET / HTTP/1.1\r\n\r\n",
        request("GET", "/health", "Host: localhost"),
        request("POST", "/generate", "Content-Length: -1"),
        request("POST", "/generate", "Content-Type: application/json", "Transfer-Encoding: chunked", body=b"zz\r\n"),
    ],
    ids=["TLS", "no host", "two hosts", "negative length", "no chunk"],
)  # fmt: skip
def test_what_is_no_http_is_400_in_the_shape_of_all_errors(server: LiveServer, data: bytes) -> None:
    begin = len(server.log)
    answer = exchange(server.port, data)
    assert status_of(answer) == 400
    assert json.loads(body_of(answer))["errors"][0]["field"] == "request"
    server.assert_alive()
    assert "Traceback" not in server.log[begin:]
