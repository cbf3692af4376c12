"""Grammars of tool calls: names among the tools, arguments as their schemas want them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from llorch.chat.grammar import Factory, Grammars, json_rule
from llorch.chat.tool_format import ToolFormat
from llorch.chat.tools import Tool
from llorch.errors import RequestError

MAX_CALLS = 16
"""Of one answer: small models call without end where a grammar lets them."""
_MORE = f"{{0,{MAX_CALLS - 1}}}"


def tool_calls_constraint(
    grammars: Grammars,
    tool_format: ToolFormat,
    marks: Mapping[str, int],
    tools: Sequence[Tool],
    *,
    is_required: bool,
    is_parallel: bool,
    document: str | None = None,
) -> Factory | None:
    """What binds calls; None if nothing can be said against any text.

    Args:
        grammars: of the model.
        tool_format: how the model writes calls.
        marks: the control tokens around calls, by their texts.
        tools: those that may be called.
        is_required: the answer is calls and nothing else.
        is_parallel: there may be several.
        document: the rule (`json_rule`) for answers that are no calls; None: any text.

    Raises:
        RequestError: a tool's schema cannot be enforced, or there are no grammars.
    """
    calls = _calls(tool_format, marks, is_parallel)
    rules = _call_rules(tools, tool_format)
    if is_required:
        start = calls
    elif document is not None:
        start = f"{calls} | document"
        rules.append(f"document: {document}")
    elif tool_format.is_whole_answer:
        return None  # an answer that begins like a call may be something else
    else:
        start = (
            f"(head {_behind_opener(tool_format, marks, is_parallel)}){_MORE if is_parallel else '?'} TEXT"
        )
        rules += _text_rules(tool_format, marks)
    try:
        return grammars.lark(start, rules, "tools")
    except RequestError:
        grammars.json_object("tools")  # raises where there are no grammars at all
        for tool in tools:  # the message shall name the one at fault
            grammars.json_schema(tool.schema, field=_schema_field(tool), is_lenient=not tool.is_strict)
        raise


def _call_rules(tools: Sequence[Tool], tool_format: ToolFormat) -> list[str]:
    rules = ["call: " + " | ".join(f"call_{i}" for i in range(len(tools)))]
    for i, tool in enumerate(tools):
        name, key = f'"{tool.name}"', f'"{tool_format.arguments_key}"'
        head = ("{", '"name"', ":", " ", name, ",", " ", key, ":", " ")
        # In small pieces, as JSON's own rules have them: the lexer does not go back behind a longer one that fails.
        rules.append(f'call_{i}: {" ".join(map(json.dumps, head))} arguments_{i} "}}"')
        rules.append(f"arguments_{i}: " + json_rule(tool.schema, _schema_field(tool), not tool.is_strict))
    return rules


def _schema_field(tool: Tool) -> str:
    return f"tools[{tool.index}].function.parameters"


def _calls(tool_format: ToolFormat, marks: Mapping[str, int], is_parallel: bool) -> str:
    """Calls with what stands around and between them."""
    if tool_format.is_whole_answer:
        return "call"
    block = f"{_mark(tool_format.opener, marks)} {_behind_opener(tool_format, marks, is_parallel)}"
    if tool_format.is_list or not is_parallel:
        return block
    return f"{block} ({_quoted(tool_format.break_text)} {block}){_MORE}"


def _behind_opener(tool_format: ToolFormat, marks: Mapping[str, int], is_parallel: bool) -> str:
    gap = _quoted(tool_format.break_text)
    calls = "call"
    if tool_format.is_list:
        calls = f'"[" call (", " call){_MORE} "]"' if is_parallel else '"[" call "]"'
    return f"{gap} {calls} {gap} {_mark(tool_format.closer, marks)}"


def _text_rules(tool_format: ToolFormat, marks: Mapping[str, int]) -> list[str]:
    """Any text; but where an opener stands in it, a call follows."""
    opener = _mark(tool_format.opener, marks)
    lazy = "" if opener.startswith("<") else "[lazy]"
    return [f"head{lazy}: TEXT {opener}", r"TEXT: /(.|\n)*/"]


def _mark(text: str, marks: Mapping[str, int]) -> str:
    """A mark in a grammar: the control token of this text, if there is one."""
    return f"<[{marks[text]}]>" if text in marks else _quoted(text)


def _quoted(text: str) -> str:
    return json.dumps(text) if text else ""
