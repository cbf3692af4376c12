"""Calls in the messages of a chat, as clients send them back: checked, their arguments as objects."""

from __future__ import annotations

from typing import Any

from llorch.chat.tool_format import arguments_object
from llorch.errors import FieldError

MAX_CALLS = 128


def plain_calls(value: object, where: str, faults: list[FieldError]) -> list[dict[str, Any]]:
    """The calls of a message; what is wrong with them is appended to `faults`.

    Args:
        value: the message's `tool_calls`.
        where: name of that field.
        faults: of the request.
    """
    if not isinstance(value, list) or len(value) > MAX_CALLS:
        rule = f"a list of at most {MAX_CALLS} calls"
        faults.append(FieldError(where, rule, f"{where}: expected {rule}"))
        return []
    return [_plain_call(item, f"{where}[{i}]", faults) for i, item in enumerate(value)]


def _plain_call(value: Any, where: str, faults: list[FieldError]) -> dict[str, Any]:
    function = value.get("function") if isinstance(value, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    call_id = value.get("id") if isinstance(value, dict) else None
    if not isinstance(function, dict) or not isinstance(name, str):
        rule = 'a call: {"id", "type": "function", "function": {"name", "arguments"}}'
        faults.append(FieldError(where, rule, f"{where}: expected {rule}"))
        return {}
    arguments = arguments_object(function.get("arguments"))
    if not isinstance(arguments, dict):
        field, rule = f"{where}.function.arguments", "the JSON text of an object"
        faults.append(FieldError(field, rule, f"{field}: expected {rule}"))
    if not isinstance(call_id, str | None):
        faults.append(FieldError(f"{where}.id", "a string", f"{where}.id: expected a string"))
    shown_id = {"id": call_id} if isinstance(call_id, str) else {}
    return {**shown_id, "type": "function", "function": {"name": name, "arguments": arguments}}
