"""The tools of a request and its choice among them, checked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from llorch.chat.schema_bounds import bounds_fault
from llorch.errors import FieldError

MAX_TOOLS = 128
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}", re.ASCII)
_NAME_RULE = "1..64 letters, digits, _ and -"
_NO_ARGUMENTS: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call.

    Attributes:
        index: its place among the tools of the request.
        name: its name.
        schema: JSON schema of its arguments, an object.
        is_strict: the arguments must satisfy every word of the schema.
    """

    index: int
    name: str
    schema: dict[str, Any]
    is_strict: bool


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Whether tools are called: ``"none"``, ``"auto"``, or ``"required"``, then perhaps this one of them."""

    mode: Literal["none", "auto", "required"]
    name: str | None = None

    def allowed(self, tools: Sequence[Tool]) -> tuple[Tool, ...]:
        """The tools that may be called."""
        if self.mode == "none":
            return ()
        return tuple(tool for tool in tools if self.name in (None, tool.name))


def parse_tools(value: Any, faults: list[FieldError]) -> tuple[Tool, ...]:
    """The tools of a request; what is wrong with them is appended to `faults`.

    Args:
        value: the field `tools`, a JSON value.
        faults: of the request.
    """
    if not isinstance(value, list):
        faults.append(FieldError("tools", "a list of tools", "tools: expected a list"))
        return ()
    if len(value) > MAX_TOOLS:
        message = f"tools: at most {MAX_TOOLS} are possible, got {len(value)}"
        faults.append(FieldError("tools", f"at most {MAX_TOOLS} tools", message))
        return ()
    if fault := bounds_fault(value):
        faults.append(FieldError("tools", "tools of a bounded size", f"tools: {fault}"))
        return ()
    found = [_parse_tool(i, item, faults) for i, item in enumerate(value)]
    tools = tuple(tool for tool in found if tool is not None)
    names = set[str]()
    for tool in tools:
        if tool.name in names:
            field = f"tools[{tool.index}].function.name"
            faults.append(FieldError(field, "a name of its own", f"{field}: another tool has this name"))
        names.add(tool.name)
    return tools


def parse_tool_choice(value: Any, tools: Sequence[Tool], faults: list[FieldError]) -> ToolChoice:
    """The choice of a request; what is wrong with it is appended to `faults`.

    Args:
        value: the field `tool_choice`, a JSON value; None: ``"auto"`` if there are tools.
        tools: of the request.
        faults: of the request.
    """
    if value is None:
        return ToolChoice("auto" if tools else "none")
    if value in ("none", "auto", "required"):
        if value == "required" and not tools:
            faults.append(
                FieldError("tool_choice", "tools to choose from", "tool_choice: there are no tools")
            )
        return ToolChoice(value if tools else "none")
    rule = 'none, auto, required or {"type": "function", "function": {"name": ...}}'
    function = value.get("function") if isinstance(value, dict) and value.get("type") == "function" else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str):
        faults.append(FieldError("tool_choice", rule, f"tool_choice: expected {rule}"))
    elif name not in {tool.name for tool in tools}:
        message = "tool_choice: no tool has this name"
        faults.append(FieldError("tool_choice.function.name", "the name of a tool", message))
    else:
        return ToolChoice("required", name)
    return ToolChoice("none")


def _parse_tool(index: int, value: Any, faults: list[FieldError]) -> Tool | None:
    place = f"tools[{index}]"

    def refuse(field: str, rule: str) -> None:
        faults.append(FieldError(field, rule, f"{field}: expected {rule}"))

    if not isinstance(value, dict) or value.get("type") != "function":
        refuse(f"{place}.type", '"function"')
        return None
    function = value.get("function")
    if not isinstance(function, dict):
        refuse(f"{place}.function", "an object")
        return None
    n_before = len(faults)
    name, schema = function.get("name"), function.get("parameters")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        refuse(f"{place}.function.name", _NAME_RULE)
    if not isinstance(function.get("description"), str | None):
        refuse(f"{place}.function.description", "a string")
    if not isinstance(function.get("strict"), bool | None):
        refuse(f"{place}.function.strict", "true or false")
    if schema is None or schema == {}:
        schema = _NO_ARGUMENTS
    if not isinstance(schema, dict) or schema.get("type", "object") != "object":
        refuse(f"{place}.function.parameters", "a schema of type object")
    if len(faults) > n_before:
        return None
    assert isinstance(name, str)
    return Tool(index, name, {"type": "object", **schema}, function.get("strict") is True)
