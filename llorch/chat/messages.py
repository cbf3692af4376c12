"""The messages of a request, checked: every fault is named, and what comes out is what templates expect."""

from __future__ import annotations

import json
from typing import Any

from llorch.errors import FieldError, RequestError
from llorch.fields.kinds import described

MAX_MESSAGES = 4096
MAX_PARTS = 1024
MAX_CALLS = 128
MAX_NAME_CHARS = 256

_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
"""What clients write, and what templates know."""


def checked_messages(value: object, name: str = "messages") -> list[dict[str, Any]]:
    """The messages as templates expect them: texts joined, arguments as objects, nothing that no template knows.

    Args:
        value: as the client sent it.
        name: of the field.

    Raises:
        RequestError: with every fault.
    """
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_MESSAGES:
        rule = f"a list of 1..{MAX_MESSAGES} messages"
        raise RequestError([FieldError(name, rule, f"{name}: expected {rule}; got {described(value)}")])
    check = _Check()
    messages = [check.message(message, f"{name}[{i}]") for i, message in enumerate(value)]
    if check.faults:
        raise RequestError(check.faults)
    return messages


class _Check:
    """Reads messages and collects what is wrong with them."""

    def __init__(self) -> None:
        self.faults: list[FieldError] = []

    def fault(self, field: str, rule: str, value: object) -> None:
        self.faults.append(FieldError(field, rule, f"{field}: expected {rule}; got {described(value)}"))

    def message(self, value: object, field: str) -> dict[str, Any]:
        """One message."""
        if not isinstance(value, dict):
            self.fault(field, 'an object with "role" and "content"', value)
            return {}
        role = value.get("role")
        if not isinstance(role, str) or role not in _ROLES:
            names = ", ".join(_ROLES)
            got = "another word" if isinstance(role, str) else described(role)
            rule = f"one of {names}"
            self.faults.append(FieldError(f"{field}.role", rule, f"{field}.role: expected {rule}; got {got}"))
            return {}
        message: dict[str, Any] = {"role": _ROLES[role]}
        calls = value.get("tool_calls") if role == "assistant" else None
        may_be_null = role == "assistant"
        message["content"] = self.content(value.get("content"), f"{field}.content", may_be_null)
        if calls is not None and calls != []:
            message["tool_calls"] = self.calls(calls, f"{field}.tool_calls")
        keys = ["name", *(["tool_call_id"] if role == "tool" else ())]
        if role == "assistant":
            keys.append("reasoning_content")
        for key in keys:
            if (text := value.get(key)) is not None:
                limit = None if key == "reasoning_content" else MAX_NAME_CHARS
                message[key] = self.text(text, f"{field}.{key}", limit)
        return message

    def content(self, value: object, field: str, may_be_null: bool) -> str | None:
        """The text of a message, which may come in parts."""
        if value is None and may_be_null:
            return None
        if not isinstance(value, list):
            return self.text(value, field, None, 'a string, or a list of {"type": "text", "text": ...}')
        if len(value) > MAX_PARTS:
            self.fault(field, f"at most {MAX_PARTS} parts", value)
            return ""
        return "".join(self.part(part, f"{field}[{i}]") for i, part in enumerate(value))

    def part(self, value: object, field: str) -> str:
        """The text of one part."""
        rule = '{"type": "text", "text": ...}'
        if not isinstance(value, dict):
            self.fault(field, rule, value)
            return ""
        kind = value.get("type")
        if kind == "refusal":
            return self.text(value.get("refusal"), f"{field}.refusal", None)
        if kind != "text":
            known = (
                "image_url",
                "input_image",
                "image",
                "input_audio",
                "audio",
                "video",
                "video_url",
                "file",
            )
            got = f"{kind!r}, which this model cannot read" if kind in known else described(kind)
            self.faults.append(
                FieldError(f"{field}.type", '"text"', f'{field}.type: expected "text"; got {got}')
            )
            return ""
        return self.text(value.get("text"), f"{field}.text", None)

    def text(self, value: object, field: str, limit: int | None, rule: str = "a string") -> str:
        """A string without lone surrogates, of at most `limit` characters."""
        if not isinstance(value, str):
            self.fault(field, rule, value)
            return ""
        if limit is not None and len(value) > limit:
            self.fault(field, f"a string of at most {limit} characters", value)
            return ""
        try:
            value.encode()
        except UnicodeEncodeError:
            rule = "valid Unicode"
            self.faults.append(FieldError(field, rule, f"{field}: expected {rule}; got a lone surrogate"))
            return ""
        return value

    def calls(self, value: object, field: str) -> list[dict[str, Any]]:
        """What an earlier answer called."""
        if not isinstance(value, list) or len(value) > MAX_CALLS:
            self.fault(field, f"a list of at most {MAX_CALLS} calls", value)
            return []
        return [self.call(call, f"{field}[{i}]") for i, call in enumerate(value)]

    def call(self, value: object, field: str) -> dict[str, Any]:
        """One call of a function."""
        function = value.get("function") if isinstance(value, dict) else None
        if not isinstance(value, dict) or not isinstance(function, dict):
            self.fault(field, 'an object with "function"', value)
            return {}
        if value.get("type", "function") != "function":
            self.fault(f"{field}.type", '"function"', value["type"])
        call: dict[str, Any] = {"type": "function"}
        if value.get("id") is not None:
            call["id"] = self.text(value["id"], f"{field}.id", MAX_NAME_CHARS)
        call["function"] = {
            "name": self.text(function.get("name"), f"{field}.function.name", MAX_NAME_CHARS),
            "arguments": self.arguments(function.get("arguments"), f"{field}.function.arguments"),
        }
        return call

    def arguments(self, value: object, field: str) -> dict[str, Any]:
        """Arguments of a call: JSON in a string, as OpenAI's API has them, or an object."""
        rule = "an object, or a string that holds one as JSON"
        given = value
        if isinstance(value, str):
            try:
                value = json.loads(value, parse_constant=_no_constant) if value.strip() else {}
            except (ValueError, RecursionError):
                value = None
        if not isinstance(value, dict):
            self.fault(field, rule, given)
            return {}
        return value


def _no_constant(name: str) -> None:
    """Refuse NaN and the infinities, which JSON has not."""
    raise ValueError(name)
