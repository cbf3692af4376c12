"""How models write calls of tools: which form a chat template teaches, and the form for templates that teach none."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llorch.chat.template import ChatTemplate
from llorch.chat.trial import TOOLS
from llorch.errors import RequestError
from llorch.text.vocab import TokenType, Vocabulary


@dataclass(frozen=True, slots=True)
class ToolFormat:
    """A way to write calls. Each call is a JSON object with a name and arguments.

    Attributes:
        name: what it is called here.
        opener: text in front of calls.
        closer: text behind them.
        arguments_key: name of the arguments in the JSON object.
        is_list: several calls share an opener, as a JSON list; else each has its own.
        is_whole_answer: calls stand at the beginning of the answer, or nowhere; the opener may be missing.
        break_text: what models write between the opener, the JSON and the closer.
        is_taught_by_llorch: the template knows nothing of tools, so a system message explains them.
    """

    name: str
    opener: str
    closer: str = ""
    arguments_key: str = "arguments"
    is_list: bool = False
    is_whole_answer: bool = False
    break_text: str = ""
    is_taught_by_llorch: bool = False

    def control_marks(self, vocab: Vocabulary) -> dict[str, int]:
        """Control tokens that spell opener or closer: they must be visible in the text where calls are looked for."""
        marks = {mark.encode(): mark for mark in (self.opener, self.closer) if mark}
        return {
            marks[token]: i
            for i, token in enumerate(vocab.tokens)
            if token in marks and vocab.types[i] == TokenType.CONTROL and i not in vocab.eog_ids
        }


HERMES = ToolFormat("hermes", "<tool_call>", "</tool_call>", break_text="\n")
"""Hermes 2 Pro and 3, Qwen 2.5 and 3."""
SMOLLM2 = ToolFormat("smollm2", "<tool_call>", "</tool_call>", is_list=True, is_taught_by_llorch=True)
"""SmolLM2, whose template does not know tools: its model card puts them into the system message."""
LLAMA = ToolFormat("llama", "<|python_tag|>", arguments_key="parameters", is_whole_answer=True)
"""Llama 3.1, 3.2 and 3.3."""
MISTRAL = ToolFormat("mistral", "[TOOL_CALLS]", is_list=True)
"""Mistral Nemo and 7B v0.3."""

_TRIAL: list[dict[str, Any]] = [
    {"role": "user", "content": "What is up?"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "call00001", "type": "function", "function": {"name": "see", "arguments": {"where": "up"}}}
        ],
    },
    {"role": "tool", "content": "the sky", "name": "see", "tool_call_id": "call00001"},
]
_CALL = r'\{{\s*"name":\s*"see",\s*"{}":\s*\{{\s*"where":\s*"up"\s*\}}\s*'
_RENDERED = (
    (HERMES, r"<tool_call>\s*" + _CALL.format("arguments") + r"\}\s*</tool_call>"),
    (MISTRAL, r"\[TOOL_CALLS\]\s*\[\s*" + _CALL.format("arguments") + "[,}]"),
    (LLAMA, r"(<\|end_header_id\|>|<\|python_tag\|>)\s*" + _CALL.format("parameters") + r"\}"),
)
"""How the call of the trial looks in each form."""


def tool_format_of(template: ChatTemplate) -> ToolFormat | None:
    """The form in which a chat template writes calls; None if it writes none, or in one that llorch does not know."""
    if template.problem is not None:
        return None
    if not template.supports_tools:
        return SMOLLM2 if "<|im_start|>" in template.source else None
    try:
        text = template.render(_TRIAL, tools=TOOLS)
    except RequestError:
        return None
    return next((form for form, pattern in _RENDERED if re.search(pattern, text)), None)


def taught_messages(
    messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Messages for a template that does not know tools: their descriptions, calls and results become text.

    Args:
        messages: as `checked_messages` returns them.
        tools: as in a request; may be empty.
    """
    shown = [_shown_message(message) for message in messages]
    if not tools:
        return shown
    lines = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
    taught = _LESSON.format(tools=lines)
    if shown and shown[0]["role"] == "system":
        first = {**shown[0], "content": f"{shown[0]['content']}\n\n{taught}".lstrip()}
        return [first, *shown[1:]]
    return [{"role": "system", "content": taught}, *shown]


_LESSON = """You can call functions. These are the functions, one JSON object per line:
<tools>
{tools}
</tools>

If functions help with the request, answer with the calls and nothing else, as a JSON list in this form:
<tool_call>[{{"name": "function name", "arguments": {{"argument name": "value"}}}}]</tool_call>
If no function helps, answer in plain words."""


def _shown_message(message: Mapping[str, Any]) -> dict[str, Any]:
    if message.get("role") == "tool":
        return {
            "role": "user",
            "content": f"<tool_response>\n{message.get('content') or ''}\n</tool_response>",
        }
    calls = message.get("tool_calls")
    if not calls:
        return dict(message)
    shown = [{"name": call["function"]["name"], "arguments": call["function"]["arguments"]} for call in calls]
    text = f"<tool_call>{json.dumps(shown, ensure_ascii=False)}</tool_call>"
    return {"role": "assistant", "content": (message.get("content") or "") + text}
