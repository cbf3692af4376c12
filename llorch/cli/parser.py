"""Parsers that say in one line what was mistyped, and what was probably meant."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from llorch.cli.streams import require_stdout
from llorch.formats.printed import escaped

EXIT_USAGE = 2
OF_TEXT = ("PROMPT", "TEXT", "MESSAGE")
"""Arguments that a shell makes several words of, unless they are quoted."""
OTHERS_SAY = {
    "--max-tokens": "--n-predict",
    "--max-new-tokens": "--n-predict",
    "--num-predict": "--n-predict",
    "--max-model-len": "--ctx-size",
    "--num-ctx": "--ctx-size",
    "--n-ctx": "--ctx-size",
    "--prompt": "PROMPT without a flag",
    "-p": "PROMPT without a flag",
}
"""Flags of other programs, by what they are called here."""


class OneLineParser(argparse.ArgumentParser):
    """Says a usage error in one line instead of repeating the whole usage."""

    def error(self, message: str) -> NoReturn:
        """Print the line and exit with 2."""
        self.exit(EXIT_USAGE, f"{self.prog}: error: {escaped(message)} (see {self.prog} --help)\n")

    def _print_message(self, message: str, file: Any = None) -> None:
        """Print help or version, where argparse hides that it could not be written."""
        if file is sys.stdout:
            require_stdout()
            print(message, end="", flush=True)
        else:
            super()._print_message(message, file)


class CommandParser(OneLineParser):
    """The parser of one command: it names what it does not know, where argparse would leave that to its parent."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """As argparse's, but what is left over is an error of this command."""
        known, left = super().parse_known_args(args, namespace)
        if left:
            self.error(self._about(left))
        return known, left

    def _about(self, left: Sequence[str]) -> str:
        known = self._option_string_actions
        flags = [word.split("=")[0] for word in left if word.startswith("-") and word not in ("-", *known)]
        if flags:
            meant = OTHERS_SAY.get(flags[0].replace("_", "-"), "")
            takes = {
                *known,
                *(f"{action.metavar} without a flag" for action in self._get_positional_actions()),
            }
            hint = f" (here it is {meant})" if meant in takes else did_you_mean(flags[0], known)
            return f"there is no flag {flags[0]}{hint}"
        hint = ""
        if any(action.metavar in OF_TEXT for action in self._actions):
            hint = "; a text of several words needs quotes"
        return f"not understood: {' '.join(left)}{hint}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``" (did you mean …?)"`` with the one of `known` that `word` is close to; empty if none is."""
    close = difflib.get_close_matches(word[:64], known, n=1, cutoff=0.7)
    return f" (did you mean {close[0]}?)" if close else ""


def check_first_word(parser: OneLineParser, words: Sequence[str], commands: Iterable[str]) -> None:
    """Exit with one line if a command line does not begin with a command or a flag of llorch itself."""
    if not words or words[0] in commands or words[0] in parser._option_string_actions:
        return
    if words[0].startswith("-"):
        parser.error(f"the command comes first, then its flags: {parser.prog} COMMAND {words[0]} ...")
    hint = did_you_mean(words[0], commands) or f"; there are {', '.join(commands)}"
    parser.error(f"there is no command {words[0]!r}{hint}")
