"""`continue_final_message`: an answer that goes on from a message of the assistant."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.live_server import LiveServer

ASKED = {"role": "user", "content": "Tell me a story."}
BEGUN = {"role": "assistant", "content": "Once upon a"}
CHAT = {"messages": [ASKED, BEGUN], "continue_final_message": True, "temperature": 0, "max_tokens": 8}


def prompt_ids(server: LiveServer, **body: Any) -> Any:
    answer = server.post("/v1/chat/completions", json={**CHAT, "return_token_ids": True, **body}).json()
    return answer["prompt_token_ids"]


def test_the_prompt_ends_with_the_message_and_the_answer_does_not_repeat_it(server: LiveServer) -> None:
    prompt = server.post("/apply-template", json=CHAT).json()["prompt"]
    opened = server.post("/apply-template", json={"messages": [ASKED]}).json()["prompt"]
    assert prompt == opened + BEGUN["content"]
    answer = server.post("/v1/chat/completions", json={**CHAT, "return_token_ids": True}).json()
    text = answer["choices"][0]["message"]["content"]
    assert not text.startswith("Once")
    told = server.post(
        "/v1/completions", json={"prompt": answer["prompt_token_ids"], "temperature": 0, "max_tokens": 8}
    )
    assert told.json()["choices"][0]["text"] == text
    counted = server.post("/v1/chat/completions/input_tokens", json=CHAT).json()["input_tokens"]
    assert counted == len(answer["prompt_token_ids"]) == answer["usage"]["prompt_tokens"]


def test_messages_of_anthropic_go_on_from_the_same_prompt(server: LiveServer) -> None:
    body = {"messages": CHAT["messages"], "model": "any"}
    counted = server.post("/v1/messages/count_tokens", json=body).json()["input_tokens"]
    assert counted == len(prompt_ids(server))


def test_without_it_the_message_is_one_of_those_before(server: LiveServer) -> None:
    continued, closed = prompt_ids(server), prompt_ids(server, continue_final_message=False)
    assert len(closed) > len(continued)
    assert closed[: len(continued)] == continued


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"messages": [ASKED]}, "the last of several messages"),
        ({"messages": [BEGUN]}, "the last of several messages"),
        ({"messages": [ASKED, {"role": "assistant", "content": ""}]}, "the last of several messages"),
        ({"add_generation_prompt": True}, "exclude each other"),
        (
            {"messages": [ASKED, {**BEGUN, "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}]},
            "no tool_calls",
        ),
        ({"continue_final_message": "yes"}, "continue_final_message"),
    ],
)  # fmt: skip
def test_what_cannot_go_on_is_refused(server: LiveServer, body: dict[str, Any], words: str) -> None:
    answer = server.post("/v1/chat/completions", json={**CHAT, **body})
    assert answer.status_code == 400
    assert words in answer.json()["error"]["message"]
