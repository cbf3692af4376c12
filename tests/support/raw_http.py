"""Requests as bytes on a bare socket, and what comes back until the connection ends."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvicorn

from llorch.server.listen import bind
from llorch.server.protocol import MAX_HEAD_BYTES, BoundedProtocol
from tests.support.live_server import WAIT_S

TCP_TABLE = Path("/proc/net/tcp")


def request(
    method: str, path: str, *headers: str, body: bytes = b"", version: str = "1.1", host: str = "localhost"
) -> bytes:
    """A request with exactly these headers, behind the Host header that HTTP/1.1 wants."""
    lines = [f"{method} {path} HTTP/{version}", *([f"Host: {host}"] if host else []), *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def generation(version: str = "1.1", **fields: Any) -> bytes:
    """A whole ``POST /generate``."""
    body = json.dumps(fields).encode()
    headers = ("Content-Type: application/json", f"Content-Length: {len(body)}")
    return request("POST", "/generate", *headers, body=body, version=version)


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=WAIT_S)


def read_to_end(client: socket.socket) -> bytes:
    """Everything until the server closes; a reset is an error."""
    return b"".join(iter(lambda: client.recv(65536), b""))


def exchange(port: int, data: bytes, *, is_half_closed: bool = False) -> bytes:
    """Send `data`, close the sending side if asked to, and read to the end."""
    with connect(port) as client:
        client.sendall(data)
        if is_half_closed:
            client.shutdown(socket.SHUT_WR)
        return read_to_end(client)


def status_of(answer: bytes) -> int:
    return int(answer.split(maxsplit=2)[1])


def body_of(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[2]


def headers_of(answer: bytes) -> dict[str, str]:
    """Headers by their names in lower case."""
    lines = answer.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]
    return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def is_held(client: socket.socket) -> bool:
    """Whether the process at the other end of a loopback connection still has its socket (Linux)."""
    ours, theirs = client.getsockname()[1], client.getpeername()[1]
    for line in TCP_TABLE.read_text().splitlines()[1:]:
        _, local, remote, _, _, _, _, _, _, inode, *_ = line.split()
        if (int(local[-4:], 16), int(remote[-4:], 16)) == (theirs, ours):
            return inode != "0"  # the kernel has sockets of its own, which are closing
    return False


@contextlib.contextmanager
def serving(app: Any, protocol: Any = BoundedProtocol) -> Iterator[int]:
    """The port of an application that is served with our listener and protocol, in a thread."""
    listeners = bind("127.0.0.1", 0)
    config = uvicorn.Config(
        app,
        http=protocol,
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        loop="asyncio",
        lifespan="off",
        log_config=None,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([*listeners],))
    thread.start()
    try:
        yield listeners[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(WAIT_S)
