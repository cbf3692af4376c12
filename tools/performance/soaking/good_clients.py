"""Clients that ask for what there is, on every API, and check what they get."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from tools.performance.soaking.vectors import vectors_of
from tools.performance.soaking.wire import Reply, SoakError, ask, post, request

Client: TypeAlias = Callable[[int, random.Random], Awaitable[str]]
"""Takes a port and a source of chance; returns what happened, in a word; raises `SoakError`."""

WORDS = (
    "once",
    "upon",
    "a",
    "time",
    "there",
    "was",
    "little",
    "dog",
    "who",
    "ran",
    "in",
    "the",
    "park",
    "with",
    "Tom",
)
SHARED = "Once upon a time there was a little girl named Lily. She loved to play outside in the park. " * 3
"""A beginning that many prompts have."""


def text(chance: random.Random) -> str:
    """A prompt: short or long, with the shared beginning or without."""
    n_words = chance.choice((1, 5, 20, 60))
    words = " ".join(chance.choices(WORDS, k=n_words))
    return SHARED + words if chance.random() < 0.4 else words


def sampling(chance: random.Random) -> dict[str, Any]:
    """Settings of sampling that every API takes."""
    return {
        "temperature": chance.choice((0, 0.8, 1.5)),
        "seed": chance.randrange(1000),
        "max_tokens": chance.choice((1, 8, 40, 120)),
    }


def checked(reply: Reply) -> bool:
    """Whether the server took the request; a full queue is no fault if it says when to come back.

    Raises:
        SoakError: it answered something else.
    """
    if reply.status == 503 and reply.headers.get("retry-after", "").isdigit():
        return False
    if reply.status != 200:
        raise SoakError(f"expected 200 or 503 with Retry-After, got {reply.status}: {reply.body[:300]!r}")
    return True


async def generate_stream(port: int, chance: random.Random) -> str:
    """`/generate`, streamed: one last event, whose text is that of the tokens."""
    reply = await ask(port, post("/generate", {"prompt": text(chance), **sampling(chance)}))
    if not checked(reply):
        return "busy"
    events = reply.frames()
    last = events[-1] if events else {}
    if (
        last.get("type") != "end"
        or "".join(e["text"] for e in events if e["type"] == "token") != last["text"]
    ):
        raise SoakError(f"/generate: the stream does not fit its end: {reply.body[-300:]!r}")
    return "ok"


async def generate_whole(port: int, chance: random.Random) -> str:
    """`/generate` in one body."""
    fields = {"prompt": text(chance), "stream": False, **sampling(chance)}
    reply = await ask(port, post("/generate", fields))
    if not checked(reply):
        return "busy"
    usage = reply.json()["usage"]
    if not 0 <= usage["cached_tokens"] < usage["prompt_tokens"]:
        raise SoakError(f"/generate: counts that cannot be: {usage}")
    return "ok"


async def openai_completion(port: int, chance: random.Random) -> str:
    """`/v1/completions`, whole or streamed, with log probabilities."""
    is_stream = chance.random() < 0.5
    fields = {
        "model": "served",
        "prompt": text(chance),
        "logprobs": 2,
        "stream": is_stream,
        **sampling(chance),
    }
    reply = await ask(port, post("/v1/completions", fields))
    if not checked(reply):
        return "busy"
    bodies = reply.frames() if is_stream else [reply.json()]
    logprobs = [
        value
        for body in bodies
        for choice in body.get("choices", ())
        for value in (choice.get("logprobs") or {}).get("token_logprobs", ())
    ]
    if not logprobs or not all(math.isfinite(value) and value <= 0 for value in logprobs):
        raise SoakError(f"/v1/completions: logarithms of probabilities that cannot be: {logprobs[:5]}")
    return _ended(reply, is_stream)


async def openai_chat(port: int, chance: random.Random) -> str:
    """`/v1/chat/completions`, whole or streamed."""
    is_stream = chance.random() < 0.5
    messages = [{"role": "user", "content": text(chance)}]
    reply = await ask(
        port,
        post(
            "/v1/chat/completions",
            {"model": "served", "messages": messages, "stream": is_stream, **sampling(chance)},
        ),
    )
    return _ended(reply, is_stream) if checked(reply) else "busy"


async def openai_response(port: int, chance: random.Random) -> str:
    """`/v1/responses`, whole or streamed."""
    is_stream = chance.random() < 0.5
    fields = {"input": text(chance), "max_output_tokens": chance.choice((1, 30)), "stream": is_stream}
    reply = await ask(port, post("/v1/responses", fields))
    if not checked(reply):
        return "busy"
    last = reply.frames()[-1]["response"] if is_stream else reply.json()
    if last["status"] not in ("completed", "incomplete"):
        raise SoakError(f"/v1/responses: no end: {reply.body[-300:]!r}")
    return "ok"


async def openai_embeddings(port: int, chance: random.Random) -> str:
    """`/v1/embeddings`: one to twelve texts, or their ids, as floats or as bytes."""
    texts: list[Any] = [text(chance) for _ in range(chance.choice((1, 3, 12)))]
    if chance.random() < 0.3:
        texts = [[chance.randrange(1, 200) for _ in range(chance.choice((1, 40)))] for _ in texts]
    fields = {"input": texts if len(texts) > 1 else texts[0], "pooling": chance.choice(("mean", "last"))}
    encoding = chance.choice(("float", "base64"))
    reply = await ask(port, post("/v1/embeddings", {**fields, "encoding_format": encoding}))
    if not checked(reply):
        return "busy"
    vectors_of([one["embedding"] for one in reply.json()["data"]], len(texts))
    return "ok"


async def llama_server_embeddings(port: int, chance: random.Random) -> str:
    """`/embedding`: llama-server's list of vectors."""
    texts = [text(chance) for _ in range(chance.choice((1, 4)))]
    reply = await ask(port, post("/embedding", {"content": texts}))
    if not checked(reply):
        return "busy"
    vectors_of([one["embedding"][0] for one in reply.json()], len(texts))
    return "ok"


async def anthropic_messages(port: int, chance: random.Random) -> str:
    """`/v1/messages`, whole."""
    fields = {
        "model": "served",
        "max_tokens": chance.choice((1, 30)),
        "messages": [{"role": "user", "content": text(chance)}],
    }
    return "ok" if checked(await ask(port, post("/v1/messages", fields))) else "busy"


async def llama_server_completion(port: int, chance: random.Random) -> str:
    """`/completion`, whole or streamed."""
    is_stream = chance.random() < 0.5
    fields = {"prompt": text(chance), "n_predict": chance.choice((1, 30)), "stream": is_stream}
    reply = await ask(port, post("/completion", fields))
    if not checked(reply):
        return "busy"
    last = reply.frames()[-1] if is_stream else reply.json()
    if last.get("stop") is not True:
        raise SoakError(f"/completion: no end: {reply.body[-300:]!r}")
    return "ok"


async def ollama_chat(port: int, chance: random.Random) -> str:
    """`/api/chat`, whole or streamed."""
    is_stream = chance.random() < 0.5
    fields = {
        "messages": [{"role": "user", "content": text(chance)}],
        "options": {"num_predict": chance.choice((1, 30))},
        "stream": is_stream,
    }
    reply = await ask(port, post("/api/chat", fields))
    if not checked(reply):
        return "busy"
    last = json.loads(reply.body.splitlines()[-1])
    if last.get("done_reason") not in ("stop", "length"):
        raise SoakError(f"/api/chat: no end: {reply.body[-300:]!r}")
    return "ok"


async def small_questions(port: int, chance: random.Random) -> str:
    """Routes that generate nothing."""
    paths = ("/health", "/ready", "/props", "/slots", "/v1/models", "/api/tags", "/openapi.json")
    data = request("GET", chance.choice(paths))
    if chance.random() < 0.5:
        data = post("/tokenize", {"content": text(chance)})
    reply = await ask(port, data)
    if reply.status != 200:
        raise SoakError(f"{data[:40]!r}: {reply.status}: {reply.body[:200]!r}")
    return "ok"


def _ended(reply: Reply, is_stream: bool) -> str:
    """Check that an answer in OpenAI's shape ended as it should."""
    bodies = reply.frames() if is_stream else [reply.json()]
    reasons = [choice.get("finish_reason") for body in bodies for choice in body.get("choices", ())]
    if sum(reason in ("stop", "length") for reason in reasons) != 1:
        raise SoakError(f"expected one end, got {reasons[-3:]}: {reply.body[-300:]!r}")
    if is_stream and not reply.body.rstrip().endswith(b"data: [DONE]"):
        raise SoakError("a stream without [DONE]")
    return "ok"


GOOD: tuple[Client, ...] = (
    generate_stream,
    generate_whole,
    openai_completion,
    openai_chat,
    openai_response,
    openai_embeddings,
    llama_server_embeddings,
    anthropic_messages,
    llama_server_completion,
    ollama_chat,
    small_questions,
)
