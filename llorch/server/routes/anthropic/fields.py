"""The fields that Anthropic's routes take; others (`metadata`, `thinking`, ...) are ignored."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from llorch.chat.messages import MAX_MESSAGES
from llorch.chat.tools import MAX_TOOLS
from llorch.fields.field import Field
from llorch.fields.kinds import BOOLEAN, integer, number
from llorch.fields.table import FIELDS
from llorch.server.body import object_schema
from llorch.server.openapi import GENERATED, WITHOUT_TOOLS, json_body, properties, refusals
from llorch.server.routes.openai.kinds import looked_at_elsewhere

_NAME = {"type": "string", "pattern": "^[a-zA-Z0-9_-]{1,64}$"}
_TOOLS = looked_at_elsewhere(
    "a list of tools with name and input_schema",
    {
        "type": "array",
        "maxItems": MAX_TOOLS,
        "items": {
            "type": "object",
            "properties": {
                "type": {"enum": ["custom", None]},
                "name": _NAME,
                "description": {"type": ["string", "null"]},
                "input_schema": {"type": "object"},
            },
            "required": ["name", "input_schema"],
        },
    },
)
_CHOICE = looked_at_elsewhere(
    "an object of type auto, any, none or tool",
    # The name of a tool must be one of `tools`, which no schema can say.
    {
        "type": "object",
        "properties": {
            "type": {"enum": ["auto", "none"]},
            "disable_parallel_tool_use": {"type": ["boolean", "null"]},
        },
        "required": ["type"],
    },
)
PROMPT = {entry.name: entry for entry in (
    Field("tools", _TOOLS, None, words="functions that the model may call"),
    Field("tool_choice", _CHOICE, None, words="`auto`, the default, `any`, `none`, or the `tool` that must be called"),
)}  # fmt: skip
"""Fields that the prompt depends on, beside the messages."""
MESSAGES = {entry.name: entry for entry in (
    *PROMPT.values(),
    Field("max_tokens", integer(1), None, words="most tokens to generate"),
    Field("temperature", number(0, 1), 1.0, words="0 takes the most probable token each time"),
    FIELDS["top_k"],
    FIELDS["top_p"],
    dataclasses.replace(FIELDS["stop"], name="stop_sequences"),
    Field("stream", BOOLEAN, False, words="named events"),
    dataclasses.replace(FIELDS["timeout_s"], name="timeout"),
    FIELDS["receipt"],
)}  # fmt: skip

_PART = properties(text="string") | {"required": ["type", "text"]}
_PART["properties"]["type"] = {"const": "text"}
_TEXT: dict[str, Any] = {"anyOf": [{"type": "string"}, {"type": "array", "items": _PART}]}
_SYSTEM = {"anyOf": [*_TEXT["anyOf"], {"type": "null"}]}
_TURN = properties(role="string", content="string")
_TURN["properties"] = {"role": {"enum": ["user", "assistant"]}, "content": _TEXT}


def operation(known: Mapping[str, Field], answer: dict[str, Any]) -> dict[str, Any]:
    """Keywords of a route that takes the fields `known`."""
    required = known.keys() & {"max_tokens"}
    schema = object_schema(known, required) | {"additionalProperties": True, "allOf": [WITHOUT_TOOLS]}
    turns = {"type": "array", "minItems": 1, "maxItems": MAX_MESSAGES, "items": _TURN}
    schema["required"].append("messages")
    schema["properties"] |= {"messages": turns, "system": _SYSTEM}
    errors = refusals(GENERATED, {0: properties(type="string", error="object")})
    return {"responses": {200: answer, **errors}, "openapi_extra": json_body(schema)}
