"""Trial renderings: whether a template works at all, and what it expects of messages."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from llorch.chat.jinja.program import TemplateFault
from llorch.chat.marked import MarkedTemplate

_SYSTEM = {"role": "system", "content": "Be brief."}
_USER = {"role": "user", "content": "What is up?"}
_ANSWER = {"role": "assistant", "content": "The sky."}
_CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {
            "id": "call00001",
            "type": "function",
            "function": {"name": "look_up", "arguments": {"subject": "sky"}},
        }
    ],
}
_RESULT = {"role": "tool", "content": "blue", "name": "look_up", "tool_call_id": "call00001"}
_SUBJECT = {"type": "string", "description": "what"}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "look_up",
            "description": "Looks up a subject.",
            "parameters": {"type": "object", "properties": {"subject": _SUBJECT}, "required": ["subject"]},
        },
    }
]
"""A tool that trial renderings describe."""


@dataclass(frozen=True)
class Habits:
    """What a template expects and does.

    Attributes:
        supports_system: it writes system messages.
        end_id: the control token behind an answer.
        needs_text: a message without content has an empty one.
        needs_json: arguments of a call are JSON, not objects.
    """

    supports_system: bool = False
    end_id: int | None = None
    needs_text: bool = True
    needs_json: bool = False

    def adapted(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """`message` as the template expects it."""
        adapted = dict(message)
        if adapted.get("content") is None:
            adapted["content"] = "" if self.needs_text else None
        if self.needs_json and isinstance(calls := message.get("tool_calls"), Sequence):
            adapted["tool_calls"] = [_with_json(call) for call in calls]
        return adapted


def find_habits(
    template: MarkedTemplate, own: Mapping[str, Any], tools: Sequence[Mapping[str, Any]] | None = None
) -> Habits:
    """Try `template`, and let it learn which control tokens it spells from pieces.

    Args:
        template: compiled.
        own: its own values.
        tools: given in all renderings, not only in those that call one.

    Raises:
        TemplateFault: it works with no conversation, not even the shortest.
    """
    trial = _Trial(template, own, tools)
    system = trial.render(_SYSTEM, _USER)
    answer = trial.render(_USER, _ANSWER, _USER)
    trial.render(_SYSTEM, _USER, _ANSWER, _USER)
    if trial.render(_USER) is None and system is None and answer is None:
        raise trial.faults[-1]
    habits = Habits(
        supports_system=any(_SYSTEM["content"] in part for part in system or () if isinstance(part, str)),
        end_id=_token_behind(_ANSWER["content"], answer or ()),
    )
    for needs_json in (False, True):
        for needs_text in (False, True):
            tried = replace(habits, needs_text=needs_text, needs_json=needs_json)
            parts = trial.render(_USER, tried.adapted(_CALL), _RESULT, _USER, tools=TOOLS)
            text = "".join(part for part in parts or () if isinstance(part, str))
            if parts is not None and "{'subject'" not in text and "None" not in text:
                return tried
    return habits


class _Trial:
    """Renderings of one template, which learns from each; faults are kept."""

    def __init__(self, template: MarkedTemplate, own: Mapping[str, Any], tools: Any) -> None:
        self._template = template
        self._own = own
        self._tools = tools
        self.faults: list[TemplateFault] = []

    def render(self, *messages: Mapping[str, Any], tools: Any = None) -> list[str | int] | None:
        """Parts of a conversation; None if the template fails."""
        tools = tools or self._tools
        variables = {"messages": messages, "tools": tools, "documents": None, "add_generation_prompt": True}
        try:
            parts = self._template.parts(variables, self._own)
        except TemplateFault as fault:
            self.faults.append(fault)
            return None
        self._template.learn(parts)
        return parts


def _with_json(call: Any) -> Any:
    """A tool call with its arguments as JSON."""
    if not isinstance(call, Mapping) or not isinstance(function := call.get("function"), Mapping):
        return call
    arguments = function.get("arguments")
    if not isinstance(arguments, Mapping):
        return call
    return {**call, "function": {**function, "arguments": json.dumps(arguments, ensure_ascii=False)}}


def _token_behind(text: str, parts: Sequence[str | int]) -> int | None:
    """The control token behind `text`, with nothing but white space between."""
    for part, following in itertools.pairwise(parts):
        if isinstance(part, str) and isinstance(following, int) and part.rstrip().endswith(text):
            return following
    return None
