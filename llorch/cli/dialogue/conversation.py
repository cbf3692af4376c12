"""What was said so far, as the messages that a chat template takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llorch.errors import InputError

SYSTEM, USER, ASSISTANT = "system", "user", "assistant"


class Conversation:
    """The messages of one chat.

    Attributes:
        messages: as `checked_messages` returns them, the system message first if there is one.
    """

    def __init__(self, system: str = "") -> None:
        self.messages: list[dict[str, Any]] = []
        self.system = system

    @property
    def system(self) -> str:
        """The system message; empty if there is none."""
        return str(self.messages[0]["content"]) if self._begins_with_system else ""

    @system.setter
    def system(self, text: str) -> None:
        without = self.messages[self._begins_with_system :]
        self.messages = [*([{"role": SYSTEM, "content": text}] if text else ()), *without]

    @property
    def _begins_with_system(self) -> bool:
        return bool(self.messages) and self.messages[0]["role"] == SYSTEM

    @property
    def waits_for_answer(self) -> bool:
        """Whether the last message is the user's."""
        return bool(self.messages) and self.messages[-1]["role"] == USER

    def ask(self, text: str) -> None:
        """Add a message of the user."""
        self.messages.append({"role": USER, "content": text})

    def keep_answer(self, text: str) -> None:
        """Add a message of the model."""
        self.messages.append({"role": ASSISTANT, "content": text})

    def take_back_answer(self) -> list[dict[str, Any]]:
        """Remove and return what came after the last message of the user.

        Raises:
            InputError: the user has not said anything.
        """
        return self._cut(self._last_question() + 1)

    def take_back_exchange(self) -> list[dict[str, Any]]:
        """Remove and return the last message of the user, and what came after it.

        Raises:
            InputError: the user has not said anything.
        """
        return self._cut(self._last_question())

    def clear(self) -> None:
        """Forget all messages but the system message."""
        self.messages = self.messages[: self._begins_with_system]

    def replace(self, messages: Sequence[dict[str, Any]]) -> None:
        """Go on with another conversation."""
        self.messages = list(messages)

    def _last_question(self) -> int:
        for i in reversed(range(len(self.messages))):
            if self.messages[i]["role"] == USER:
                return i
        raise InputError("nothing was said yet")

    def _cut(self, length: int) -> list[dict[str, Any]]:
        removed = self.messages[length:]
        del self.messages[length:]
        return removed
