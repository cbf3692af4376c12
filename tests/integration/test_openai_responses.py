"""`POST /v1/responses` of a real server: answers, streams, tools, structure, refusals."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.live_server import LiveServer
from tests.support.openai_client import fault, whole
from tests.support.responses import PATH, answered, calls_of, played, streamed, text_of

BODY: dict[str, Any] = {"model": "any", "input": "Hello there", "max_output_tokens": 6, "temperature": 0}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 8}, "is_old": {"type": "boolean"}},
    "required": ["name", "is_old"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "name": "place", "schema": SCHEMA, "strict": True}
TOOLS: list[dict[str, Any]] = [
    {"type": "function", "name": "set_colour", "parameters": {
        "type": "object", "properties": {"colour": {"enum": ["red", "blue"]}}, "required": ["colour"],
        "additionalProperties": False}, "strict": True},
    {"type": "function", "name": "stop", "description": "ends everything"},
]  # fmt: skip
CHAT_TOOLS = [
    {"type": "function", "function": {k: v for k, v in tool.items() if k != "type"}} for tool in TOOLS
]
CHOSEN = {"type": "function", "name": "set_colour"}
LOGPROBS = "message.output_text.logprobs"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    flags = ("-np", "4", "--chat-template", "chatml")
    server = LiveServer("demo", tmp_path_factory.mktemp("demo") / "log", *flags)
    yield server.wait_until_ready()
    assert "ERROR" not in server.log
    assert server.stop() == 0


def chat(server: LiveServer, *messages: dict[str, Any], **body: Any) -> Any:
    body = {"messages": messages, "max_tokens": 6, "temperature": 0, **body}
    return whole(server, "/v1/chat/completions", **body)


def test_a_text_is_answered_as_the_same_chat(server: LiveServer) -> None:
    response = answered(server, **BODY)
    twin = chat(server, {"role": "user", "content": "Hello there"})
    assert text_of(response) == twin["choices"][0]["message"]["content"]
    assert (response["object"], response["model"], response["store"]) == ("response", "tiny llama", False)
    assert (response["status"], response["error"]) == ("incomplete", None)
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    (item,) = response["output"]
    assert (item["type"], item["role"], item["status"]) == ("message", "assistant", "incomplete")
    usage = response["usage"]
    assert (usage["input_tokens"], usage["output_tokens"]) == (twin["usage"]["prompt_tokens"], 6)
    assert usage["total_tokens"] == usage["input_tokens"] + 6
    assert usage["output_tokens_details"] == {"reasoning_tokens": 0}
    again = answered(server, **BODY)["usage"]["input_tokens_details"]["cached_tokens"]
    assert 0 <= again < usage["input_tokens"]


def test_items_and_instructions_are_the_turns_of_the_chat(server: LiveServer) -> None:
    given = [
        {"role": "user", "content": [{"type": "input_text", "text": "Hello"}]},
        {"role": "assistant", "content": "Yes?"},
        {"type": "message", "role": "user", "content": "More"},
    ]
    response = answered(server, **{**BODY, "input": given, "instructions": "Be brief."})
    turns = [("system", "Be brief."), ("user", "Hello"), ("assistant", "Yes?"), ("user", "More")]
    twin = chat(server, *({"role": role, "content": text} for role, text in turns))
    assert text_of(response) == twin["choices"][0]["message"]["content"]
    assert response["instructions"] == "Be brief."


def test_a_stream_makes_the_whole_answer(server: LiveServer) -> None:
    response = played(streamed(server, **BODY))
    assert text_of(response) == text_of(answered(server, **BODY))
    assert response["usage"]["output_tokens"] == 6
    assert response["status"] == "incomplete"


def test_what_was_asked_for_stands_in_the_answer(server: LiveServer) -> None:
    asked = {**BODY, "top_p": 0.5, "metadata": {"a": "b"}, "parallel_tool_calls": False, "store": True}
    for response in (answered(server, **asked), played(streamed(server, **asked))):
        assert (response["temperature"], response["top_p"]) == (0, 0.5)
        assert (response["metadata"], response["max_output_tokens"]) == ({"a": "b"}, 6)
        assert (response["parallel_tool_calls"], response["store"]) == (False, False)
        assert (response["text"], response["tools"]) == ({"format": {"type": "text"}}, [])


def test_what_clients_always_send_and_what_changes_nothing_is_taken(server: LiveServer) -> None:
    more = {
        "store": False, "user": "ann", "service_tier": "auto", "safety_identifier": "x", "prompt_cache_key": "k",
        "include": ["reasoning.encrypted_content"], "truncation": "disabled", "background": False, "n": 1,
        "reasoning": {"effort": "low"}, "top_logprobs": 0, "max_tool_calls": 3, "previous_response_id": None,
        "stream_options": {"include_obfuscation": False}, "text": {"verbosity": "low"}, "tool_choice": "auto",
        "tools": [], "context_management": [], "grammar": "",
    }  # fmt: skip
    assert text_of(answered(server, **BODY, **more)) == text_of(answered(server, **BODY))


@pytest.mark.parametrize(
    ("more", "param", "words"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id", "nothing is stored"),
        ({"conversation": "conv_1"}, "conversation", "nothing is stored"),
        ({"background": True}, "background", "does not have"),
        ({"truncation": "auto"}, "truncation", "does not have"),
        ({"top_logprobs": 3}, "top_logprobs", "needs include"), ({"include": "x"}, "include", "a list of strings"),
        ({"top_logprobs": 21, "include": [LOGPROBS]}, "top_logprobs", "got 21"),
        ({"top_logprobs": 1, "include": [["x"]]}, "include[0]", "a list of strings"),
        ({"prompt": {"id": "p"}}, "prompt", "does not have"), ({"grammar": 'root ::= "a"'}, "grammar", "does not have"),
        ({"continue_final_message": True}, "continue_final_message", "does not have"),
        ({"max_tokens": 5}, "max_tokens", "does not have"), ({"n": 2}, "n", "does not have"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type", "'web_search', which this server does not have"),
        ({"tools": [{"type": "function"}]}, "tools[0].name", "letters"), ({"tools": 5}, "tools", "a list"),
        ({"tools": [*TOOLS, TOOLS[0]]}, "tools[2].name", "another tool"),
        ({"tools": [{**TOOLS[1], "strict": 5}]}, "tools[0].strict", "true"),
        ({"tool_choice": "required"}, "tool_choice", "no tools"),
        ({"tool_choice": {"type": "mcp"}}, "tool_choice", "got an object"),
        ({"tools": TOOLS, "tool_choice": {"type": "function", "name": "x"}}, "tool_choice.name", "no tool has"),
        ({"text": 5}, "text", "got 5"), ({"text": {"format": 5}}, "text.format", "got 5"),
        ({"text": {"format": {**FORMAT, "name": "a b"}}}, "text.format.name", "letters"),
        ({"text": {"format": {**FORMAT, "schema": 5}}}, "text.format.schema", "a JSON schema"),
        ({"text": {"format": {**FORMAT, "schema": {"type": "odd"}}}}, "text.format.schema", "odd"),
        ({"text": {"format": {**FORMAT, "strict": 5}}}, "text.format.strict", "true or false"),
        ({"max_output_tokens": 0}, "max_output_tokens", "got 0"), ({"temperature": 3}, "temperature", "got 3"),
        ({"stream": "yes"}, "stream", "true or false"), ({"metadata": {"a": 5}}, "metadata", "strings"),
        ({"metadata": {"a": "\ud800"}}, "metadata", "strings"), ({"instructions": ["a"]}, "instructions", "a string"),
        ({"input": None}, "input", "required"), ({"input": "x" * 40_000}, "input", "characters of all messages"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0].type", "nothing is stored"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_by_name(
    demo: LiveServer, more: dict[str, Any], param: str, words: str
) -> None:
    answer = demo.post(
        PATH, content=json.dumps({**BODY, **more}), headers={"Content-Type": "application/json"}
    )
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["param"]) == (400, "invalid_request_error", param), error
    assert words in error["message"]


def test_every_fault_is_named_at_once(server: LiveServer) -> None:
    status, error = fault(server, PATH, input=5, temperature="x", tools=5, text=5, stream="y", metadata=5)
    assert status == 400
    names = ("input", "temperature", "tools", "text", "stream", "metadata")
    assert all(f"{name}: " in error["message"] for name in names)


def test_a_prompt_that_does_not_fit_says_so_in_openais_words(demo: LiveServer) -> None:
    status, error = fault(demo, PATH, input="a b " * 8000)
    assert (status, error["code"], error["param"]) == (400, "context_length_exceeded", "input")


@pytest.mark.parametrize("temperature", [0, 1])
def test_an_answer_fits_its_schema_whole_and_streamed(demo: LiveServer, temperature: float) -> None:
    asked = {"input": "Describe a place.", "text": {"format": FORMAT}, "max_output_tokens": 200, "seed": 4}
    response = answered(demo, **asked, temperature=temperature)
    place = json.loads(text_of(response))
    assert list(place) == ["name", "is_old"]
    assert len(place["name"]) <= 8
    assert (response["status"], response["text"]) == ("completed", {"format": FORMAT})
    assert response["completed_at"] >= response["created_at"]
    found = played(streamed(demo, **asked, temperature=temperature))
    assert text_of(found) == text_of(response)
    begun = answered(demo, **{**asked, "text": {"format": {"type": "json_object"}}})
    assert text_of(begun).lstrip().startswith("{")


@pytest.mark.parametrize("choice", ["required", CHOSEN])
def test_a_tool_is_called_as_the_chat_would(demo: LiveServer, choice: Any) -> None:
    asked = {
        "input": "Stop it.",
        "max_output_tokens": 200,
        "temperature": 0,
        "tools": TOOLS,
        "tool_choice": choice,
    }
    response = answered(demo, **asked, parallel_tool_calls=False)
    found = played(streamed(demo, **asked, parallel_tool_calls=False))
    assert calls_of(found) == calls_of(response)
    chosen = choice if choice == "required" else {"type": "function", "function": {"name": choice["name"]}}
    message = chat(
        demo, {"role": "user", "content": "Stop it."}, max_tokens=200, tools=CHAT_TOOLS, tool_choice=chosen,
        parallel_tool_calls=False,
    )["choices"][0]["message"]  # fmt: skip
    function = message["tool_calls"][0]["function"]
    assert calls_of(response) == [(function["name"], json.loads(function["arguments"]))]
    assert (response["status"], response["tool_choice"]) == ("completed", choice)
    assert [tool["name"] for tool in response["tools"]] == ["set_colour", "stop"]


def test_the_output_of_a_call_goes_back_and_is_read_as_in_the_chat(demo: LiveServer) -> None:
    asked: dict[str, Any] = {"max_output_tokens": 60, "temperature": 0, "tools": TOOLS}
    first = answered(demo, input="Stop it.", tool_choice=CHOSEN, **asked)
    (call,) = first["output"]
    result = {"type": "function_call_output", "call_id": call["call_id"], "output": "done"}
    turns = [{"role": "user", "content": "Stop it."}, *first["output"], result]
    second = answered(demo, input=turns, tool_choice="none", **asked)
    function = {"name": call["name"], "arguments": call["arguments"]}
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "Stop it."},
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": call["call_id"], "type": "function", "function": function}]},
        {"role": "tool", "tool_call_id": call["call_id"], "content": "done"},
    ]  # fmt: skip
    twin = chat(demo, *messages, max_tokens=60, tools=CHAT_TOOLS, tool_choice="none")
    assert text_of(second) == twin["choices"][0]["message"]["content"]
    counted = demo.post(f"{PATH}/input_tokens", json={"input": turns, "tools": TOOLS, "tool_choice": "none"})
    assert counted.json() == {
        "object": "response.input_tokens",
        "input_tokens": second["usage"]["input_tokens"],
    }


def test_counting_refuses_what_the_prompt_cannot_be_made_of(demo: LiveServer) -> None:
    path = f"{PATH}/input_tokens"
    assert fault(demo, path, input="a", previous_response_id="resp_1")[1]["param"] == "previous_response_id"
    assert fault(demo, path, input=[5])[1]["param"] == "input[0]"
    assert demo.post(path, json={"input": "a", "temperature": 99}).status_code == 200


def test_cancelling_by_the_answers_id_ends_the_stream(server: LiveServer) -> None:
    body = {**BODY, "max_output_tokens": 60_000, "ignore_eos": True, "stream": True}
    data = b""
    with server.stream(PATH, json=body) as response:
        for piece in response.iter_bytes():
            if not data:
                created = json.loads(piece.decode().split("\n")[1].removeprefix("data: "))
                answer_id = created["response"]["id"]
                assert server.post("/cancel", json={"job_id": answer_id}).status_code == 200
            data += piece
    last = json.loads(data.decode().rstrip().rpartition("data: ")[2])
    assert (last["type"], last["response"]["status"]) == ("response.incomplete", "cancelled")
    assert last["response"]["incomplete_details"] is None


def test_a_receipt_stands_in_the_last_response(server: LiveServer) -> None:
    asked = {**BODY, "receipt": True}
    receipt, again = answered(server, **asked)["receipt"], played(streamed(server, **asked))["receipt"]
    assert receipt["logits"] == again["logits"]
    assert len(receipt["answer"]["token_ids"]) == 6


def test_what_is_stored_nowhere_is_not_found(server: LiveServer) -> None:
    for path in (f"{PATH}/resp_1", f"{PATH}/resp_1/input_items"):
        answer = server.get(path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    assert server.get(PATH).status_code == 405


@pytest.mark.smollm2
def test_a_real_model_calls_a_tool_and_answers_with_its_result(smollm2: Path, tmp_path: Path) -> None:
    server = LiveServer(smollm2, tmp_path / "log", "-np", "2").wait_until_ready()
    city = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 12}},
        "required": ["city"],
    }
    weather = {"type": "function", "name": "get_weather", "parameters": city}
    asked = {"tools": [weather], "max_output_tokens": 120, "temperature": 0}
    try:
        question = {"role": "user", "content": "What is the weather in Paris?"}
        first = played(streamed(server, input=[question], tool_choice="required", **asked))
        assert calls_of(first) == [("get_weather", {"city": "Paris"})]
        result = {
            "type": "function_call_output",
            "call_id": first["output"][0]["call_id"],
            "output": "blue sky",
        }
        second = answered(server, input=[question, *first["output"], result], tool_choice="none", **asked)
        assert "sky" in text_of(second)
    finally:
        assert server.stop() == 0
