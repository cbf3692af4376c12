"""Clients that leave, stall, crowd, or send what nobody could have meant. None of it is a 5xx, but for a full queue."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from typing import Any

from tools.performance.soaking.good_clients import SHARED, Client, text
from tools.performance.soaking.wire import Reply, SoakError, ask, connection, post, read_reply, request

LONG: dict[str, Any] = {"prompt": SHARED, "max_tokens": 400, "ignore_eos": True}
"""A request whose answer takes a while."""
CROWD = 24
"""Requests at once: more than may wait."""
PATHS = (
    "/generate",
    "/v1/completions",
    "/v1/chat/completions",
    "/completion",
    "/v1/messages",
    "/v1/responses",
    "/v1/embeddings",
    "/tokenize",
)
STRANGE: tuple[Any, ...] = (
    None, True, -1, 2**70, 1e308, "", "\x00", "x" * 5000, [], [[]], {}, {"a": []}, [None], "\ud800", float("nan"),
)  # fmt: skip
FIELDS = (
    "prompt",
    "messages",
    "input",
    "max_tokens",
    "temperature",
    "stop",
    "stream",
    "seed",
    "top_k",
    "logit_bias",
    "n",
)


async def hang_up(port: int, chance: random.Random) -> str:
    """Leave in the middle of a stream, or before it begins."""
    async with connection(port, post("/generate", LONG)) as (reader, _):
        if chance.random() < 0.7:
            await reader.read(chance.choice((1, 500, 4000)))
        await asyncio.sleep(chance.random() / 5)
    return "left"


async def cancel(port: int, chance: random.Random) -> str:
    """End a generation by its name; its stream ends with `abort`, unless it was through."""
    name = f"soak-{chance.randrange(10**9)}"
    async with connection(port, post("/generate", {**LONG, "job_id": name})) as (reader, _):
        await asyncio.sleep(chance.random() / 2)
        reply = await ask(port, post("/cancel", {"job_id": name}))
        if reply.status not in (200, 404):
            raise SoakError(f"/cancel: {reply.status}: {reply.body[:200]!r}")
        answer = await read_reply(reader)
    if answer.status == 503:
        return "busy"
    last = (answer.frames() or [{}])[-1]
    if last.get("type") != "end" or last["finish_reason"] not in ("abort", "length"):
        raise SoakError(f"a cancelled stream ended otherwise: {answer.body[-300:]!r}")
    return "cancelled"


async def stalled_reader(port: int, chance: random.Random) -> str:
    """Ask for a long answer and read nothing for a while."""
    async with connection(port, post("/generate", LONG)) as (_, writer):
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(chance.choice((1, 7)))
    return "stalled"


async def half_closed(port: int, chance: random.Random) -> str:
    """Close the sending side behind a request: that client has left."""
    async with connection(port, post(chance.choice(PATHS), LONG)) as (reader, writer):
        writer.write_eof()
        reply = await read_reply(reader)
    _refuse_5xx(reply)
    return "half-closed"


async def garbage(port: int, chance: random.Random) -> str:
    """Bytes that are no HTTP, or only begin as it does."""
    noise = chance.randbytes(chance.choice((1, 300, 70_000)))
    begin = chance.choice(
        (b"", b"GET / HTTP/1.1\r\n", b"POST /generate HTTP/1.1\r\nContent-Length: 9999\r\n\r\n")
    )
    async with connection(port, begin + noise) as (reader, writer):
        with contextlib.suppress(OSError):
            writer.write_eof()
        reply = await read_reply(reader)
    _refuse_5xx(reply)
    return "garbage"


async def unfinished_head(port: int, chance: random.Random) -> str:
    """Begin a request and leave."""
    data = post("/generate", LONG)
    async with connection(port, data[: chance.randrange(1, len(data) - 1)]):
        await asyncio.sleep(chance.random())
    return "unfinished"


async def wrong_types(port: int, chance: random.Random) -> str:
    """Fields with values that nobody could mean; what can be meant is answered."""
    fields = {"prompt": "Hello", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2}
    fields["input"] = "Hello"
    fields |= {chance.choice(FIELDS): chance.choice(STRANGE) for _ in range(chance.randrange(1, 4))}
    body: Any = chance.choice((fields, fields, fields, chance.choice(STRANGE)))
    reply = await ask(port, request("POST", chance.choice(PATHS), json.dumps(body).encode()))
    _refuse_5xx(reply)
    if not reply.status:
        raise SoakError("a wrong request got no answer")
    return f"{reply.status}"


async def too_much(port: int, chance: random.Random) -> str:
    """Prompts beyond the context, bodies beyond the limit."""
    n = chance.choice((3_000, 30_000, 2_000_000))
    reply = await ask(port, post(chance.choice(PATHS[:4]), {**LONG, "prompt": "word " * n}))
    _refuse_5xx(reply)
    if reply.status == 200:
        raise SoakError(f"a prompt of {n} words was taken")
    return f"{reply.status}"


async def crowd(port: int, chance: random.Random) -> str:
    """More requests at once than may wait: each is answered, or told when to come back."""
    fields = {"prompt": text(chance), "max_tokens": 4, "stream": False}
    replies = await asyncio.gather(*(ask(port, post("/generate", fields)) for _ in range(CROWD)))
    for reply in replies:
        _refuse_5xx(reply)
        if reply.status not in (200, 503):
            raise SoakError(f"one of a crowd got {reply.status}: {reply.body[:200]!r}")
    return "crowd"


async def stranger(port: int, chance: random.Random) -> str:
    """No key, or no such path."""
    path, status, key = chance.choice((("/slots", 401, "wrong"), ("/no-such-path", 404, "conformance")))
    reply = await ask(port, request("GET", path, key=key))
    if reply.status != status:
        raise SoakError(f"{path}: expected {status}, got {reply.status}")
    return f"{status}"


def _refuse_5xx(reply: Reply) -> None:
    if reply.status >= 500 and not (reply.status == 503 and reply.headers.get("retry-after", "").isdigit()):
        raise SoakError(f"{reply.status}: {reply.body[:300]!r}")


BAD: tuple[Client, ...] = (
    hang_up,
    cancel,
    stalled_reader,
    half_closed,
    garbage,
    unfinished_head,
    wrong_types,
    too_much,
    crowd,
    stranger,
)
