"""The tools of a request: what is taken, and every fault named."""

from __future__ import annotations

from typing import Any

import pytest

from llorch.chat.tools import MAX_TOOLS, Tool, ToolChoice, parse_tool_choice, parse_tools
from llorch.errors import FieldError


def tool(name: str = "add", **function: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **function}}


def parsed(value: Any) -> tuple[tuple[Tool, ...], list[str]]:
    faults: list[FieldError] = []
    tools = parse_tools(value, faults)
    return tools, [fault.field for fault in faults]


def test_a_tool_has_a_name_and_a_schema_of_its_arguments() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    tools, faults = parsed([tool(parameters=schema, description="adds", strict=True), tool("now-1_B")])
    assert faults == []
    assert tools[0] == Tool(0, "add", schema, is_strict=True)
    assert tools[1].name == "now-1_B"
    assert tools[1].schema["additionalProperties"] is False  # no parameters: no arguments
    assert not tools[1].is_strict


def test_a_schema_without_a_type_is_one_of_an_object() -> None:
    tools, faults = parsed([tool(parameters={"properties": {}})])
    assert faults == []
    assert tools[0].schema == {"type": "object", "properties": {}}


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (5, "tools"),
        ({}, "tools"),
        ([tool(f"t{i}") for i in range(MAX_TOOLS + 1)], "tools"),
        ([tool(description="x" * 5000)], "tools"),
        ([5], "tools[0].type"),
        ([{"function": {"name": "a"}}], "tools[0].type"),
        ([{"type": "web_search", "function": {"name": "a"}}], "tools[0].type"),
        ([{"type": "function"}], "tools[0].function"),
        ([{"type": "function", "function": "a"}], "tools[0].function"),
        ([tool("")], "tools[0].function.name"),
        ([tool("a" * 65)], "tools[0].function.name"),
        ([tool("a b")], "tools[0].function.name"),
        ([tool("é")], "tools[0].function.name"),
        ([{"type": "function", "function": {"name": 5}}], "tools[0].function.name"),
        ([tool(description=5)], "tools[0].function.description"),
        ([tool(strict="yes")], "tools[0].function.strict"),
        ([tool(parameters=[])], "tools[0].function.parameters"),
        ([tool(parameters={"type": "string"})], "tools[0].function.parameters"),
        ([tool("a"), tool("b"), tool("a")], "tools[2].function.name"),
    ],
)
def test_a_fault_names_its_field(value: Any, field: str) -> None:
    _, faults = parsed(value)
    assert faults == [field]


def test_all_faults_are_found_at_once() -> None:
    _, faults = parsed([tool("a b", strict=1), 5, tool("ok"), tool("ok")])
    assert faults == [
        "tools[0].function.name",
        "tools[0].function.strict",
        "tools[1].type",
        "tools[3].function.name",
    ]


TOOLS, _ = parsed([tool("add"), tool("now")])


@pytest.mark.parametrize(
    ("value", "choice"),
    [
        (None, ToolChoice("auto")),
        ("auto", ToolChoice("auto")),
        ("none", ToolChoice("none")),
        ("required", ToolChoice("required")),
        ({"type": "function", "function": {"name": "now"}}, ToolChoice("required", "now")),
    ],
)
def test_choices_have_four_spellings(value: Any, choice: ToolChoice) -> None:
    faults: list[FieldError] = []
    assert parse_tool_choice(value, TOOLS, faults) == choice
    assert faults == []


def test_a_choice_says_which_tools_may_be_called() -> None:
    assert ToolChoice("none").allowed(TOOLS) == ()
    assert ToolChoice("auto").allowed(TOOLS) == TOOLS
    assert ToolChoice("required", "now").allowed(TOOLS) == TOOLS[1:]


@pytest.mark.parametrize("value", [None, "none", "auto"])
def test_without_tools_there_is_nothing_to_choose(value: Any) -> None:
    faults: list[FieldError] = []
    assert parse_tool_choice(value, (), faults) == ToolChoice("none")
    assert faults == []


@pytest.mark.parametrize(
    ("value", "tools", "field"),
    [
        ("required", (), "tool_choice"),
        ("any", TOOLS, "tool_choice"),
        (5, TOOLS, "tool_choice"),
        ([], TOOLS, "tool_choice"),
        ({"type": "function"}, TOOLS, "tool_choice"),
        ({"type": "function", "function": {"name": 5}}, TOOLS, "tool_choice"),
        ({"type": "function", "function": {"name": "other"}}, TOOLS, "tool_choice.function.name"),
    ],
)
def test_a_choice_of_nothing_that_there_is_names_its_field(
    value: Any, tools: tuple[Tool, ...], field: str
) -> None:
    faults: list[FieldError] = []
    parse_tool_choice(value, tools, faults)
    assert [fault.field for fault in faults] == [field]
