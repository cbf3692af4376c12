"""A client of `/generate` that costs little: it counts events in the bytes that arrive, and parses only the last one.

It speaks HTTP/1.0, whose answers have no chunks. On two cores, a client that parsed every event would take the time
from the servers that it measures.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass

from tools.conformance.served import KEY
from tools.performance.cluster.workload import Job
from tools.performance.load_client import ANSWER_S, LoadError

_TOKEN, _END = b"event: token\n", b"event: end\n"


@dataclass(frozen=True, slots=True)
class Answer:
    """A streamed answer; times are `time.perf_counter`'s.

    Attributes:
        token_s: when each token came.
        n_cached: tokens of the prompt that were found in the cache.
        n_bytes: of the whole answer, its head included.
    """

    token_s: tuple[float, ...]
    n_cached: int
    n_bytes: int


class _Reader(asyncio.Protocol):
    """Counts the events of one answer."""

    def __init__(self, done: asyncio.Future[None]) -> None:
        self.times: list[float] = []
        self.rest = b""
        self.n_bytes = 0
        self._done = done
        self._is_ending = False

    def data_received(self, data: bytes) -> None:
        now_s = time.perf_counter()
        self.n_bytes += len(data)
        text = self.rest + data
        n_tokens = text.count(_TOKEN)
        self.times += [now_s] * n_tokens
        self._is_ending = self._is_ending or _END in text
        if self._is_ending:
            self.rest = text.replace(_TOKEN, b"")
        else:
            self.rest = text[-len(_TOKEN) + 1 :]  # a name may come in two pieces

    def connection_lost(self, error: Exception | None) -> None:
        if not self._done.done():
            self._done.set_result(None)


async def ask(port: int, job: Job) -> Answer:
    """Stream the answer to `job`, greedily and to its full length.

    Raises:
        LoadError: the server refused it, or sent something else.
    """
    fields = {
        "token_ids": job.token_ids,
        "max_tokens": len(job.answer_ids),
        "temperature": 0,
        "ignore_eos": True,
    }
    body = json.dumps(fields).encode()
    head = (
        f"POST /generate HTTP/1.0\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    transport, reader = await loop.create_connection(lambda: _Reader(done), "127.0.0.1", port)
    try:
        transport.write(head.encode() + body)
        async with asyncio.timeout(ANSWER_S):
            await done
    finally:
        transport.close()
    _, _, last = reader.rest.partition(_END)
    if not last:
        raise LoadError(f"/generate: no whole answer, but {reader.rest[-300:]!r}")
    usage = json.loads(last.partition(b"data: ")[2].partition(b"\n")[0])["usage"]
    if usage["completion_tokens"] != len(job.answer_ids):
        raise LoadError(f"/generate: expected {len(job.answer_ids)} tokens, got {usage['completion_tokens']}")
    return Answer(tuple(reader.times), usage["cached_tokens"], reader.n_bytes)
