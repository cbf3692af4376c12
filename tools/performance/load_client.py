"""A client that streams many completions at once and keeps the time of every event.

It reads sockets itself: on a machine with few cores a client library would take CPU time from the server that it
measures. Both servers speak OpenAI's `/v1/completions`.
"""

from __future__ import annotations

import asyncio
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


@contextlib.asynccontextmanager
async def _answer(
    port: int, method: str, path: str, body: bytes = b""
) -> AsyncIterator[asyncio.StreamReader]:
    """What follows the head of an answer, whose status is 200."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
    try:
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\nConnection: close\r\n"
        if body:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        writer.write(head.encode() + b"\r\n" + body)
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
    sent_s = time.perf_counter()
    lines: list[tuple[float, bytes]] = []
    rest = b""
    try:
        async with (
            asyncio.timeout(ANSWER_S),
            _answer(port, "POST", "/v1/completions", json.dumps(fields).encode()) as reader,
        ):
            while size := int(await reader.readline() or b"0", 16):
                *whole, rest = (rest + await reader.readexactly(size)).split(b"\n")
                await reader.readexactly(2)
                now_s = time.perf_counter()
                lines += [(now_s, line) for line in whole]
    except (TimeoutError, asyncio.IncompleteReadError) as error:
        raise LoadError(f"/v1/completions: no whole answer in {ANSWER_S:.0f} s ({error!r})") from None
    return _stream_of(sent_s, lines, time.perf_counter(), n_predict)


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
