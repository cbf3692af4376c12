"""A body of `POST /v1/responses` as a chat: its checked fields under the names that the chat route gives them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from llorch.errors import FieldError
from llorch.fields.kinds import described
from llorch.server.body import check_fields
from llorch.server.field_names import FieldNames
from llorch.server.routes.openai.responses.fields import RESPONSES, faults_of_others
from llorch.server.routes.openai.responses.items import read_turns
from llorch.server.routes.openai.structure import FREE, parse_structure

_TOOL_KEYS = ("name", "description", "parameters", "strict")
_OTHER_TOOLS = (
    "web_search", "web_search_preview", "file_search", "computer", "computer_use_preview", "code_interpreter",
    "image_generation", "local_shell", "shell", "apply_patch", "mcp", "custom", "namespace", "tool_search",
)  # fmt: skip
"""Types of OpenAI's tools that this server does not have; their names may be shown."""
_CHOICE_RULE = 'none, auto, required or {"type": "function", "name": ...}'
_FORMAT_RULE = "an object of type text, json_object or json_schema"
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}", re.ASCII)

NAMES = FieldNames(
    (r"^response_format(\.json_schema)?", "text.format"),
    (r"^(tools\[\d+\])\.function", r"\1"),
    (r"^tool_choice\.function", "tool_choice"),
    (r"^(messages|prompt|token_ids)\b", "input"),
    (r"^max_tokens$", "max_output_tokens"),
    (r"^job_id$", "id"),
)
"""Fields of the chat and of the engine, and what they are called here."""


def parse_response(body: Mapping[str, Any], max_prompt_chars: int) -> dict[str, Any]:
    """The fields given in a body of `POST /v1/responses`; `messages` and `structure` are those of the same chat.

    Raises:
        RequestError: with every fault of the body.
    """
    messages, faults = read_turns(body, max_prompt_chars)
    faults += faults_of_others(body)
    chat: dict[str, Any] = {
        "tools": _chat_tools(body.get("tools")),
        "tool_choice": _chat_choice(body.get("tool_choice"), faults),
        "response_format": _chat_format(body.get("text"), faults),
        "parallel_tool_calls": body.get("parallel_tool_calls"),
    }
    found: list[FieldError] = []
    structure = parse_structure(chat, found, has_tools=True)
    faults += (_with_kind(NAMES.fault(fault), body.get("tools")) for fault in found)
    given = check_fields(body, RESPONSES, more_faults=faults, ignores_unknown=True)
    return {**given, "messages": messages, **({} if structure == FREE else {"structure": structure})}


def _chat_tools(value: Any) -> Any:
    """`tools` as chats spell them: what describes a function stands in an object of its own."""
    return [_chat_tool(tool) for tool in value] if isinstance(value, list) else value


def _chat_tool(tool: Any) -> Any:
    if not isinstance(tool, dict) or tool.get("type") != "function":
        return tool
    return {
        "type": "function",
        "function": {key: tool[key] for key in _TOOL_KEYS if tool.get(key) is not None},
    }


def _with_kind(fault: FieldError, tools: Any) -> FieldError:
    """`fault`, which also names the tool of OpenAI's that was asked for, if it is about that."""
    place = re.fullmatch(r"tools\[(\d+)\]\.type", fault.field)
    tool = tools[int(place[1])] if place else None
    if not isinstance(tool, dict) or tool.get("type") not in _OTHER_TOOLS:
        return fault
    message = f"{fault.message}; got {tool['type']!r}, which this server does not have"
    return dataclasses.replace(fault, message=message)


def _chat_choice(value: Any, faults: list[FieldError]) -> Any:
    if isinstance(value, dict) and value.get("type") == "function" and isinstance(value.get("name"), str):
        return {"type": "function", "function": {"name": value["name"]}}
    if value is None or value in ("none", "auto", "required"):
        return value
    message = f"tool_choice: expected {_CHOICE_RULE}; got {described(value)}"
    faults.append(FieldError("tool_choice", _CHOICE_RULE, message))
    return None


def _chat_format(value: Any, faults: list[FieldError]) -> Any:
    """`text.format` as the `response_format` of a chat; None if it binds nothing."""
    if value is None:
        return None
    if not isinstance(value, dict):
        message = f"text: expected an object with format; got {described(value)}"
        faults.append(FieldError("text", "an object with format", message))
        return None
    shape = value.get("format")
    kind = shape.get("type") if isinstance(shape, dict) else None
    if shape is None or kind == "text":
        return None
    if kind == "json_object":
        return {"type": "json_object"}
    if kind != "json_schema":
        message = f"text.format: expected {_FORMAT_RULE}; got {described(shape)}"
        faults.append(FieldError("text.format", _FORMAT_RULE, message))
        return None
    name = shape.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        rule = "1..64 letters, digits, _ and -"
        message = f"text.format.name: expected {rule}; got {described(name)}"
        faults.append(FieldError("text.format.name", rule, message))
    return {
        "type": "json_schema",
        "json_schema": {"schema": shape.get("schema"), "strict": shape.get("strict")},
    }
