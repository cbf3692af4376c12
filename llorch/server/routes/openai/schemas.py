"""OpenAPI's descriptions of OpenAI's routes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from llorch.chat.messages import MAX_MESSAGES
from llorch.fields.field import Field
from llorch.server.body import object_schema
from llorch.server.openapi import (
    ASKED,
    GENERATED,
    POSTED,
    WITHOUT_TOOLS,
    json_body,
    properties,
    refusals,
    stream_or_json,
)
from llorch.server.routes.openai.constraints import CONSTRAINTS
from llorch.server.routes.openai.kinds import MAX_PROMPTS
from llorch.server.routes.openai.responses.fields import LOGPROBS

_ERROR = {
    "type": "object",
    "properties": {
        "error": properties(
            message="string", type="string", param=["string", "null"], code=["string", "null"]
        )
    },
    "required": ["error"],
}
_ERRORS = {0: _ERROR}
_TEXT_PART = {
    "type": "object",
    "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
    "required": ["type", "text"],
}
_MESSAGE = {
    "type": "object",
    "properties": {
        "role": {"enum": ["system", "developer", "user", "assistant", "tool"]},
        "content": {"anyOf": [{"type": "string"}, {"type": "array", "items": _TEXT_PART}, {"type": "null"}]},
    },
    "required": ["role"],
    "anyOf": [
        {"properties": {"content": {"type": ["string", "array"]}}, "required": ["content"]},
        {"properties": {"role": {"const": "assistant"}}},
    ],
}
_MESSAGES = {
    "type": "array",
    "minItems": 1,
    "maxItems": MAX_MESSAGES,
    "items": _MESSAGE,
    "description": "the chat so far; contents are text, whole or in parts",
}
_ANSWER = properties(
    id="string",
    object="string",
    created="integer",
    model="string",
    system_fingerprint="string",
    choices="array",
    usage="object",
)
_MODEL = properties(
    id="string", object="string", created="integer", owned_by="string", max_model_len="integer"
)


def _with(**fields: dict[str, Any]) -> dict[str, Any]:
    """Bodies in which these fields, where they are given, have values of these schemas."""
    return {"properties": fields}


_UNBOUND: dict[str, dict[str, Any]] = {
    name: {"enum": [None, "", [], {}]}
    for name in CONSTRAINTS
    if name not in ("response_format", "json_schema")
} | {
    "response_format": {"anyOf": [{"type": "null"}, _with(type={"const": "text"})]},
    "json_schema": {"enum": [None, {}]},
}
"""Values of the fields that bind an answer with which they do not."""
_BESIDE_TOOLS = ("response_format", "json_schema", "guided_json")
"""Those that may stand beside tools: the answer is calls or the document."""
_END_RULE = [
    _with(ignore_eos={"enum": [False, None]}, min_tokens={"enum": [0, None]}),
    _with(**_UNBOUND, tool_choice={"enum": ["none", "auto", None]}),
]
"""A grammar says itself where the answer ends."""
_ONE_RULE = [
    _with(**{name: schema for name, schema in _UNBOUND.items() if name != bound}) for bound in _UNBOUND
]
"""At most one field binds the answer."""

_TEXT_OR_TOOLS = [
    _with(tools={"anyOf": [{"type": "null"}, {"maxItems": 0}]}),
    {**_with(tool_choice={"const": "none"}), "required": ["tool_choice"]},
    _with(**{name: schema for name, schema in _UNBOUND.items() if name not in _BESIDE_TOOLS}),
]
"""A grammar, an expression or a choice binds the whole answer, calls too."""

_NO_FORMAT = _with(format={"anyOf": [{"type": "null"}, _with(type={"const": "text"})]})
_RESPONSE_END_RULE = [
    _END_RULE[0],
    _with(text={"anyOf": [{"type": "null"}, _NO_FORMAT]}, tool_choice={"enum": ["none", "auto", None]}),
]
"""The same of responses."""
_TOOL_RULES = [
    [
        _with(tool_choice={"enum": ["none", "auto", None]}),
        {**_with(tools={"type": "array", "minItems": 1}), "required": ["tools"]},
    ],
    [WITHOUT_TOOLS, {**_with(tool_choice={"const": "none"}), "required": ["tool_choice"]}],
]
"""Only tools that there are, of a model that knows them, can be called."""


def _posted(
    known: Mapping[str, Field],
    required: Collection[str],
    own: Mapping[str, Any],
    rules: list[list[dict[str, Any]]],
    words: str,
) -> dict[str, Any]:
    """Keywords of a route.

    Args:
        known: fields of its body that the table has.
        required: those of them that must be there.
        own: schemas of other fields, all required.
        rules: about several fields together; a body fits at least one schema of each.
        words: about its answer.
    """
    schema = object_schema(known, required)
    schema["properties"] |= own
    schema["required"] = [*required, *own]
    return _operation(schema, [*rules, _END_RULE, _ONE_RULE], stream_or_json(words, _ANSWER))


def _operation(
    schema: dict[str, Any], rules: list[list[dict[str, Any]]], answer: dict[str, Any]
) -> dict[str, Any]:
    """Keywords of a route whose bodies have this schema and fit at least one of each of `rules`."""
    schema |= {"additionalProperties": True, "allOf": [{"anyOf": schemas} for schemas in rules]}
    responses = {200: answer, **refusals(GENERATED, _ERRORS)}
    return {"responses": responses, "openapi_extra": json_body(schema)}


def completion_operation(known: Mapping[str, Field]) -> dict[str, Any]:
    """Keywords of the route `POST /v1/completions`, which takes the fields `known`."""
    words = "A `text_completion`; with `stream` its chunks, then `[DONE]`"
    tokens_or_echo = [_with(max_tokens={"not": {"const": 0}}), _is_true("echo")]
    few_choices = [
        _with(prompt={"anyOf": [{"type": "string"}, {"items": {"type": "integer"}}, {"maxItems": 1}]}),
        *(
            _with(prompt={"maxItems": n}, n={"anyOf": [{"maximum": MAX_PROMPTS // n}, {"type": "null"}]})
            for n in (4, 8, 16, 32, MAX_PROMPTS)
        ),
    ]
    return _posted(known, ("prompt",), {}, [tokens_or_echo, few_choices], words)


def chat_operation(known: Mapping[str, Field]) -> dict[str, Any]:
    """Keywords of the route `POST /v1/chat/completions`, which takes `messages` and the fields `known`."""
    words = "A `chat.completion`; with `stream` its chunks, then `[DONE]`"
    top_with_logprobs = [_with(top_logprobs={"enum": [0, None]}), _is_true("logprobs")]
    rules = [top_with_logprobs, *_TOOL_RULES, _TEXT_OR_TOOLS]
    return _posted(known, (), {"messages": _MESSAGES}, rules, words)


def embedding_operation(known: Mapping[str, Field]) -> dict[str, Any]:
    """Keywords of the route `POST /v1/embeddings`, which takes the fields `known`."""
    schema = object_schema(known, ("input",))
    schema["additionalProperties"] = True
    found = {"schema": properties(object="string", data="array", model="string", usage="object")}
    answer = {"description": "A `list` of `embedding`", "content": {"application/json": found}}
    return {"responses": {200: answer, **refusals(GENERATED, _ERRORS)}, "openapi_extra": json_body(schema)}


def prompt_schema(known: Mapping[str, Field]) -> dict[str, Any]:
    """JSON schema of a body that says the prompt of a chat: it has `messages` and the fields `known`."""
    schema = object_schema(known)
    schema["properties"]["messages"] = _MESSAGES
    schema |= {"required": ["messages"], "additionalProperties": True}
    schema["allOf"] = [{"anyOf": schemas} for schemas in (*_TOOL_RULES, _TEXT_OR_TOOLS, _ONE_RULE)]
    return schema


def response_operation(known: Mapping[str, Field]) -> dict[str, Any]:
    """Keywords of the route `POST /v1/responses`, which takes the fields `known`."""
    words = "A `response`; with `stream` the events that make it"
    answer = properties(id="string", object="string", status="string", output="array", usage="object")
    asks_logprobs = {"type": "array", "contains": {"const": LOGPROBS}}
    top_with_logprobs = [
        _with(top_logprobs={"enum": [0, None]}),
        {**_with(include=asks_logprobs), "required": ["include"]},
    ]
    rules = [top_with_logprobs, *_TOOL_RULES, _RESPONSE_END_RULE]
    return _operation(object_schema(known, ("input",)), rules, stream_or_json(words, answer))


def counted_response_operation(known: Mapping[str, Field]) -> dict[str, Any]:
    """Keywords of the route that counts the tokens of a response's prompt, which takes the fields `known`."""
    schema = object_schema(known, ("input",)) | {"additionalProperties": True}
    schema["allOf"] = [{"anyOf": schemas} for schemas in _TOOL_RULES]
    return _counted(schema)


def counted_operation(known: Mapping[str, Field]) -> dict[str, Any]:
    """Keywords of a route that counts the tokens of a chat: it takes `messages` and the fields `known`."""
    return _counted(prompt_schema(known))


def _counted(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Keywords of a route that counts tokens, and whose bodies have this schema."""
    counted = {"schema": properties(object="string", input_tokens="integer")}
    answer = {"description": "How many there are", "content": {"application/json": counted}}
    return {"responses": {200: answer, **refusals(POSTED, _ERRORS)}, "openapi_extra": json_body(schema)}


def _is_true(name: str) -> dict[str, Any]:
    return {**_with(**{name: {"const": True}}), "required": [name]}


def _asked(schema: Mapping[str, Any], *statuses: int) -> dict[str, Any]:
    answer = {"description": "What there is", "content": {"application/json": {"schema": schema}}}
    return {"responses": {200: answer, **refusals((*ASKED, *statuses), _ERRORS)}}


MODEL_OPERATION = _asked(_MODEL, 404)
"""Keywords of the route `GET /v1/models/{model}`."""
MODELS_OPERATION = _asked(
    {
        "type": "object",
        "properties": {"object": {"const": "list"}, "data": {"type": "array", "items": _MODEL}},
        "required": ["object", "data"],
    }
)
"""Keywords of the route `GET /v1/models`."""
