"""Requests as bytes on a socket, one a connection, and the whole answer."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from tools.conformance.served import KEY

ANSWER_S = 300.0
"""An answer that takes longer is a fault."""


class SoakError(Exception):
    """The server did what it must not do."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: status (0 if there was none), headers by their names in lower case, body."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body; None if it is no JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    def frames(self) -> list[Any]:
        """The JSON data of the body's server-sent events."""
        lines = (line for line in self.body.split(b"\n") if line.startswith(b"data: {"))
        return [json.loads(line[6:]) for line in lines]


def request(method: str, path: str, content: bytes = b"", *headers: str, key: str = KEY) -> bytes:
    """A request of HTTP/1.0, whose answer ends with the connection."""
    lines = [f"{method} {path} HTTP/1.0", "Host: localhost", f"Authorization: Bearer {key}", *headers]
    if content:
        lines += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
    return "\r\n".join([*lines, "", ""]).encode() + content


def post(path: str, fields: object) -> bytes:
    """A request with a JSON body."""
    return request("POST", path, json.dumps(fields).encode())


@contextlib.asynccontextmanager
async def connection(
    port: int, data: bytes
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection on which `data` has been sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
    try:
        writer.write(data)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def ask(port: int, data: bytes) -> Reply:
    """Send `data` and read to the end.

    Raises:
        SoakError: the answer takes too long.
    """
    try:
        async with asyncio.timeout(ANSWER_S), connection(port, data) as (reader, _):
            return await read_reply(reader)
    except TimeoutError:
        raise SoakError(f"no whole answer in {ANSWER_S:.0f} s to {data[:60]!r}") from None


async def read_reply(reader: asyncio.StreamReader) -> Reply:
    """Everything until the server closes; a reset ends an answer, too."""
    data = b""
    with contextlib.suppress(ConnectionError):
        while piece := await reader.read(1 << 16):
            data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split()
    pairs = (line.partition(":") for line in lines)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    return Reply(int(words[1]) if len(words) > 1 and words[1].isdigit() else 0, headers, body)
