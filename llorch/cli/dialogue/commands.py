"""The commands of a chat: lines that begin with a slash."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from llorch.cli.dialogue.answering import Answering, Choices
from llorch.cli.dialogue.choices_text import DEFAULT, choices_lines, with_choice
from llorch.cli.dialogue.conversation import Conversation
from llorch.cli.dialogue.saved_conversation import load, save
from llorch.cli.dialogue.screen import Screen
from llorch.errors import InputError, shown
from llorch.formats.printed import printable

Next: TypeAlias = Literal["prompt", "answer", "leave"]
"""What follows a command."""


@dataclass(frozen=True, slots=True)
class _Command:
    run: Callable[[Commands, str], Next]
    argument: str
    summary: str
    needs_argument: bool = False


class Commands:
    """What the commands act on.

    Attributes:
        choices: how answers are chosen now.
    """

    def __init__(
        self, conversation: Conversation, answering: Answering, choices: Choices, screen: Screen
    ) -> None:
        self.choices = choices
        self._first_choices = choices
        self._conversation = conversation
        self._answering = answering
        self._screen = screen
        self._own_file: Path | None = None  # what this conversation was saved to; it may be replaced

    def run(self, line: str) -> Next:
        """Do what `line`, which begins with a slash, says.

        Raises:
            InputError: there is no such command, or it cannot be done; nothing has changed.
        """
        name, _, argument = line[1:].strip().partition(" ")
        argument = argument.strip()
        command = COMMANDS.get(name)
        if command is None:
            close = difflib.get_close_matches(name, COMMANDS, n=1)
            hint = f"did you mean /{close[0]}?" if close else "/help lists them"
            raise InputError(
                f"there is no command /{shown(name)[1:-1]}; {hint} (// begins a message with a slash)"
            )
        if command.needs_argument and not argument:
            raise InputError(f"/{name} takes {command.argument}")
        if argument and not command.argument:
            raise InputError(f"/{name} takes nothing behind it")
        return command.run(self, argument)

    def _help(self, argument: str) -> Next:
        rows = [
            (f"/{name} {command.argument}".strip(), command.summary) for name, command in COMMANDS.items()
        ]
        rows += [
            (
                '"""',
                "begins and ends a message of several lines; so does a backslash at the end of each but the last",
            ),
            ("Ctrl-C", "stops an answer, or discards what is being typed"),
            ("Ctrl-D", "leaves"),
        ]
        width = max(len(left) for left, _ in rows)
        for left, right in rows:
            self._screen.tell(f"{left:{width}}  {right}")
        return "prompt"

    def _set_system(self, text: str) -> Next:
        self._answering.check_system(text, "/system")
        self._conversation.system = text
        self._screen.tell("the system message is set" if text else "there is no system message now")
        return "prompt"

    def _regenerate(self, argument: str) -> Next:
        self._conversation.take_back_answer()
        return "answer"

    def _undo(self, argument: str) -> Next:
        removed = self._conversation.take_back_exchange()
        n_left = len(self._conversation.messages)
        self._screen.tell(f"{len(removed)} messages taken back, {n_left} are left")
        return "prompt"

    def _clear(self, argument: str) -> Next:
        self._conversation.clear()
        self._own_file = None
        self._screen.tell(
            "all is forgotten" + (" but the system message" if self._conversation.system else "")
        )
        return "prompt"

    def _save(self, argument: str) -> Next:
        path = _path(argument)
        save(path, self._answering.name, self._conversation.messages, replaces=path == self._own_file)
        self._own_file = path
        self._screen.tell(f"{len(self._conversation.messages)} messages are in {printable(path)}")
        return "prompt"

    def _load(self, argument: str) -> Next:
        path = _path(argument)
        messages = load(path)
        n_tokens = self._answering.check_messages(messages)
        self._conversation.replace(messages)
        self._own_file = path
        waiting = "; /regen answers the last one" if self._conversation.waits_for_answer else ""
        self._screen.tell(f"{len(messages)} messages, {n_tokens} tokens{waiting}")
        return "prompt"

    def _set_choice(self, argument: str) -> Next:
        if argument:
            name, _, value = argument.replace("=", " ", 1).partition(" ")
            if not value.strip():
                raise InputError("/set takes a name and a value")
            self.choices = with_choice(self.choices, name, value.strip(), self._first_choices)
        for line in choices_lines(self.choices):
            if not argument or line.startswith(f"{name} ="):
                self._screen.tell(line)
        return "prompt"

    def _show(self, argument: str) -> Next:
        for message in self._conversation.messages:
            self._screen.tell(f"{message['role']}: {message.get('content') or ''}")
        self._screen.tell(f"model {self._answering.name}, context of {self._answering.n_ctx} tokens")
        for line in choices_lines(self.choices):
            self._screen.tell(line)
        return "prompt"

    def _leave(self, argument: str) -> Next:
        return "leave"


COMMANDS = {
    "help": _Command(Commands._help, "", "lists the commands"),
    "system": _Command(Commands._set_system, "TEXT", "sets the system message; without a text there is none"),
    "regen": _Command(Commands._regenerate, "", "answers the last message again"),
    "undo": _Command(Commands._undo, "", "takes the last message and its answer back"),
    "clear": _Command(Commands._clear, "", "begins a new conversation with the same system message"),
    "save": _Command(Commands._save, "FILE", "writes the conversation into a file (JSON)", True),
    "load": _Command(Commands._load, "FILE", "goes on with a saved conversation", True),
    "set": _Command(
        Commands._set_choice,
        "NAME VALUE",
        f"changes how answers are chosen ({DEFAULT}: as at the start); lists it",
    ),
    "show": _Command(Commands._show, "", "shows the conversation and how answers are chosen"),
    "exit": _Command(Commands._leave, "", "leaves"),
}


def _path(argument: str) -> Path:
    try:
        return Path(os.path.expanduser(argument)).absolute()
    except FileNotFoundError:
        raise InputError("the working folder has been deleted; name the file from / on") from None
