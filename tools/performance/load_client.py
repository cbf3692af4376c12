"""A client that streams many completions at once and keeps the time of every event.

It reads sockets itself, and looks at what came when all of it is there: on a machine with few cores, a client takes CPU
time from the server that it measures. Both servers speak OpenAI's `/v1/completions`.
"""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import itertools
import json
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from tools.conformance.served import KEY

ANSWER_S = 300.0
"""An answer that takes longer is a fault."""


class LoadError(Exception):
    """A server refused a request, or did not send what was asked for."""


@dataclass(frozen=True)
class Stream:
    """One streamed completion; times are `time.perf_counter`'s.

    Attributes:
        sent_s: when the request was sent.
        event_s: when each event with text came.
        end_s: when the answer ended.
        n_tokens: generated tokens, as the server counts them.
        n_cached: tokens of the prompt that the server had cached.
    """

    sent_s: float
    event_s: tuple[float, ...]
    end_s: float
    n_tokens: int
    n_cached: int

    @property
    def first_s(self) -> float:
        """Seconds from the request to the first text."""
        return self.event_s[0] - self.sent_s

    def gaps_s(self, begin_s: float = 0.0, end_s: float = float("inf")) -> list[float]:
        """Seconds between events that came between two points of time."""
        inside = [at for at in self.event_s if begin_s <= at <= end_s]
        return [b - a for a, b in itertools.pairwise(inside)]


def _head(method: str, path: str, body: bytes) -> bytes:
    """The head of a request, behind whose answer the server closes."""
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\nConnection: close\r\n"
    )
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n"


@contextlib.asynccontextmanager
async def _answer(
    port: int, method: str, path: str, body: bytes = b""
) -> AsyncIterator[asyncio.StreamReader]:
    """What follows the head of an answer, whose status is 200."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
    try:
        writer.write(_head(method, path, body) + body)
        status = (await reader.readline()).decode("latin-1").strip()
        while (await reader.readline()).strip():
            pass
        if status.split()[1:2] != ["200"]:
            said = (await reader.read(500)).decode(errors="replace")
            raise LoadError(f"{path}: {status or 'no answer'}: {said}")
        yield reader
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def stream_completion(port: int, prompt: Sequence[int], n_predict: int) -> Stream:
    """Stream exactly `n_predict` tokens behind `prompt`, greedily."""
    fields = {
        "model": "served",
        "prompt": list(prompt),
        "max_tokens": n_predict,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    body = json.dumps(fields).encode()
    sent_s = time.perf_counter()
    try:
        async with asyncio.timeout(ANSWER_S):
            pieces = await _recorded(port, _head("POST", "/v1/completions", body) + body)
    except TimeoutError:
        raise LoadError(f"/v1/completions: no whole answer in {ANSWER_S:.0f} s") from None
    return _stream_of(sent_s, _lines(pieces), pieces[-1][0], n_predict)


class _Recorder(asyncio.BufferedProtocol):
    """Keeps what comes over a connection, and when; it is looked at when all is there."""

    def __init__(self) -> None:
        self.pieces: list[tuple[float, bytes]] = []
        self.is_over = asyncio.get_running_loop().create_future()
        self._buffer = memoryview(bytearray(1 << 16))

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Keep the bytes that came."""
        self.pieces.append((time.perf_counter(), bytes(self._buffer[:nbytes])))

    def connection_lost(self, exc: Exception | None) -> None:
        """The answer is over: the server closes the connection behind it."""
        if not self.is_over.done():
            self.is_over.set_result(None)


async def _recorded(port: int, request: bytes) -> list[tuple[float, bytes]]:
    """What a server answers, and when: one piece for each time that something had come."""
    loop = asyncio.get_running_loop()
    transport, recorder = await loop.create_connection(_Recorder, "127.0.0.1", port)
    try:
        transport.write(request)
        await recorder.is_over
    finally:
        transport.abort()
    return recorder.pieces


def _lines(pieces: Sequence[tuple[float, bytes]]) -> list[tuple[float, bytes]]:
    """The lines of the body of a recorded answer in chunks, and when each had come.

    Raises:
        LoadError: its status is not 200, or it ends before its last chunk.
    """
    whole = b"".join(data for _, data in pieces)
    ends = list(itertools.accumulate(len(data) for _, data in pieces))
    head, _, _ = whole.partition(b"\r\n\r\n")
    if head.split()[1:2] != [b"200"]:
        raise LoadError(f"/v1/completions: {whole[:500].decode(errors='replace') or 'no answer'}")
    lines: list[tuple[float, bytes]] = []
    rest, at = b"", len(head) + 4
    while (end := whole.find(b"\r\n", at)) > 0 and (size := int(whole[at:end], 16)):
        at = end + 2 + size + 2
        *complete, rest = (rest + whole[end + 2 : at - 2]).split(b"\n")
        came_s = pieces[min(bisect.bisect_left(ends, at - 2), len(pieces) - 1)][0]
        lines += [(came_s, line) for line in complete]
    if end < 0 or at > len(whole):
        raise LoadError("/v1/completions: the answer was cut off")
    return lines


def _stream_of(sent_s: float, lines: list[tuple[float, bytes]], end_s: float, n_predict: int) -> Stream:
    times: list[float] = []
    usage: dict[str, Any] = {}
    for at_s, line in lines:
        if line.startswith(b"data: {"):
            event = json.loads(line[6:])
            if "error" in event:
                raise LoadError(f"/v1/completions: {event['error']}")
            if event["choices"] and not event["choices"][0].get("finish_reason"):
                times.append(at_s)
            usage = event.get("usage") or usage
    n_tokens = usage.get("completion_tokens", 0)
    if not times or n_tokens != n_predict:
        raise LoadError(
            f"/v1/completions: expected {n_predict} tokens, got {n_tokens} in {len(times)} events"
        )
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
    return Stream(sent_s, tuple(times), end_s, n_tokens, cached)


def streams(port: int, prompts: Sequence[Sequence[int]], n_predict: int) -> list[Stream]:
    """All prompts at once."""

    async def all_of_them() -> list[Stream]:
        return list(await asyncio.gather(*(stream_completion(port, p, n_predict) for p in prompts)))

    return asyncio.run(all_of_them())


async def token_ids(port: int, text: str) -> list[int]:
    """The ids of a text, as the server has them."""
    async with _answer(port, "POST", "/tokenize", json.dumps({"content": text}).encode()) as reader:
        body = await reader.read()
    found = body[body.index(b"{") : body.rindex(b"}") + 1]  # there may be sizes of chunks around it
    ids: list[int] = json.loads(found)["tokens"]
    return ids


async def health_s(port: int) -> float:
    """Seconds that `GET /health` takes, connecting included."""
    begun_s = time.perf_counter()
    async with _answer(port, "GET", "/health") as reader:
        await reader.read()
    return time.perf_counter() - begun_s
