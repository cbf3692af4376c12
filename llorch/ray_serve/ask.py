"""A request on its way from the gateway to a replica, and the beginnings of its text by which the router knows it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

PART_CHARS = 128
"""A key stands for so many more characters than the one before it: about two blocks of the KV cache."""

MAX_KEYS = 128
"""Longer beginnings are not told apart."""

_LIGHT_ENDINGS = (
    "tokenize",
    "detokenize",
    "apply-template",
    "count_tokens",
    "input_tokens",
    "cancel",
    "show",
)
"""Last parts of the paths that are posted to without generating anything."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A request.

    Attributes:
        scope: what ASGI says of it, in plain values.
        body: all of it.
        is_generation: whether it takes a slot of an engine for a while.
        keys: of the beginnings of its text, shortest first.
        replica: the only one that shall answer it, by its unique id; None: any.
        gateway: the name of the actor that waits for the answer.
    """

    scope: Mapping[str, Any]
    body: bytes
    is_generation: bool = False
    keys: tuple[bytes, ...] = ()
    replica: str | None = None
    gateway: str = ""


def is_generation(method: str, path: str) -> bool:
    """Whether a request to `path` generates text."""
    return method == "POST" and path.rstrip("/").rpartition("/")[2] not in _LIGHT_ENDINGS


def prefix_keys(credentials: bytes, body: bytes) -> tuple[bytes, ...]:
    """Keys of the beginnings of the text in `body`; none where there is no text or the body is no JSON object.

    Args:
        credentials: what the client sent as its API key: no two clients share a key.
        body: of a request to any of the APIs.
    """
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return ()
    if not isinstance(value, dict):
        return ()
    text = "".join(_texts(value))
    keys = []
    key = hashlib.blake2b(credentials, digest_size=16).digest()
    for end in range(PART_CHARS, min(len(text), MAX_KEYS * PART_CHARS) + 1, PART_CHARS):
        part = text[end - PART_CHARS : end].encode("utf-8", "surrogatepass")
        key = hashlib.blake2b(key + part, digest_size=16).digest()
        keys.append(key)
    return tuple(keys)


def _texts(body: Mapping[str, Any]) -> Iterator[str]:
    """What templates and tokenizers would begin with, in their order; not exactly the prompt, but equal where it is."""
    for name in ("tools", "system", "instructions", "prompt", "input_prefix"):
        value = body.get(name)
        if isinstance(value, str):
            yield value
        elif value:
            yield json.dumps(value)
    for name in ("messages", "input"):
        turns = body.get(name)
        if isinstance(turns, str):
            yield turns
        elif isinstance(turns, list):
            for turn in turns:
                yield json.dumps(turn, sort_keys=True)
