"""A body of `POST /v1/messages` as a chat: its checked fields, its messages, its tools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llorch.errors import FieldError
from llorch.fields.field import Field
from llorch.fields.kinds import described
from llorch.open_model import OpenModel
from llorch.server.body import check_fields
from llorch.server.field_names import FieldNames
from llorch.server.routes.anthropic.turns import Message, checked, fault, read_turns
from llorch.server.routes.openai.chat import prompt_encoder
from llorch.server.routes.openai.messages import n_chars
from llorch.server.routes.openai.structure import FREE, Structure, parse_structure

_TOOL_KEYS = {"name": "name", "description": "description", "input_schema": "parameters", "strict": "strict"}
"""What a tool is described with, and what OpenAI's chats call it."""
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}
_CHOICE_RULE = 'an object of type "auto", "any", "none", or "tool" with a name'
NAMES = FieldNames(
    (r"^(tools\[\d+\])\.function\.parameters", r"\1.input_schema"),
    (r"^(tools\[\d+\])\.function", r"\1"),
    (r"^tool_choice\.function", "tool_choice"),
    (r"^(prompt|token_ids)\b", "messages"),
    (r"^stop\b", "stop_sequences"),
)
"""Fields of OpenAI's chats and of the engine, and what they are called here."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a body asks for.

    Attributes:
        given: its checked fields.
        messages: as templates take them.
        structure: of the answer.
    """

    given: Mapping[str, Any]
    messages: Sequence[Message]
    structure: Structure = FREE

    def prompt_ids(self, loaded: OpenModel) -> Sequence[int]:
        """The chat as token ids; an assistant's turn at its end is the beginning of the answer."""
        messages = list(self.messages)
        is_begun = messages[-1]["role"] == "assistant"
        if is_begun and len(messages) == 1:
            messages.insert(0, {"role": "user", "content": ""})
        chat = {"messages": messages, "structure": self.structure, "continue_final_message": is_begun}
        return prompt_encoder(chat)(loaded)


def parse_messages(body: Mapping[str, Any], known: Mapping[str, Field], max_chars: int) -> Asked:
    """What a body asks for: `system` first, turns of one role joined.

    Raises:
        RequestError: with every fault.
    """
    faults: list[FieldError] = []
    said = body.get("system") not in (None, "", []) and [{"role": "system", "content": body["system"]}]
    messages = checked(said, "system", faults) if said else []
    messages += read_turns(body.get("messages"), faults)
    if messages and "tool_calls" in messages[-1]:
        faults.append(fault("messages", "a result for the calls of the last message"))
    if sum(map(n_chars, messages)) > max_chars:
        faults.append(fault("messages", f"characters of all contents <= {max_chars}"))
    structure = _structure(body, faults)
    required = known.keys() & {"max_tokens"}
    given = check_fields(body, known, required=required, more_faults=faults, ignores_unknown=True)
    return Asked(given, messages, structure)


def _structure(body: Mapping[str, Any], faults: list[FieldError]) -> Structure:
    """What tools may be called; what is wrong with that is appended to `faults`."""
    choice = body.get("tool_choice")
    tools = body.get("tools")
    alone = choice.get("disable_parallel_tool_use") if isinstance(choice, dict) else None
    if not isinstance(alone, bool | None):
        faults.append(fault("tool_choice.disable_parallel_tool_use", "true or false"))
    chat = {
        "tools": [_chat_tool(tool, i, faults) for i, tool in enumerate(tools)]
        if isinstance(tools, list)
        else tools,
        "tool_choice": _chat_choice(choice, faults),
        "parallel_tool_calls": alone is not True,
    }
    found: list[FieldError] = []
    structure = parse_structure(chat, found, has_tools=True)
    faults += map(NAMES.fault, found)
    return structure


def _chat_tool(tool: object, i: int, faults: list[FieldError]) -> object:
    """A tool as chats spell it; one of Anthropic's own is refused."""
    refused = {"type": "function", "function": {"name": f"refused{i}"}}
    if not isinstance(tool, dict):
        faults.append(fault(f"tools[{i}]", "an object with name and input_schema"))
        return refused
    if tool.get("type") not in (None, "custom"):
        name, rule = f"tools[{i}].type", '"custom", or none'
        got = f"{described(tool['type'])}; this server has no tools of its own"
        faults.append(FieldError(name, rule, f"{name}: expected {rule}; got {got}"))
        return refused
    if not isinstance(tool.get("input_schema"), dict):
        faults.append(fault(f"tools[{i}].input_schema", "a JSON schema, an object"))
        return refused
    function = {here: tool[name] for name, here in _TOOL_KEYS.items() if tool.get(name) is not None}
    return {"type": "function", "function": function}


def _chat_choice(value: object, faults: list[FieldError]) -> object:
    """`tool_choice` as chats spell it."""
    if value is None:
        return None
    kind = value.get("type") if isinstance(value, dict) else None
    if isinstance(value, dict) and kind == "tool" and isinstance(value.get("name"), str):
        return {"type": "function", "function": {"name": value["name"]}}
    if isinstance(kind, str) and kind in _CHOICES:
        return _CHOICES[kind]
    message = f"tool_choice: expected {_CHOICE_RULE}; got {described(value)}"
    faults.append(FieldError("tool_choice", _CHOICE_RULE, message))
    return None
