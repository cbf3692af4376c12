"""JSON, schemas and tools through a real server: `response_format`, `tools`, `tool_choice`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.live_server import LiveServer
from tests.support.openai_client import chunks, fault, text_of, whole

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
MESSAGES = [{"role": "user", "content": "Describe Ann, who is 42 years old, as JSON."}]
PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "colour": {"enum": ["red", "blue"]},
    },
    "required": ["name", "age", "colour"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON, "strict": True}}
TOOLS = [
    {"type": "function", "function": {"name": "set_colour", "parameters": {
        "type": "object", "properties": {"colour": {"enum": ["red", "blue"]}}, "required": ["colour"],
        "additionalProperties": False}}},
    {"type": "function", "function": {"name": "stop", "description": "ends everything"}},
]  # fmt: skip
CHOSEN = {"type": "function", "function": {"name": "set_colour"}}
WAYS = [(temperature, stream) for temperature in (0, 1) for stream in (False, True)]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    flags = ("-np", "4", "--chat-template", "chatml")
    server = LiveServer("demo", tmp_path_factory.mktemp("demo") / "log", *flags)
    yield server.wait_until_ready()
    assert server.stop() == 0


@pytest.fixture(scope="module")
def real(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    server = LiveServer(smollm2, tmp_path_factory.mktemp("smollm2") / "log", "-np", "4")
    yield server.wait_until_ready()
    assert server.stop() == 0


def answer(server: LiveServer, *, stream: bool = False, **body: Any) -> tuple[dict[str, Any], str]:
    """The message of a chat and why it ended; put together as clients do, if it is streamed."""
    body = {"messages": MESSAGES, "max_tokens": 200, "seed": 4, **body}
    if not stream:
        (choice,) = whole(server, CHAT, **body)["choices"]
        return choice["message"], choice["finish_reason"]
    documents = chunks(server, CHAT, **body)
    message: dict[str, Any] = {"content": text_of(documents) or None}
    calls: list[dict[str, Any]] = []
    for delta in (one["choices"][0]["delta"] for one in documents):
        for call in delta.get("tool_calls", []):
            if "id" in call:
                assert call["index"] == len(calls)
                calls.append(call)
            else:
                calls[call["index"]]["function"]["arguments"] += call["function"]["arguments"]
    if calls:
        message["tool_calls"] = calls
    return message, documents[-1]["choices"][0]["finish_reason"]


def check_person(content: str) -> None:
    person = json.loads(content)
    assert list(person) == ["name", "age", "colour"]
    assert isinstance(person["name"], str)
    assert len(person["name"]) <= 12
    assert 0 <= person["age"] <= 150
    assert person["colour"] in ("red", "blue")


def check_call(message: dict[str, Any]) -> None:
    assert message["content"] is None
    (call,) = message["tool_calls"]
    assert call["type"] == "function"
    assert len(call["id"]) == 9
    assert call["function"]["name"] == "set_colour"
    assert json.loads(call["function"]["arguments"])["colour"] in ("red", "blue")


@pytest.mark.parametrize(("temperature", "stream"), WAYS)
def test_an_answer_fits_its_schema(demo: LiveServer, temperature: float, stream: bool) -> None:
    message, reason = answer(demo, response_format=FORMAT, temperature=temperature, stream=stream)
    check_person(message["content"])
    assert reason == "stop"


@pytest.mark.parametrize(("temperature", "stream"), WAYS)
def test_a_chosen_tool_is_called(demo: LiveServer, temperature: float, stream: bool) -> None:
    fields: dict[str, Any] = {"tools": TOOLS, "tool_choice": CHOSEN, "parallel_tool_calls": False}
    message, reason = answer(demo, temperature=temperature, stream=stream, **fields)
    check_call(message)
    assert reason == "tool_calls"


def test_choices_of_one_request_are_bound_each_for_itself(demo: LiveServer) -> None:
    body = {
        "messages": MESSAGES,
        "response_format": FORMAT,
        "n": 3,
        "temperature": 1,
        "seed": 1,
        "max_tokens": 200,
    }
    contents = [choice["message"]["content"] for choice in whole(demo, CHAT, **body)["choices"]]
    assert len(set(contents)) > 1
    for content in contents:
        check_person(content)


def test_texts_can_be_bound_too(demo: LiveServer) -> None:
    body = {"prompt": ["One day", "Tom"], "response_format": FORMAT, "max_tokens": 200, "temperature": 0}
    for choice in whole(demo, TEXT, **body)["choices"]:
        check_person(choice["text"])
        assert choice["finish_reason"] == "stop"


@pytest.mark.parametrize("temperature", [0, 1])
def test_a_grammar_may_name_tokens_and_what_it_counts_is_tokens(demo: LiveServer, temperature: float) -> None:
    body = {
        "prompt": "One day",
        "max_tokens": 20,
        "temperature": temperature,
        "seed": 4,
        "return_token_ids": True,
    }
    (choice,) = whole(demo, TEXT, **body, grammar='root ::= <[500]> !<[500]>{6} "Tom"')["choices"]
    ids = choice["token_ids"]
    assert ids[0] == 500 not in ids[1:7]
    assert choice["text"].endswith("Tom")
    assert choice["finish_reason"] == "stop"
    assert len(demo.post("/tokenize", json={"content": "Tom"}).json()["tokens"]) <= len(ids[7:]) <= 3


def test_an_answer_without_a_call_is_content(demo: LiveServer) -> None:
    message, reason = answer(demo, tools=TOOLS, tool_choice="auto", max_tokens=8, temperature=0)
    assert message["content"]
    assert "tool_calls" not in message
    assert reason == "length"


@pytest.mark.parametrize("fields", [{}, {"tools": TOOLS[1:]}, {"tools": TOOLS, "tool_choice": "none"}])
def test_a_template_is_applied_as_chats_apply_it(demo: LiveServer, fields: dict[str, Any]) -> None:
    call = {"id": "call00001", "type": "function", "function": {"name": "set_colour", "arguments": "{}"}}
    messages = [*MESSAGES, {"role": "assistant", "tool_calls": [call]}, {"role": "tool", "content": "done"}]
    for said in (MESSAGES, messages):
        body = {"messages": said, **fields}
        prompt = demo.post("/apply-template", json=body).json()["prompt"]
        ids = demo.post("/tokenize", json={"content": prompt, "add_special": True}).json()["tokens"]
        answer = whole(demo, CHAT, **body, max_tokens=1, return_token_ids=True)
        assert ids == answer["prompt_token_ids"]


def test_probabilities_and_ids_stay_complete_beside_calls(demo: LiveServer) -> None:
    fields = {
        "tools": TOOLS,
        "tool_choice": CHOSEN,
        "logprobs": True,
        "return_token_ids": True,
        "max_tokens": 200,
    }
    body = {"messages": MESSAGES, "temperature": 0, "parallel_tool_calls": False, **fields}
    (choice,) = whole(demo, CHAT, **body)["choices"]
    deltas = [one["choices"][0] for one in chunks(demo, CHAT, **body)]
    ids = [token_id for delta in deltas for token_id in delta.get("token_ids", [])]
    assert ids == choice["token_ids"]
    told = [entry for delta in deltas if delta["logprobs"] for entry in delta["logprobs"]["content"]]
    assert told == choice["logprobs"]["content"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "banana"}}}},
         "response_format.json_schema.schema"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"$ref": "http://a/b"}}}},
         "response_format.json_schema.schema"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
        ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice.function.name"),
        ({"response_format": {"type": "json_object"}, "ignore_eos": True}, "ignore_eos"),
    ],
)  # fmt: skip
def test_what_cannot_be_enforced_is_a_400_that_names_the_field(
    demo: LiveServer, fields: dict[str, Any], param: str
) -> None:
    status, error = fault(demo, CHAT, messages=MESSAGES, **fields)
    assert (status, error["type"], error["param"]) == (400, "invalid_request_error", param)
    demo.assert_alive()


def test_a_schema_that_no_document_satisfies_ends_with_the_limit(demo: LiveServer) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"$ref": "#"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    fields: dict[str, Any] = {"response_format": {"type": "json_schema", "json_schema": {"schema": schema}}}
    message, reason = answer(demo, max_tokens=60, temperature=0, **fields)
    assert reason == "length"
    assert message["content"].count("{") > 2


@pytest.mark.slow
@pytest.mark.smollm2
@pytest.mark.parametrize(("temperature", "stream"), WAYS)
def test_a_real_model_writes_what_was_asked_for(real: LiveServer, temperature: float, stream: bool) -> None:
    way: dict[str, Any] = {"temperature": temperature, "stream": stream, "max_tokens": 300}
    message, _ = answer(real, response_format=FORMAT, **way)
    check_person(message["content"])
    message, reason = answer(real, response_format={"type": "json_object"}, **way)
    assert reason == "length" or isinstance(json.loads(message["content"]), dict)
    asked: dict[str, Any] = {"tools": TOOLS, "tool_choice": "required", "parallel_tool_calls": False}
    message, reason = answer(real, messages=[{"role": "user", "content": "Make it blue!"}], **asked, **way)
    (call,) = message["tool_calls"]
    assert call["function"]["name"] in ("set_colour", "stop")
    assert isinstance(json.loads(call["function"]["arguments"]), dict)
    assert reason == "tool_calls"


@pytest.mark.slow
@pytest.mark.smollm2
def test_a_conversation_goes_on_with_the_results_of_calls(real: LiveServer) -> None:
    message, _ = answer(real, tools=TOOLS, tool_choice=CHOSEN, parallel_tool_calls=False, temperature=0)
    result = {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "done"}
    more, reason = answer(
        real, messages=[*MESSAGES, message, result], tools=TOOLS, temperature=0, max_tokens=20
    )
    assert more["content"] or more["tool_calls"]
    assert reason in ("stop", "length", "tool_calls")
