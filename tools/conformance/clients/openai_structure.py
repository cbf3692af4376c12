"""The `openai` client: JSON and JSON Schema as `response_format`, tools and what follows their calls."""

from __future__ import annotations

import json
from typing import Any, Literal

import jsonschema
import openai
import pydantic

from tools.conformance.checks import Check, Target, expect, expect_equal, expect_error, main
from tools.conformance.clients.openai_session import SAY_HI, client_of

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 12},
        "kind": {"enum": ["town", "village"]},
        "stars": {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 3},
        "inner": {
            "type": "object",
            "properties": {"a": {"const": 1}},
            "required": ["a"],
            "additionalProperties": False,
        },
    },
    "required": ["city", "kind", "stars", "inner"],
    "additionalProperties": False,
}
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "maxLength": 12},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
            },
            "required": ["city", "unit"],
            "additionalProperties": False,
        },
    },
}
TIME: dict[str, Any] = {
    "type": "function",
    "function": {"name": "get_time", "parameters": {"type": "object", "properties": {}}},
}
ASK_WEATHER: list[dict[str, Any]] = [{"role": "user", "content": "What is the weather in Paris?"}]
NAMED = {"type": "function", "function": {"name": "get_weather"}}


class Place(pydantic.BaseModel):
    """What `parse` is to return."""

    kind: Literal["town", "village"]
    is_old: bool


def json_schema(target: Target) -> None:
    """With `json_schema` the answer is an instance of the schema, greedy and sampled, streamed and whole."""
    client = client_of(target)
    shape = {"type": "json_schema", "json_schema": {"name": "place", "schema": SCHEMA, "strict": True}}
    ask: dict[str, Any] = {"model": target.model, "messages": SAY_HI, "response_format": shape}
    ask["max_tokens"] = 150
    for fields in ({"temperature": 0}, {"temperature": 1.5, "seed": 3}):
        choice = client.chat.completions.create(**ask, **fields).choices[0]
        expect_equal("finish_reason", choice.finish_reason, "stop")
        jsonschema.validate(json.loads(choice.message.content), SCHEMA)
        chunks = client.chat.completions.create(**ask, **fields, stream=True)
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        expect_equal("the streamed answer", text, choice.message.content)


def parsed(target: Target) -> None:
    """`parse` with a Pydantic model gives an instance of it."""
    completion = client_of(target).chat.completions.parse(
        model=target.model, messages=SAY_HI, response_format=Place, max_tokens=60, temperature=0
    )
    expect(isinstance(completion.choices[0].message.parsed, Place), "no instance came back")


def json_object(target: Target) -> None:
    """With `json_object` the answer is JSON, or its beginning where the tokens ran out."""
    choice = (
        client_of(target)
        .chat.completions.create(
            model=target.model,
            messages=[{"role": "user", "content": 'Answer with {"ok": true} in JSON.'}],
            response_format={"type": "json_object"},
            max_tokens=80,
            temperature=0,
        )
        .choices[0]
    )
    text = choice.message.content
    expect(text.lstrip().startswith("{"), f"the answer is {text!r}")
    if choice.finish_reason == "stop":
        expect(isinstance(json.loads(text), dict), f"the answer is {text!r}")


def bad_schemas(target: Target) -> None:
    """A schema that is none is BadRequestError."""
    client = client_of(target)
    for schema in ({"type": "no-such-type"}, {"$ref": "#/nowhere"}, {"type": "object", "properties": 3}):
        shape = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        expect_error(
            openai.BadRequestError,
            f"{schema}",
            client.chat.completions.create,
            model=target.model,
            messages=SAY_HI,
            response_format=shape,
            max_tokens=5,
        )


def _call_of(message: Any) -> tuple[str, dict[str, Any]]:
    expect(len(message.tool_calls or []) == 1, f"tool_calls is {message.tool_calls!r}")
    call = message.tool_calls[0]
    expect_equal("type of the call", call.type, "function")
    expect(bool(call.id), "the call has no id")
    return call.function.name, json.loads(call.function.arguments)


def named_tool(target: Target) -> None:
    """A tool that is asked for by name is called, with arguments of its schema, whole and streamed."""
    client = client_of(target)
    ask: dict[str, Any] = {"model": target.model, "messages": ASK_WEATHER, "tools": [WEATHER, TIME]}
    ask |= {"tool_choice": NAMED, "max_tokens": 120, "temperature": 0}
    choice = client.chat.completions.create(**ask).choices[0]
    name, arguments = _call_of(choice.message)
    expect_equal("name", name, "get_weather")
    jsonschema.validate(arguments, WEATHER["function"]["parameters"])
    names, text, ids, reasons = "", "", set(), []
    for chunk in client.chat.completions.create(stream=True, **ask):
        for streamed in chunk.choices:
            expect(not streamed.delta.content, f"content {streamed.delta.content!r} beside a call")
            reasons += [streamed.finish_reason] if streamed.finish_reason else []
            for call in streamed.delta.tool_calls or []:
                expect_equal("index", call.index, 0)
                ids |= {call.id} - {None}
                names += call.function.name or ""
                text += call.function.arguments or ""
    expect_equal("streamed call", (names, json.loads(text)), (name, arguments))
    expect_equal("number of call ids", len(ids), 1)
    expect_equal("finish_reason", reasons, [choice.finish_reason])


def tool_choices(target: Target) -> None:
    """`required` calls a tool and ends with `tool_calls`; `none` calls none; `auto` does either."""
    client = client_of(target)
    ask: dict[str, Any] = {"model": target.model, "messages": ASK_WEATHER, "tools": [WEATHER]}
    ask |= {"max_tokens": 120, "temperature": 0}
    required = client.chat.completions.create(tool_choice="required", **ask).choices[0]
    expect_equal("name", _call_of(required.message)[0], "get_weather")
    expect_equal("finish_reason", required.finish_reason, "tool_calls")
    none = client.chat.completions.create(tool_choice="none", **ask).choices[0]
    expect(not none.message.tool_calls, f"calls {none.message.tool_calls!r}")
    auto = client.chat.completions.create(**ask).choices[0]
    if auto.message.tool_calls:
        expect_equal("name", _call_of(auto.message)[0], "get_weather")
    else:
        expect(bool(auto.message.content), "neither text nor a call")


def tool_result(target: Target) -> None:
    """The result of a call goes back with its id, and the model answers in words."""
    client = client_of(target)
    ask: dict[str, Any] = {"model": target.model, "tools": [WEATHER], "max_tokens": 120, "temperature": 0}
    first = client.chat.completions.create(messages=ASK_WEATHER, tool_choice="required", **ask)
    message = first.choices[0].message
    result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": '{"sky": "blue"}'}
    messages = [*ASK_WEATHER, message.model_dump(exclude_none=True), result]
    answer = client.chat.completions.create(messages=messages, tool_choice="none", **ask)
    expect(bool(answer.choices[0].message.content), "no words")


def bad_tools(target: Target) -> None:
    """Tools that are none, and a choice that is not among them, are BadRequestError."""
    client = client_of(target)
    bad: list[dict[str, Any]] = [
        {"tools": [{"type": "function"}]},
        {"tools": [{"type": "function", "function": {"name": "a b!", "parameters": {}}}]},
        {"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "nothing"}}},
        {"tool_choice": "required"},
    ]
    for fields in bad:
        body: dict[str, Any] = {"model": target.model, "messages": SAY_HI, "max_tokens": 5, **fields}
        expect_error(openai.BadRequestError, f"{fields}", client.chat.completions.create, **body)


CHECKS: list[Check] = [
    json_schema,
    parsed,
    json_object,
    bad_schemas,
    named_tool,
    tool_choices,
    tool_result,
    bad_tools,
]

if __name__ == "__main__":
    main(CHECKS)
