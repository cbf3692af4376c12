"""Keys of the beginnings of texts, and which requests have any."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llorch.ray_serve.ask import MAX_KEYS, PART_CHARS, is_generation, prefix_keys


def keys(owner: bytes = b"", **body: Any) -> tuple[bytes, ...]:
    return prefix_keys(owner, json.dumps(body).encode())


def test_prompts_share_the_keys_of_what_they_begin_with() -> None:
    shared = "a" * (2 * PART_CHARS)
    one, two = keys(prompt=shared + "b" * PART_CHARS), keys(prompt=shared + "c" * PART_CHARS)
    assert one[:2] == two[:2]
    assert one[2] != two[2]


def test_a_conversation_keeps_its_keys_as_it_goes_on() -> None:
    messages = [{"role": "system", "content": "s" * 300}, {"role": "user", "content": "u" * 300}]
    before = keys(messages=messages)
    after = keys(messages=[*messages, {"role": "assistant", "content": "a" * 300}])
    assert len(before) > 3
    assert after[: len(before)] == before


def test_a_conversation_of_items_does_so_too() -> None:
    items = [{"role": "user", "content": "u" * 300}]
    before = keys(instructions="s" * 300, input=items)
    after = keys(instructions="s" * 300, input=[*items, {"type": "message", "role": "assistant"}])
    assert len(before) > 3
    assert after[: len(before)] == before
    assert keys(input="u" * 300)
    assert keys(instructions="t" * 300, input=items)[0] != before[0]


def test_clients_share_no_keys() -> None:
    assert not set(keys(b"one", prompt="a" * 500)) & set(keys(b"two", prompt="a" * 500))


def test_short_texts_have_no_keys_and_long_ones_a_bounded_number() -> None:
    assert keys(prompt="a" * (PART_CHARS - 1)) == ()
    assert len(keys(prompt="a" * 100_000)) == MAX_KEYS


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[1]",
        b"\xff",
        b"[" * 100_000,
        b'{"prompt": 5}',
        b'{"messages": {"role": 1}}',
        b'{"prompt": "\\ud800"}',
    ],
)
def test_bodies_without_a_text_have_no_keys(body: bytes) -> None:
    assert prefix_keys(b"", body) == ()


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("POST", "/generate", True),
        ("POST", "/v1/chat/completions", True),
        ("POST", "/v1/responses", True),
        ("POST", "/v1/responses/input_tokens", False),
        ("POST", "/v1/messages", True),
        ("POST", "/v1/messages/count_tokens", False),
        ("POST", "/v1/chat/completions/input_tokens", False),
        ("POST", "/tokenize/", False),
        ("POST", "/cancel", False),
        ("GET", "/v1/models", False),
    ],
)
def test_generations_are_told_from_quick_requests(method: str, path: str, expected: bool) -> None:
    assert is_generation(method, path) is expected
