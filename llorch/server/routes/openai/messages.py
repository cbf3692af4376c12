"""The messages of a chat as OpenAI's clients send them, checked and limited."""

from __future__ import annotations

from typing import Any

from llorch.chat.messages import checked_messages
from llorch.errors import FieldError, RequestError


def plain_messages(value: object, max_chars: int) -> tuple[list[dict[str, Any]], list[FieldError]]:
    """The messages as chat templates take them, and everything that is wrong with them.

    Args:
        value: what the body has as `messages`.
        max_chars: most characters of all of them together.
    """
    if value is None:
        return [], [FieldError("messages", "a list of messages", "messages is required")]
    try:
        messages = checked_messages(value)
    except RequestError as error:
        return [], error.errors
    for message in messages:
        if message["content"] is None and "tool_calls" not in message:
            message["content"] = ""  # clients send empty answers back so, and no template expects them
    n_all = sum(map(n_chars, messages))
    if n_all <= max_chars:
        return messages, []
    rule = f"characters of all messages <= {max_chars}"
    return [], [
        FieldError(
            "messages", rule, f"messages: expected {rule} (max_prompt_chars of this server); got {n_all}"
        )
    ]


def n_chars(value: object) -> int:
    """Characters of all texts in `value`, but not of roles and other keys."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, list):
        return sum(map(n_chars, value))
    if isinstance(value, dict):
        return sum(n_chars(item) for key, item in value.items() if key not in ("role", "type"))
    return 0
