"""The `openai` client: `responses`, whose every answer and event must be one of its own models."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, get_args

import jsonschema
import openai
import pydantic
from openai.types.responses import Response, ResponseStreamEvent

from tools.conformance.checks import Check, Target, expect, expect_equal, expect_error, main
from tools.conformance.clients.openai_session import client_of
from tools.conformance.clients.openai_structure import SCHEMA, Place
from tools.conformance.clients.openai_structure import WEATHER as CHAT_WEATHER

WEATHER: dict[str, Any] = {"type": "function", **CHAT_WEATHER["function"], "strict": True}
TIME: dict[str, Any] = {"type": "function", "name": "get_time", "parameters": None, "strict": None}
NAMED = {"type": "function", "name": "get_weather"}
ASK_WEATHER: list[dict[str, Any]] = [{"role": "user", "content": "What is the weather in Paris?"}]
HI: dict[str, Any] = {"input": "Say hi.", "max_output_tokens": 12, "temperature": 0}
EVENTS: dict[str, type[pydantic.BaseModel]] = {
    get_args(model.model_fields["type"].annotation)[0]: model
    for model in get_args(get_args(ResponseStreamEvent)[0])
}
"""The client's model of each type of event."""


def _whole(target: Target, **fields: Any) -> Response:
    """A response, whose bytes are what the client's model says to the letter."""
    raw = client_of(target).responses.with_raw_response.create(model=target.model, **fields)
    Response.model_validate_json(raw.text, strict=True)
    response: Response = raw.parse()
    return response


def _events(target: Target, **fields: Any) -> list[Any]:
    """The events of a stream, each of which is what the client's model of its type says."""
    create = client_of(target).responses.with_streaming_response.create
    found: list[Any] = []
    with create(model=target.model, stream=True, **fields) as answer:
        for line in answer.iter_lines():
            if line.startswith("data:"):
                data = line.removeprefix("data:")
                found.append(EVENTS[json.loads(data)["type"]].model_validate_json(data, strict=True))
    expect_equal("numbers", [event.sequence_number for event in found], list(range(len(found))))
    return found


def _bare(items: Sequence[Any]) -> list[dict[str, Any]]:
    """Output items without their names, which are new in every answer."""
    return [item.model_dump(exclude={"id", "call_id"}) for item in items]


def text(target: Target) -> None:
    """A text is answered; the answer counts its tokens and says why it ended."""
    first, second = _whole(target, **HI), _whole(target, **HI)
    expect_equal("the same request again", second.output_text, first.output_text)
    expect(first.status in ("completed", "incomplete"), f"status {first.status!r}")
    usage = second.usage
    expect_equal("total_tokens", usage.total_tokens, usage.input_tokens + usage.output_tokens)
    expect(0 < usage.output_tokens <= 12, f"output_tokens {usage.output_tokens}")
    cached = usage.input_tokens_details.cached_tokens
    expect(0 <= cached < usage.input_tokens, f"cached_tokens {cached}")
    count = client_of(target).responses.input_tokens.count(model=target.model, input=HI["input"])
    expect_equal("input_tokens", count.input_tokens, usage.input_tokens)


def as_chat(target: Target) -> None:
    """Instructions and items are answered as the same messages of a chat."""
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": "One "}, {"type": "input_text", "text": "word."}]},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "Another."},
    ]  # fmt: skip
    response = _whole(
        target, **{**HI, "input": items}, instructions="Be terse.", store=False, metadata={"a": "b"}
    )
    messages = [
        {"role": "system", "content": "Be terse."}, {"role": "user", "content": "One word."}, *items[1:]
    ]  # fmt: skip
    twin = client_of(target).chat.completions.create(
        model=target.model, messages=messages, max_tokens=12, temperature=0
    )
    expect_equal("text", response.output_text, twin.choices[0].message.content)
    expect_equal("input_tokens", response.usage.input_tokens, twin.usage.prompt_tokens)
    expect_equal("metadata", response.metadata, {"a": "b"})


def stream(target: Target) -> None:
    """A stream has OpenAI's events in their order, and they make the whole answer."""
    whole, found = _whole(target, **HI), _events(target, **HI)
    kinds = [event.type for event in found]
    begun = ["created", "in_progress", "output_item.added", "content_part.added"]
    expect_equal("beginning", kinds[:4], [f"response.{name}" for name in begun])
    ended = ["output_text.done", "content_part.done", "output_item.done", whole.status]
    expect_equal("end", kinds[-4:], [f"response.{name}" for name in ended])
    expect_equal("between", set(kinds[4:-4]), {"response.output_text.delta"})
    expect_equal("text", "".join(event.delta for event in found[4:-4]), whole.output_text)
    expect_equal("output", _bare(found[-1].response.output), _bare(whole.output))
    expect_equal("output_tokens", found[-1].response.usage.output_tokens, whole.usage.output_tokens)


def logprobs(target: Target) -> None:
    """`include` and `top_logprobs` give the numbers of the same chat, whole and streamed."""
    asked = {**HI, "include": ["message.output_text.logprobs"], "top_logprobs": 3}
    part = _whole(target, **asked).output[0].content[0]
    twin = client_of(target).chat.completions.create(
        model=target.model, messages=[{"role": "user", "content": HI["input"]}], max_tokens=12, temperature=0,
        logprobs=True, top_logprobs=3,
    )  # fmt: skip
    entries = [entry.model_dump() for entry in part.logprobs]
    expect_equal("entries", entries, [one.model_dump() for one in twin.choices[0].logprobs.content])
    found = _events(target, **asked)
    deltas = [event for event in found if event.type == "response.output_text.delta"]
    streamed = [entry.logprob for event in deltas for entry in event.logprobs]
    expect_equal("streamed", streamed, [entry["logprob"] for entry in entries])
    expect_equal("last", found[-1].response.output[0].content[0].logprobs, part.logprobs)


def next_turn(target: Target) -> None:
    """The output of an answer goes back as it is, with the next question behind it."""
    question = {"role": "user", "content": "Say hi."}
    first = _whole(target, **{**HI, "input": [question]})
    turns = [question, *first.output, {"role": "user", "content": "Again."}]
    second = _whole(target, **{**HI, "input": turns})
    expect(second.usage.input_tokens > first.usage.total_tokens, "the earlier turns were not read")
    dumped = [item.model_dump() for item in first.output]
    third = _whole(target, **{**HI, "input": [question, *dumped, turns[-1]]})
    expect_equal("the same as dicts", third.output_text, second.output_text)


def structured(target: Target) -> None:
    """With a `json_schema` the answer is an instance of it; `parse` and `stream` give an instance of the class."""
    shape = {"format": {"type": "json_schema", "name": "place", "schema": SCHEMA, "strict": True}}
    ask: dict[str, Any] = {"input": "Say hi.", "text": shape, "max_output_tokens": 150}
    for fields in ({"temperature": 0}, {"temperature": 1.5, "extra_body": {"seed": 3}}):
        response = _whole(target, **ask, **fields)
        expect_equal("status", response.status, "completed")
        jsonschema.validate(json.loads(response.output_text), SCHEMA)
        last = _events(target, **ask, **fields)[-1]
        expect_equal("streamed", last.response.output_text, response.output_text)
    client = client_of(target)
    asked: dict[str, Any] = {"model": target.model, "input": "Say hi.", "text_format": Place}
    asked |= {"max_output_tokens": 60, "temperature": 0}
    parsed = client.responses.parse(**asked).output_parsed
    expect(isinstance(parsed, Place), "no instance came back")
    with client.responses.stream(**asked) as events:
        expect_equal("streamed instance", events.get_final_response().output_parsed, parsed)


def json_object(target: Target) -> None:
    """With `json_object` the answer is JSON, or its beginning where the tokens ran out."""
    ask = {**HI, "input": 'Answer with {"ok": true} in JSON.', "max_output_tokens": 80}
    response = _whole(target, **ask, text={"format": {"type": "json_object"}})
    expect(response.output_text.lstrip().startswith("{"), f"the answer is {response.output_text!r}")
    if response.status == "completed":
        expect(isinstance(json.loads(response.output_text), dict), "the answer is no object")


def tools(target: Target) -> None:
    """A tool is called by `required` and by its name, whole and streamed; its result is taken."""
    ask: dict[str, Any] = {"input": ASK_WEATHER, "tools": [WEATHER, TIME], "max_output_tokens": 120}
    ask["temperature"] = 0
    _whole(target, **ask, tool_choice="required")
    response = _whole(target, **ask, tool_choice=NAMED, parallel_tool_calls=False)
    (call,) = response.output
    expect_equal("call", (call.type, call.name, call.status), ("function_call", "get_weather", "completed"))
    jsonschema.validate(json.loads(call.arguments), WEATHER["parameters"])
    found = _events(target, **ask, tool_choice=NAMED, parallel_tool_calls=False)
    deltas = [event.delta for event in found if event.type == "response.function_call_arguments.delta"]
    expect_equal("streamed arguments", "".join(deltas), call.arguments)
    expect_equal("streamed output", _bare(found[-1].response.output), _bare(response.output))
    result = {"type": "function_call_output", "call_id": call.call_id, "output": '{"sky": "blue"}'}
    turns = [*ASK_WEATHER, *response.output, result]
    answer = _whole(target, **{**ask, "input": turns}, tool_choice="none")
    expect(bool(answer.output_text), "no words after the result")
    expect(all(item.type == "message" for item in answer.output), "a call in spite of `none`")
    auto = _whole(target, **ask)
    expect(auto.output[0].type in ("message", "function_call"), "neither text nor a call")


def refusals(target: Target) -> None:
    """What the server does not have, and what is wrong, is BadRequestError with the name of the field."""
    bad: list[tuple[str, dict[str, Any]]] = [
        ("previous_response_id", {"previous_response_id": "resp_1"}),
        ("background", {"background": True}),
        ("tools[0].type", {"tools": [{"type": "web_search"}]}),
        ("input[0].content[0].type", {"input": [{"role": "user", "content": [{"type": "input_image"}]}]}),
        ("input[0].type", {"input": [{"type": "item_reference", "id": "msg_1"}]}),
        ("temperature", {"temperature": 7}),
        ("tool_choice", {"tool_choice": "required"}),
        ("text.format.schema", {"text": {"format": {"type": "json_schema", "name": "x", "schema": {"type": "odd"}}}}),
    ]  # fmt: skip
    client = client_of(target)
    for param, fields in bad:
        body = {"model": target.model, **HI, **fields}
        error = expect_error(openai.BadRequestError, f"{fields}", client.responses.create, **body)
        expect_equal("param", error.param, param)
    expect_error(openai.NotFoundError, "a stored response", client.responses.retrieve, "resp_1")


def cancelled(target: Target) -> None:
    """A stream that is cancelled by the id of its response ends with its last event."""
    found = client_of(target).responses.create(
        model=target.model, input="Hi", stream=True, extra_body={"ignore_eos": True}
    )
    event = next(iter(found))
    target.post("/cancel", {"job_id": event.response.id})
    *_, last = found
    expect_equal("last event", last.type, "response.incomplete")
    expect_equal("status", last.response.status, "cancelled")


CHECKS: list[Check] = [
    text,
    as_chat,
    stream,
    logprobs,
    next_turn,
    structured,
    json_object,
    tools,
    refusals,
    cancelled,
]

if __name__ == "__main__":
    main(CHECKS)
