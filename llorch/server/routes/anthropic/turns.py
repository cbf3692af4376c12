"""The messages of a body as chat templates take them: texts joined, calls of tools and their results apart."""

from __future__ import annotations

from typing import Any

from llorch.chat.messages import checked_messages
from llorch.errors import FieldError, RequestError
from llorch.fields.kinds import described
from llorch.server.field_names import FieldNames

Message = dict[str, Any]

_THOUGHTS = ("thinking", "redacted_thinking")
"""Blocks of other models' answers that no template here knows; they are left out."""
_NOTHING = {"type": "text", "text": ""}
_CALL = "an object with id, name and input"
_NAMES = FieldNames(
    (r"\.tool_calls\[0\]\.function\.arguments", ".input"),
    (r"\.tool_calls\[0\]\.function\.name", ".name"),
    (r"\.tool_calls\[0\]", ""),
    (r"\.tool_call_id", ".tool_use_id"),
)


def read_turns(value: object, faults: list[FieldError]) -> list[Message]:
    """The messages that a field `messages` spells; what is wrong with it is appended to `faults`."""
    reader = _Reader(faults)
    turns = (
        [reader.without_blocks(turn, i) for i, turn in enumerate(value)] if isinstance(value, list) else value
    )
    messages: list[Message] = []
    for i, turn in enumerate(checked(turns, "messages", faults)):
        if turn["role"] not in ("user", "assistant"):
            faults.append(fault(f"messages[{i}].role", "user or assistant (system is a field of its own)"))
        if turn["content"] is None:
            faults.append(fault(f"messages[{i}].content", "a string, or a list of parts"))
            continue
        calls, results = reader.calls.get(i, []), reader.results.get(i, [])
        messages += results
        if calls:
            turn["tool_calls"] = calls
        last = messages[-1] if messages else None
        if last and last["role"] == turn["role"] and "tool_calls" not in last:
            messages[-1] = {**last, **turn, "content": f"{last['content']}\n{turn['content']}"}
        elif turn["content"] or calls or not results:
            messages.append(turn)
    return messages


def checked(value: object, name: str, faults: list[FieldError]) -> list[Message]:
    """`value` as `checked_messages` reads it; nothing if there is a fault in it."""
    try:
        return checked_messages(value, name)
    except RequestError as error:
        faults += error.errors
        return []


def fault(name: str, rule: str) -> FieldError:
    """A field that does not follow its rule."""
    return FieldError(name, rule, f"{name}: expected {rule}")


class _Reader:
    """Takes calls and results out of the blocks of turns.

    Attributes:
        calls: of each turn, by its index, as templates take them.
        results: the same, messages of the role ``"tool"``.
    """

    def __init__(self, faults: list[FieldError]) -> None:
        self.calls: dict[int, list[Message]] = {}
        self.results: dict[int, list[Message]] = {}
        self._faults = faults
        self._names: dict[str, str] = {}  # of the tool that each id called

    def without_blocks(self, turn: object, i: int) -> object:
        """The turn with an empty text in place of each block that is none, so that the others keep their places."""
        content = turn.get("content") if isinstance(turn, dict) else None
        if not isinstance(turn, dict) or not isinstance(content, list):
            return turn
        plain = [self._text(block, i, f"messages[{i}].content[{j}]") for j, block in enumerate(content)]
        return {"role": turn.get("role"), "content": plain, "tool_calls": None}

    def _text(self, block: object, i: int, place: str) -> object:
        kind = block.get("type") if isinstance(block, dict) else None
        if not isinstance(block, dict) or kind not in ("tool_use", "tool_result", *_THOUGHTS):
            return block
        if kind == "tool_use":
            self._add_call(block, i, place)
        if kind == "tool_result":
            self._add_result(block, i, place)
        return _NOTHING

    def _add_call(self, block: Message, i: int, place: str) -> None:
        if not isinstance(block.get("id"), str) or not isinstance(block.get("input"), dict):
            self._faults.append(FieldError(place, _CALL, f"{place}: expected {_CALL}"))
            return
        function = {"name": block.get("name"), "arguments": block["input"]}
        message = {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": block["id"], "function": function}],
        }
        for read in self._checked(message, place):
            self.calls.setdefault(i, []).extend(read["tool_calls"])
            self._names[block["id"]] = block["name"]

    def _add_result(self, block: Message, i: int, place: str) -> None:
        asked = block.get("tool_use_id")
        if not isinstance(asked, str):
            rule = "a string"
            name = f"{place}.tool_use_id"
            self._faults.append(FieldError(name, rule, f"{name}: expected {rule}; got {described(asked)}"))
            return
        content = "" if block.get("content") is None else block["content"]
        message = {"role": "tool", "content": content, "tool_call_id": asked, "name": self._names.get(asked)}
        self.results.setdefault(i, []).extend(self._checked(message, place))

    def _checked(self, message: Message, place: str) -> list[Message]:
        found: list[FieldError] = []
        messages = checked([message], place, found)
        for one in found:
            name, words = (
                one.field.replace(f"{place}[0]", place, 1),
                one.message.replace(f"{place}[0]", place, 1),
            )
            self._faults.append(_NAMES.fault(FieldError(name, one.constraint, words)))
        return messages
