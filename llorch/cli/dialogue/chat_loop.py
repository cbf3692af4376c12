"""Question and answer, over and over: at a terminal until the user leaves, or for each message of a script."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any

from llorch.cli.console import Progress
from llorch.cli.dialogue.answering import (
    Answer,
    Answering,
    Choices,
    FullContextError,
    Listener,
    as_json,
    described,
)
from llorch.cli.dialogue.commands import Commands, Next
from llorch.cli.dialogue.conversation import Conversation
from llorch.cli.dialogue.screen import Screen
from llorch.cli.dialogue.stop_key import LineDiscarded, StopKey
from llorch.cli.dialogue.typed_messages import Prompt
from llorch.cli.streams import can_write
from llorch.errors import InputError, LlorchError

WAYS_OUT = "/undo takes the last exchange back, /clear begins anew, -c N sets a larger context"
LEAVE = "/exit or Ctrl-D leaves"


class ChatLoop:
    """Puts questions and answers into a conversation, and shows the answers.

    Attributes:
        stop_key: Ctrl-C, which stops an answer while the user talks.
    """

    def __init__(
        self, conversation: Conversation, answering: Answering, screen: Screen, choices: Choices
    ) -> None:
        """Set up.

        Args:
            conversation: goes on here.
            answering: the model.
            screen: shows answers and notes.
            choices: how answers are chosen at first.
        """
        self._conversation = conversation
        self._answering = answering
        self._screen = screen
        self._commands = Commands(conversation, answering, choices, screen)
        self.stop_key = StopKey()

    def answer_each(self, messages: Iterable[str], *, is_json: bool) -> None:
        """Answer the messages of a script, which are text whatever they begin with.

        Args:
            messages: one after the other.
            is_json: print each answer as a line of JSON.

        Raises:
            InputError: a message cannot be answered.
        """
        for message in messages:
            self._conversation.ask(message)
            answer = self._answer(shows_text=not is_json)
            if is_json:
                text = json.dumps(as_json(answer), ensure_ascii=False)
                print(text if can_write(sys.stdout, text) else json.dumps(as_json(answer)), flush=True)

    def converse(self, prompt_for: Prompt) -> None:
        """Talk to whoever sits at the terminal until they leave; what fails is a line, and they go on."""
        self._screen.say(
            f"{self._answering.name}, context of {self._answering.n_ctx} tokens; /help lists the commands, {LEAVE}"
        )
        with self.stop_key.handled():
            while (message := self._next_message(prompt_for)) is not None:
                if not message.strip():
                    continue
                before = list(self._conversation.messages)
                try:
                    follows = self._take(message)
                    if follows == "leave":
                        return
                    if follows == "answer":
                        self._answer_or_restore(before)
                except FullContextError as error:
                    self._screen.tell(f"error: {error}; {WAYS_OUT}")
                except LlorchError as error:
                    self._screen.tell(f"error: {error}")

    def _next_message(self, prompt: Prompt) -> str | None:
        """What is typed; None to leave."""
        while True:
            try:
                return prompt.ask()
            except LineDiscarded:
                self._screen.tell("")
                self._screen.tell(LEAVE)
            except InputError as error:
                self._screen.tell("")
                self._screen.tell(f"error: {error}")
            except EOFError:
                self._screen.tell("")
                return None

    def _take(self, message: str) -> Next:
        """Do what a command says, or put a message into the conversation."""
        if message.startswith("/") and not message.startswith("//"):
            return self._commands.run(message)
        self._conversation.ask(message.removeprefix("/") if message.startswith("//") else message)
        return "answer"

    def _answer_or_restore(self, before: list[dict[str, Any]]) -> None:
        """Answer the last message; where no answer comes, not even its beginning, the conversation is as `before`."""
        try:
            answer = self._answer(shows_text=True)
        except LlorchError:
            self._conversation.replace(before)
            raise
        if answer.end is None and not answer.text:
            self._conversation.replace(before)
            self._screen.say("the conversation is as it was before")
        if answer.fills_context:
            self._screen.tell(f"the context is full; {WAYS_OUT}")

    def _answer(self, *, shows_text: bool) -> Answer:
        self.stop_key.begin_answer()
        has_begun = False
        with Progress() as progress:

            def on_text(text: str) -> None:
                nonlocal has_begun
                if text and shows_text:
                    progress.clear()
                    self._screen.write(text)
                    has_begun = True

            listener = Listener(
                wants_stop=lambda: self.stop_key.is_pressed,
                on_progress=lambda done, total: progress("tokens read", done, total),
                on_text=on_text,
            )
            try:
                answer = self._answering.answer(self._conversation.messages, self._commands.choices, listener)
            except LlorchError:
                if has_begun:
                    self._screen.write("\n")
                raise
        if shows_text:
            self._screen.write("\n")
        if answer.text or answer.end is not None:
            self._conversation.keep_answer(answer.text)
        self._screen.say(described(answer, self._answering.n_ctx))
        return answer
