"""Bodies with thousands of faults: the answer stays short, names the first ones, and says how many there are."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llorch.errors import MAX_FAULTS, FieldError, RequestError
from tests.support.live_server import LiveServer

N = 60_000
MANY: list[tuple[str, dict[str, Any], str]] = [
    ("/v1/responses", {"input": "Hi", "include": [5] * N}, "include"),
    ("/v1/responses", {"input": [5] * 4000}, "input[0]"),
    ("/v1/responses/input_tokens", {"input": [[]] * 4000}, "input[0]"),
    ("/v1/chat/completions", {"messages": [5] * 4000}, "messages[0]"),
    ("/v1/messages", {"messages": [None] * 4000, "max_tokens": 1}, "messages[0]"),
    ("/api/chat", {"messages": [5] * 4000}, "messages[0]"),
    ("/api/chat", {"messages": [{"role": "user", "images": ["a"]}] * 4000}, "messages[0]"),
    ("/api/generate", {"prompt": "Hi", "context": ["x"] * N}, "context"),
    ("/api/generate", {"prompt": "Hi", "options": {"stop": [5] * N}}, "options.stop"),
    ("/v1/embeddings", {"input": [[10**6]] * 2048}, "input[0]"),
    ("/embedding", {"content": [[10**6]] * 2048}, "content[0]"),
    ("/generate", {"prompt": "Hi", "stop": [5] * N}, "stop"),
    ("/generate", {"prompt": "Hi", "stop_token_ids": ["x"] * N}, "stop_token_ids"),
    ("/apply-template", {"messages": [5] * 4000}, "messages[0]"),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": [5] * N}]}, "messages[0]"),
]


@pytest.mark.parametrize(("path", "body", "first"), MANY)
def test_an_answer_to_a_body_full_of_faults_is_short(
    server: LiveServer, path: str, body: dict[str, Any], first: str
) -> None:
    answer = server.post(path, content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert len(answer.content) < 20_000
    assert first in answer.text


def test_what_is_not_told_is_counted() -> None:
    faults = [FieldError(f"f{i}", "a rule", f"f{i}: wrong") for i in range(MAX_FAULTS + 7)]
    error = RequestError(faults)
    assert len(error.errors) == MAX_FAULTS + 1
    assert str(error).startswith("f0: wrong; f1: wrong")
    assert str(error).endswith(f"f{MAX_FAULTS - 1}: wrong; 7 more faults")
    assert len(faults) == MAX_FAULTS + 7
    assert RequestError(faults[:MAX_FAULTS]).errors == faults[:MAX_FAULTS]


SURROGATE = "a\ud800"
DEEP: Any = []
for _ in range(100):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/v1/chat/completions/input_tokens", "/apply-template"]
)
@pytest.mark.parametrize(
    ("more", "name"),
    [
        ({"chat_template_kwargs": {"x": SURROGATE}}, "chat_template_kwargs"),
        ({"chat_template_kwargs": {"x": [{SURROGATE: 1}]}}, "chat_template_kwargs"),
        ({"chat_template_kwargs": {"x": DEEP}}, "chat_template_kwargs"),
    ],
)
def test_a_value_that_no_template_can_take_is_named(
    server: LiveServer, path: str, more: dict[str, Any], name: str
) -> None:
    body = {"messages": [{"role": "user", "content": "Hi"}], **more}
    answer = server.post(path, content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert f"{name}: " in answer.text
    assert "messages: " not in answer.text
