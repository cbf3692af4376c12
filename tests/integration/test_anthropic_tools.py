"""Tools through `POST /v1/messages`: calls as blocks, results, streams, the same prompt as OpenAI's chats."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.live_server import LiveServer, events

USER = [{"role": "user", "content": "Make it red."}]
SCHEMA = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "blue"]}},
    "required": ["colour"],
    "additionalProperties": False,
}
TOOLS = [
    {"name": "set_colour", "description": "sets the colour", "input_schema": SCHEMA},
    {"name": "stop", "input_schema": {"type": "object", "properties": {}, "additionalProperties": False}},
]
OPENAI_TOOLS = [
    {
        "type": "function",
        "function": {"name": "set_colour", "description": "sets the colour", "parameters": SCHEMA},
    },
    {"type": "function", "function": {"name": "stop", "parameters": TOOLS[1]["input_schema"]}},
]
BODY: dict[str, Any] = {"messages": USER, "tools": TOOLS, "max_tokens": 100, "temperature": 0}
CHOSEN = {"tool_choice": {"type": "tool", "name": "set_colour", "disable_parallel_tool_use": True}}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    pytest.importorskip("llguidance", reason="needs the extra `grammar`")
    log = tmp_path_factory.mktemp("demo") / "log"
    server = LiveServer("demo", log, "-np", "4", "--chat-template", "chatml")
    yield server.wait_until_ready()
    assert server.stop() == 0


def answered(server: LiveServer, **more: object) -> Any:
    answer = server.post("/v1/messages", json={**BODY, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


def streamed(server: LiveServer, **more: object) -> tuple[list[str], dict[str, Any]]:
    """The names of the events, and the message that a client makes of them."""
    with server.stream("/v1/messages", json={**BODY, **more, "stream": True}) as response:
        stream = list(events(response.iter_lines()))
    message: dict[str, Any] = {"content": []}
    written: list[str] = []
    for name, data in stream:
        if name == "message_start":
            message |= data["message"]
        if name == "content_block_start":
            assert data["index"] == len(message["content"])
            message["content"].append(data["content_block"])
            written.append("")
        if name == "content_block_delta":
            assert data["index"] == len(written) - 1
            written[-1] += data["delta"].get("text", "") + data["delta"].get("partial_json", "")
        if name == "message_delta":
            message |= data["delta"]
    for block, text in zip(message["content"], written, strict=True):
        block |= {"text": text} if block["type"] == "text" else {"input": json.loads(text or "{}")}
    return [name for name, _ in stream], message


def without_ids(content: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in block.items() if name != "id"} for block in content]


def test_a_chosen_tool_is_called_with_an_input_that_fits(demo: LiveServer) -> None:
    answer = answered(demo, **CHOSEN, tools=TOOLS[:1])
    (block,) = answer["content"]
    assert (block["type"], block["name"], answer["stop_reason"]) == ("tool_use", "set_colour", "tool_use")
    assert block["input"]["colour"] in ("red", "blue")
    choice = {"type": "function", "function": {"name": "set_colour"}}
    body = {"messages": USER, "tools": OPENAI_TOOLS[:1], "tool_choice": choice, "parallel_tool_calls": False}
    twin = demo.post("/v1/chat/completions", json={**body, "max_tokens": 100, "temperature": 0}).json()
    (call,) = twin["choices"][0]["message"]["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == block["input"]
    usage = answer["usage"]
    assert usage["input_tokens"] + usage["cache_read_input_tokens"] == twin["usage"]["prompt_tokens"]


def test_a_stream_makes_the_same_message(demo: LiveServer) -> None:
    for more in (CHOSEN, {"tool_choice": {"type": "any"}}, {"tool_choice": {"type": "none"}}, {}):
        whole = answered(demo, **more)
        names, message = streamed(demo, **more)
        assert without_ids(message["content"]) == without_ids(whole["content"])
        assert message["stop_reason"] == whole["stop_reason"]
        assert (
            names.count("content_block_start") == names.count("content_block_stop") == len(whole["content"])
        )
        assert names[-2:] == ["message_delta", "message_stop"]


def test_calls_and_results_make_the_prompt_of_openais_chat(server: LiveServer) -> None:
    ours = [
        *USER,
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "hm", "signature": "x"},
            {"type": "text", "text": "I do."},
            {"type": "tool_use", "id": "a", "name": "set_colour", "input": {"colour": "red"}},
            {"type": "tool_use", "id": "b", "name": "stop", "input": {}},
        ]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text", "text": "done"}]},
            {"type": "tool_result", "tool_use_id": "b", "is_error": True},
            {"type": "text", "text": "And now?"},
        ]},
    ]  # fmt: skip
    calls = [
        {"id": "a", "type": "function", "function": {"name": "set_colour", "arguments": '{"colour": "red"}'}},
        {"id": "b", "type": "function", "function": {"name": "stop", "arguments": "{}"}},
    ]
    theirs = [
        *USER,
        {"role": "assistant", "content": "I do.", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "a", "name": "set_colour", "content": "done"},
        {"role": "tool", "tool_call_id": "b", "name": "stop", "content": ""},
        {"role": "user", "content": "And now?"},
    ]
    count = server.post("/v1/messages/count_tokens", json={"messages": ours, "tools": TOOLS}).json()
    twin = server.post(
        "/v1/chat/completions/input_tokens", json={"messages": theirs, "tools": OPENAI_TOOLS}
    ).json()
    assert count["input_tokens"] == twin["input_tokens"]
    answer = answered(server, messages=ours, max_tokens=4)
    body = {"messages": theirs, "tools": OPENAI_TOOLS, "max_tokens": 4, "temperature": 0}
    same = server.post("/v1/chat/completions", json=body).json()
    assert answer["content"] == [{"type": "text", "text": same["choices"][0]["message"]["content"]}]


def test_a_result_may_stand_alone(server: LiveServer) -> None:
    call = {"type": "tool_use", "id": "a", "name": "stop", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "a", "content": "stopped"}
    turns = [*USER, {"role": "assistant", "content": [call]}, {"role": "user", "content": [result]}]
    assert answered(server, messages=turns, max_tokens=3)["usage"]["output_tokens"] <= 3
