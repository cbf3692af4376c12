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
        omits_none: where there are no tools, the variable is undefined, not none.
    """

    supports_system: bool = False
    end_id: int | None = None
    needs_text: bool = True
    needs_json: bool = False
    omits_none: bool = False

    def variables(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None,
        add_generation_prompt: bool = True,
    ) -> dict[str, Any]:
        """What the template gets of a conversation."""
        given: dict[str, Any] = {
            "messages": [self.adapted(message) for message in messages],
            "documents": None,
            "add_generation_prompt": add_generation_prompt,
        }
        if tools or not self.omits_none:
            given["tools"] = list(tools) if tools else None
        return given

    def adapted(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """`message` as the template expects it."""
        adapted = dict(message)
        if adapted.get("content") is None:
            adapted["content"] = "" if self.needs_text else None
        if self.needs_json and isinstance(calls := message.get("tool_calls"), Sequence):
            adapted["tool_calls"] = [_with_json(call) for call in calls]
        return adapted


def find_habits(template: MarkedTemplate, tools: Sequence[Mapping[str, Any]] | None = None) -> Habits:
    """Try `template`, and let it learn which control tokens it spells from pieces.

    Args:
        template: compiled.
        tools: given in all renderings, not only in those that call one.

    Raises:
        TemplateFault: it works with no conversation, not even the shortest; or does too much.
    """
    trial = _Trial(template)
    habits = Habits(needs_text=False)
    if not trial.works(habits, tools):
        habits = replace(habits, omits_none=True)
        if not trial.works(habits, tools):
            raise trial.faults[0]
    system = trial.render(habits, [_SYSTEM, _USER], tools) or ()
    answer = trial.render(habits, [_USER, _ANSWER, _USER], tools) or ()
    trial.render(habits, [_SYSTEM, _USER, _ANSWER, _USER], tools)
    habits = replace(
        habits,
        supports_system=any(_SYSTEM["content"] in part for part in system if isinstance(part, str)),
        end_id=_token_behind(_ANSWER["content"], answer),
    )
    for needs_json, needs_text in itertools.product((False, True), repeat=2):
        tried = replace(habits, needs_text=needs_text, needs_json=needs_json)
        parts = trial.render(tried, [_USER, _CALL, _RESULT, _USER], TOOLS)
        text = "".join(part for part in parts or () if isinstance(part, str))
        if parts is not None and "{'subject'" not in text and "None" not in text:
            return tried
    return replace(habits, needs_text=True)


class _Trial:
    """Renderings of one template, which learns from each; faults are kept."""

    def __init__(self, template: MarkedTemplate) -> None:
        self._template = template
        self.faults: list[TemplateFault] = []

    def works(self, habits: Habits, tools: Any) -> bool:
        """Whether the template makes something of the shortest conversations."""
        shortest: list[list[Mapping[str, Any]]] = [[_USER], [_SYSTEM, _USER], [_USER, _ANSWER, _USER]]
        return any(self.render(habits, messages, tools) is not None for messages in shortest)

    def render(
        self, habits: Habits, messages: Sequence[Mapping[str, Any]], tools: Any
    ) -> list[str | int] | None:
        """Parts of a conversation; None if the template fails."""
        try:
            parts = self._template.parts(habits.variables(messages, tools))
        except TemplateFault as fault:
            if fault.is_limit:
                raise
            # Without its frames: they hold this trial, and what is being loaded, in a cycle.
            fault.__traceback__ = fault.__context__ = fault.__cause__ = None
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
