"""`instructions` and items of `input` as messages of a chat, and the names of what is wrong with them."""

from __future__ import annotations

from typing import Any

import pytest

from llorch.errors import RequestError
from llorch.server.routes.openai.responses.request import parse_response

CALL = {"type": "function_call", "call_id": "c1", "name": "see", "arguments": '{"where": "up"}'}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "sky"}
ASKED = {"role": "user", "content": "What is up?"}
SEEN = {"id": "c1", "type": "function", "function": {"name": "see", "arguments": {"where": "up"}}}


def messages(given: Any, **body: Any) -> Any:
    return parse_response({"input": given, **body}, 10_000)["messages"]


def faults(**body: Any) -> dict[str, str]:
    with pytest.raises(RequestError) as caught:
        parse_response(body, 100)
    return {fault.field: fault.message for fault in caught.value.errors}


def test_a_text_is_what_the_user_says_and_instructions_are_the_systems() -> None:
    assert messages("Hello") == [{"role": "user", "content": "Hello"}]
    said = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    assert messages("Hello", instructions="Be brief.") == said
    assert messages("Hello", instructions="") == said[1:]


def test_parts_of_every_spelling_are_joined() -> None:
    parts = [{"type": "input_text", "text": "a"}, {"type": "text", "text": "b"}]
    answer = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [
        {"type": "output_text", "text": "c", "annotations": [], "logprobs": []},
        {"type": "refusal", "refusal": "d"},
    ]}  # fmt: skip
    found = messages([{"type": "message", "role": "developer", "content": parts}, answer])
    assert found == [{"role": "system", "content": "ab"}, {"role": "assistant", "content": "cd"}]


def test_calls_and_the_words_around_them_are_one_message_of_the_assistant() -> None:
    before = {"role": "assistant", "content": "I look. "}
    behind = {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "output_text", "text": "And wait."}],
    }
    second = {**CALL, "call_id": "c2"}
    found = messages([ASKED, before, CALL, behind, second, OUTPUT, {**OUTPUT, "call_id": "c2"}])
    assert found == [
        ASKED,
        {"role": "assistant", "content": "I look. And wait.", "tool_calls": [SEEN, {**SEEN, "id": "c2"}]},
        {"role": "tool", "content": "sky", "tool_call_id": "c1"},
        {"role": "tool", "content": "sky", "tool_call_id": "c2"},
    ]


def test_a_call_of_the_next_round_begins_a_message_of_its_own() -> None:
    found = messages([ASKED, CALL, OUTPUT, {**CALL, "call_id": "c2"}, {**OUTPUT, "call_id": "c2"}])
    assert [message["role"] for message in found] == ["user", "assistant", "tool", "assistant", "tool"]
    assert found[1] == {"role": "assistant", "content": None, "tool_calls": [SEEN]}


def test_answers_without_calls_stay_apart() -> None:
    found = messages([{"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}])
    assert [message["content"] for message in found] == ["a", "b"]


def test_what_was_thought_before_an_earlier_answer_is_left_out() -> None:
    thought = {"type": "reasoning", "id": "rs_1", "summary": []}
    assert messages([ASKED, thought, CALL, thought, CALL, OUTPUT])[1]["tool_calls"] == [SEEN, SEEN]
    assert "input" in faults(input=[thought])


def test_outputs_may_come_in_parts() -> None:
    output = {
        **OUTPUT,
        "output": [{"type": "input_text", "text": "blue "}, {"type": "input_text", "text": "sky"}],
    }
    assert messages([ASKED, CALL, output])[2]["content"] == "blue sky"


@pytest.mark.parametrize(
    ("given", "field", "words"),
    [
        (None, "input", "is required"), (5, "input", "got 5"), ([], "input", "got a list of 0"),
        ([5], "input[0]", "got 5"),
        ([ASKED] * 4097, "input", "got a list of 4097"), ([{}], "input[0].role", "one of user"),
        ([{"role": "tool", "content": "a"}], "input[0].role", "another word"),
        ([ASKED, {"role": "user"}], "input[1].content", "got null"),
        ([{"role": "user", "content": 5}], "input[0].content", "got 5"),
        ([{"role": "user", "content": ["a"]}], "input[0].content[0]", "input_text"),
        ([{"role": "user", "content": [{"type": "input_text"}]}], "input[0].content[0].text", "got null"),
        ([{"role": "user", "content": [{"type": "input_image"}]}], "input[0].content[0].type", "cannot read"),
        ([{"role": "user", "content": "\ud800"}], "input[0].content", "lone surrogate"),
        ("\ud800", "input", "lone surrogate"), ("x" * 101, "input", "got 101"),
        ([{"type": "web_search_call"}], "input[0].type", "'web_search_call', which this server does not have"),
        ([{"type": "item_reference", "id": "x"}], "input[0].type", "send the item itself"),
        ([{"id": "x"}], "input[0].type", "send the item itself"), ([{"type": ["a"]}], "input[0].type", "a list of 1"),
        ([{**CALL, "call_id": None}], "input[0].call_id", "got null"),
        ([{**CALL, "call_id": "x" * 257}], "input[0].call_id", "256"),
        ([ASKED, {**CALL, "name": 5}], "input[1].name", "got 5"),
        ([{**CALL, "arguments": "[1]"}], "input[0].arguments", "JSON"),
        ([OUTPUT], "input[0].call_id", "no function_call before it"),
        ([CALL, {**OUTPUT, "output": 5}], "input[1].output", "got 5"),
        ([CALL, {**OUTPUT, "output": [{"type": "input_file"}]}], "input[1].output[0].type", "cannot read"),
        ([CALL, {"role": "assistant", "content": [{"type": "text", "text": 5}]}],
            "input[1].content[0].text", "got 5"),
        ([{"role": "assistant", "content": "a"}, CALL, {"role": "assistant", "content": 5}],
            "input[2].content", "got 5"),
        ([{"role": "assistant", "content": 5}, CALL, {"role": "assistant", "content": "a"}],
            "input[0].content", "got 5"),
        ([{"role": "assistant", "content": "\ud800"}, CALL, {"role": "assistant", "content": "a"}],
            "input[0].content", "lone"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_as_the_client_wrote_it(given: Any, field: str, words: str) -> None:
    found = faults(input=given)
    assert list(found) == [field]
    assert words in found[field]


def test_faults_of_calls_that_were_joined_have_their_own_places() -> None:
    bad = {**CALL, "call_id": "c2", "arguments": "no"}
    assert list(faults(input=[ASKED, CALL, bad])) == ["input[2].arguments"]
    assert list(faults(input="a", instructions="\ud800")) == ["instructions"]
    assert list(faults(input="a", instructions=5)) == ["instructions"]
