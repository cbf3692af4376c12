"""The messages of a chat as OpenAI's clients send them, made plain: text, one string for each message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llorch.errors import FieldError
from llorch.fields.kinds import described

MAX_MESSAGES = 4096
ROLES = ("system", "developer", "user", "assistant", "tool")

_RULE = "a list of objects with role and content"


def plain_messages(value: object, max_chars: int) -> tuple[list[dict[str, Any]], list[FieldError]]:
    """The messages, their content as one string or None, and everything that is wrong with them.

    Args:
        value: what the body has as `messages`.
        max_chars: most characters of all of them together.
    """
    if value is None:
        return [], [FieldError("messages", _RULE, "messages is required")]
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_MESSAGES:
        message = f"messages: expected {_RULE}, 1 <= messages <= {MAX_MESSAGES}; got {described(value)}"
        return [], [FieldError("messages", _RULE, message)]
    faults: list[FieldError] = []
    messages = [_plain(item, f"messages[{i}]", faults) for i, item in enumerate(value)]
    n_chars = sum(len(message["content"] or "") for message in messages)
    if n_chars > max_chars:
        rule = f"characters of all contents <= {max_chars}"
        faults.append(FieldError("messages", rule, f"messages: expected {rule}; got {n_chars} characters"))
    return messages, faults


def _plain(item: object, where: str, faults: list[FieldError]) -> dict[str, Any]:
    if not isinstance(item, Mapping):
        faults.append(FieldError(where, "an object", f"{where}: expected an object; got {described(item)}"))
        return {"role": "user", "content": None}
    role = item.get("role")
    if role not in ROLES:
        rule = "one of " + ", ".join(ROLES)
        faults.append(
            FieldError(f"{where}.role", rule, f"{where}.role: expected {rule}; got {described(role)}")
        )
        role = "user"
    content = _text(item.get("content"), f"{where}.content", faults)
    if content is None and not (role == "assistant" and item.get("tool_calls")) and "content" not in item:
        faults.append(FieldError(f"{where}.content", "text", f"{where}.content is required"))
    rest = {name: item[name] for name in ("name", "tool_calls", "tool_call_id") if item.get(name) is not None}
    return {"role": "system" if role == "developer" else role, "content": content, **rest}


def _text(content: object, where: str, faults: list[FieldError]) -> str | None:
    """A string; or the text of a list of parts, joined."""
    if content is None:
        return None
    if not isinstance(content, list):
        return _string(content, where, faults)
    texts = []
    for i, part in enumerate(content):
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind not in ("text", "refusal"):
            rule = "a part of type text; this model reads nothing else"
            got = (
                f"one of type {kind[:20]}"
                if isinstance(kind, str) and kind.isprintable()
                else described(part)
            )
            faults.append(FieldError(f"{where}[{i}]", rule, f"{where}[{i}]: expected {rule}; got {got}"))
        else:
            texts.append(_string(part.get(kind), f"{where}[{i}].{kind}", faults))
    return "".join(texts)


def _string(value: object, where: str, faults: list[FieldError]) -> str:
    if not isinstance(value, str):
        faults.append(FieldError(where, "a string", f"{where}: expected a string; got {described(value)}"))
        return ""
    try:
        value.encode()
    except UnicodeEncodeError:
        message = f"{where}: a lone surrogate is no character"
        faults.append(FieldError(where, "valid Unicode", message))
        return ""
    return value
