"""OpenAPI's descriptions of OpenAI's routes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from llorch.fields.table import Field
from llorch.server.body import object_schema

_ERROR = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
            "required": ["message", "type", "param", "code"],
        }
    },
    "required": ["error"],
}
_ERROR_WORDS = {
    400: "What is wrong with the request: all of it in the message, the first field at fault as `param`",
    401: "The API key is missing or wrong",
    403: "The Host header names another server",
    408: "The body did not arrive",
    413: "The body is too large",
    415: "The body is no JSON by its Content-Type",
    500: "The server failed",
    503: "Not ready, or too many requests are waiting; Retry-After says when to come back",
}


def _errors(*statuses: int, **more: str) -> dict[int | str, dict[str, Any]]:
    words = {
        **{status: _ERROR_WORDS[status] for status in statuses},
        **{int(k[1:]): v for k, v in more.items()},
    }
    return {
        status: {"description": description, "content": {"application/json": {"schema": _ERROR}}}
        for status, description in words.items()
    }


def _posted(
    known: Mapping[str, Field], required: Collection[str], extra: Mapping[str, Any], words: str
) -> dict[str, Any]:
    schema = object_schema(known, required)
    schema["properties"] |= extra
    schema["required"] = [*required, *extra]
    schema["additionalProperties"] = True
    body = {"required": True, "content": {"application/json": {"schema": schema}}}
    answer = {"description": words, "content": {"application/json": {}, "text/event-stream": {}}}
    return {
        "responses": {200: answer, **_errors(400, 401, 403, 408, 413, 415, 500, 503)},
        "openapi_extra": {"requestBody": body},
    }


def completion_operation(known: Mapping[str, Field]) -> dict[str, Any]:
    """Keywords of the route `POST /v1/completions`."""
    return _posted(known, ("prompt",), {}, "A `text_completion`; with `stream` its chunks, then `[DONE]`")


_PART = {
    "type": "object",
    "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
    "required": ["type", "text"],
}
_MESSAGES = {
    "type": "array",
    "minItems": 1,
    "description": "the chat so far; contents are text, whole or in parts",
    "items": {
        "type": "object",
        "properties": {
            "role": {"enum": ["system", "developer", "user", "assistant", "tool"]},
            "content": {"anyOf": [{"type": "string"}, {"type": "array", "items": _PART}, {"type": "null"}]},
        },
        "required": ["role", "content"],
    },
}


def chat_operation(known: Mapping[str, Field]) -> dict[str, Any]:
    """Keywords of the route `POST /v1/chat/completions`."""
    words = "A `chat.completion`; with `stream` its chunks, then `[DONE]`"
    return _posted(known, (), {"messages": _MESSAGES}, words)


MODELS_OPERATION: dict[str, Any] = {"responses": _errors(401, 403, 500, 503)}
MODEL_OPERATION: dict[str, Any] = {
    "responses": _errors(401, 403, 500, 503, _404="There is no model of this name")
}
