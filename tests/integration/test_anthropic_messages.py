"""`POST /v1/messages` as Anthropic's clients know it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.live_server import LiveServer, events

USER = [{"role": "user", "content": "Hello there"}]
BODY = {"model": "claude", "max_tokens": 6, "temperature": 0, "messages": USER}


def answered(server: LiveServer, **more: object) -> Any:
    answer = server.post("/v1/messages", json={**BODY, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


def refused(server: LiveServer, more: dict[str, object], path: str = "/v1/messages") -> str:
    answer = server.post(path, json={**BODY, **more})
    assert (answer.status_code, answer.json()["type"]) == (400, "error"), answer.text
    assert answer.json()["error"]["type"] == "invalid_request_error"
    return str(answer.json()["error"]["message"])


def chat(server: LiveServer, *messages: dict[str, Any]) -> Any:
    body = {"messages": messages, "max_tokens": 6, "temperature": 0}
    return server.post("/v1/chat/completions", json=body).json()


def test_a_message_is_answered_as_the_same_chat_of_the_other_api(server: LiveServer) -> None:
    answer = answered(server)
    twin = chat(server, *USER)
    assert answer["content"] == [{"type": "text", "text": twin["choices"][0]["message"]["content"]}]
    assert (answer["type"], answer["role"], answer["model"]) == ("message", "assistant", "tiny llama")
    assert (answer["stop_reason"], answer["stop_sequence"]) == ("max_tokens", None)
    usage = answer["usage"]
    assert usage["input_tokens"] + usage["cache_read_input_tokens"] == twin["usage"]["prompt_tokens"]
    assert usage["output_tokens"] == 6


def test_system_and_blocks_and_turns_of_one_role_become_plain_messages(server: LiveServer) -> None:
    blocks = [
        {"type": "text", "text": "Hello ", "cache_control": {"type": "ephemeral"}},
        {"type": "text", "text": "you"},
    ]
    answer = answered(
        server,
        system=[{"type": "text", "text": "Be brief."}],
        messages=[
            {"role": "user", "content": blocks},
            {"role": "assistant", "content": "Yes?"},
            {"role": "user", "content": "One"},
            {"role": "user", "content": "Two"},
        ],
    )
    twin = chat(
        server,
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello you"},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": "One\nTwo"},
    )
    assert answer["content"][0]["text"] == twin["choices"][0]["message"]["content"]


def test_a_stream_tells_the_message_event_by_event(server: LiveServer) -> None:
    whole = answered(server)
    with server.stream("/v1/messages", json={**BODY, "stream": True}) as response:
        stream = list(events(response.iter_lines()))
    names = [name for name, _ in stream]
    assert all(data["type"] == name for name, data in stream)
    assert names[:3] == ["message_start", "content_block_start", "ping"]
    assert names[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert set(names[3:-3]) == {"content_block_delta"}
    assert "".join(data["delta"]["text"] for _, data in stream[3:-3]) == whole["content"][0]["text"]
    start, delta = stream[0][1]["message"], stream[-2][1]
    assert (start["content"], start["stop_reason"]) == ([], None)
    assert start["usage"]["input_tokens"] > 0
    assert delta["delta"] == {"stop_reason": "max_tokens", "stop_sequence": None}
    assert delta["usage"]["output_tokens"] == 6


def test_a_stop_sequence_ends_the_message_and_is_named(server: LiveServer) -> None:
    text = answered(server)["content"][0]["text"]
    word = text[2:5]
    answer = answered(server, stop_sequences=[word])
    assert (answer["stop_reason"], answer["stop_sequence"]) == ("stop_sequence", word)
    assert answer["content"][0]["text"] == text[: text.index(word)]


def test_an_assistants_turn_at_the_end_is_the_beginning_of_the_answer(server: LiveServer) -> None:
    messages = [*USER, {"role": "assistant", "content": "I am"}]
    begun = server.post("/tokenize", json={"content": "I am"}).json()["count"]
    counts = [
        server.post("/v1/messages/count_tokens", json={"messages": some}).json()["input_tokens"]
        for some in (USER, messages)
    ]
    assert counts[0] < counts[1] <= counts[0] + begun  # it goes on in the words that open the turn
    assert answered(server, messages=messages[-1:])["usage"]["output_tokens"] == 6
    answer = answered(server, messages=messages)
    assert answer["content"] != answered(server)["content"]
    assert sum(answer["usage"].values()) == counts[1] + 6


def test_tokens_can_be_counted_beforehand(server: LiveServer) -> None:
    count = server.post(
        "/v1/messages/count_tokens", json={"model": "x", "messages": USER, "system": "Be brief."}
    )
    usage = answered(server, system="Be brief.")["usage"]
    assert count.json() == {"input_tokens": usage["input_tokens"] + usage["cache_read_input_tokens"]}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"max_tokens": None}, "max_tokens is required"), ({"max_tokens": 0}, "max_tokens >= 1"),
        ({"temperature": 1.5}, "temperature"), ({"top_p": 2}, "top_p"), ({"top_k": -1}, "top_k"),
        ({"stop_sequences": ["a"] * 17}, "stop_sequences"), ({"stream": 1}, "stream"), ({"messages": []}, "messages"),
        ({"messages": None}, "messages"), ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "system", "content": "a"}]}, "system is a field of its own"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]}, "cannot read"),
        ({"messages": [*USER, {"role": "assistant", "content": None}]}, "messages[1].content"),
        ({"messages": [{"role": "user", "content": "x" * 40_000}]}, "characters of all contents"),
        ({"system": 5}, "system"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "no tools of its own"),
        ({"tools": [{"name": "f"}]}, "tools[0].input_schema"), ({"tools": [5]}, "tools[0]"), ({"tools": 5}, "tools"),
        ({"tools": [{"name": "f g", "input_schema": {}}]}, "tools[0].name"),
        ({"tool_choice": {"type": "any"}}, "there are no tools"), ({"tool_choice": "any"}, "tool_choice"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice"),
        ({"tool_choice": {"type": "auto", "disable_parallel_tool_use": 1}}, "tool_choice.disable_parallel_tool_use"),
        ({"messages": [*USER, {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "f"}]}]},
         "messages[1].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "tool_result", "content": "x"}]}]},
         "messages[0].content[0].tool_use_id"),
        ({"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": [5]}]}]},
         "messages[0].content[0].content[0]"),
        ({"messages": [*USER, {"role": "assistant", "content": [
            {"type": "tool_use", "id": "a", "name": "f", "input": {}}]}]}, "a result for the calls"),
    ],
)  # fmt: skip
def test_what_cannot_be_answered_is_refused_by_name(
    server: LiveServer, more: dict[str, object], words: str
) -> None:
    assert words in refused(server, more)


def test_every_fault_is_named_at_once(server: LiveServer) -> None:
    message = refused(
        server, {"messages": 5, "system": 5, "max_tokens": 0, "temperature": "x", "stream": "y"}
    )
    assert all(name in message for name in ("messages", "system", "max_tokens", "temperature", "stream"))
    assert "messages" in refused(server, {"messages": []}, "/v1/messages/count_tokens")


def test_errors_of_the_path_have_its_shape(server: LiveServer) -> None:
    answer = server.get("/v1/messages")
    assert (answer.status_code, answer.json()["type"]) == (405, "error")
    answer = server.get("/v1/messages/nothing")
    assert (answer.status_code, answer.json()["error"]["type"]) == (404, "not_found_error")
    answer = server.post("/v1/messages", content=json.dumps(BODY), headers={"Content-Type": "text/plain"})
    assert answer.status_code == 415
