"""`include: ["message.output_text.logprobs"]` on `/v1/responses`: the numbers of the same chat, whole and streamed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.live_server import LiveServer
from tests.support.openai_client import whole
from tests.support.responses import answered, played, streamed

LOGPROBS = ["message.output_text.logprobs"]
ASKED: dict[str, Any] = {"max_output_tokens": 12, "seed": 3}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    server = LiveServer("demo", tmp_path_factory.mktemp("demo") / "log", "--chat-template", "chatml")
    yield server.wait_until_ready()
    assert "ERROR" not in server.log
    assert server.stop() == 0


def of_chat(server: LiveServer, top: int | None, **more: Any) -> list[dict[str, Any]]:
    """The entries of the same chat."""
    more |= {} if top is None else {"top_logprobs": top}
    messages = [{"role": "user", "content": "Hello there"}]
    body = {"messages": messages, "max_tokens": 12, "seed": 3, "logprobs": True, **more}
    entries: list[dict[str, Any]] = whole(server, "/v1/chat/completions", **body)["choices"][0]["logprobs"][
        "content"
    ]
    return entries


def of_response(response: dict[str, Any]) -> list[dict[str, Any]]:
    """The entries of the one message of a response."""
    (item,) = response["output"]
    entries: list[dict[str, Any]] = item["content"][0]["logprobs"]
    return entries


@pytest.mark.parametrize("top", [None, 0, 1, 20])
@pytest.mark.parametrize("temperature", [0, 1.3])
def test_they_are_those_of_the_same_chat(demo: LiveServer, top: int | None, temperature: float) -> None:
    asked: dict[str, Any] = {**ASKED, "input": "Hello there", "include": LOGPROBS, "temperature": temperature}
    asked |= {} if top is None else {"top_logprobs": top}
    expected = of_chat(demo, top, temperature=temperature)
    assert len(expected) == 12
    assert {len(entry["top_logprobs"]) for entry in expected} == {top or 0}
    for response in (answered(demo, **asked), played(streamed(demo, **asked))):
        assert of_response(response) == expected
        assert response["top_logprobs"] == (top or 0)


def test_tokens_of_a_stop_string_have_entries_though_they_are_no_text(demo: LiveServer) -> None:
    greedy = {"temperature": 0, "cache_prompt": False}
    text = answered(demo, **ASKED, input="Hello there", **greedy)["output"][0]["content"][0]["text"]
    stop = text[len(text) // 2 : len(text) // 2 + 4]
    expected = of_chat(demo, 2, stop=[stop], **greedy)
    asked = {
        **ASKED,
        "input": "Hello there",
        "include": LOGPROBS,
        "top_logprobs": 2,
        "stop": [stop],
        **greedy,
    }
    for response in (answered(demo, **asked), played(streamed(demo, **asked))):
        assert of_response(response) == expected
        assert response["output"][0]["content"][0]["text"] == text[: text.index(stop)]
        assert response["status"] == "completed"


def test_without_the_word_there_are_none(demo: LiveServer) -> None:
    for include in ([], None, ["reasoning.encrypted_content"]):
        asked = {**ASKED, "input": "Hello there", "include": include}
        for response in (answered(demo, **asked), played(streamed(demo, **asked))):
            assert of_response(response) == []


def test_a_called_tool_leaves_those_of_the_text_alone(demo: LiveServer) -> None:
    tool = {"type": "function", "name": "stop", "parameters": {"type": "object", "properties": {}}}
    asked = {"input": "Hi", "tools": [tool], "include": LOGPROBS, "top_logprobs": 1, "max_output_tokens": 200}
    asked |= {"temperature": 0, "parallel_tool_calls": False}
    called = played(streamed(demo, **asked, tool_choice="required"))
    assert {item["type"] for item in called["output"]} == {"function_call"}
    free = played(streamed(demo, **asked, tool_choice="auto"))
    words = [item for item in free["output"] if item["type"] == "message"]
    for item in words:
        part = item["content"][0]
        spelt = b"".join(bytes(entry["bytes"]) for entry in part["logprobs"]).decode(errors="replace")
        assert part["text"].strip() in spelt
