"""What a text shall be, said by a grammar, a regular expression or a list: checked, and put into Lark."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from llorch.chat.gbnf.lark import lark_of_gbnf
from llorch.chat.gbnf.parse import MAX_CHARS
from llorch.chat.grammar import Factory, Grammars, refusal
from llorch.chat.schema_bounds import MAX_TEXT, MAX_TOTAL_TEXT
from llorch.errors import ConstraintError

MAX_GRAMMAR_CHARS = MAX_CHARS
"""Of a GBNF grammar."""
MAX_REGEX_CHARS = MAX_TEXT
"""Of a regular expression."""
MAX_CHOICES = 1_000
MAX_CHOICE_CHARS = MAX_TEXT
MAX_CHARS_OF_CHOICES = MAX_TOTAL_TEXT
"""Of all choices together."""

RULES = {
    "grammar": f"a GBNF grammar, a string of at most {MAX_GRAMMAR_CHARS} characters",
    "regex": f"a regular expression, a string of at most {MAX_REGEX_CHARS} characters",
    "choice": f"a list of at most {MAX_CHOICES} strings, none empty, each of at most {MAX_CHOICE_CHARS} characters, "
    f"{MAX_CHARS_OF_CHOICES} together",
}
"""What values there are, in words, by their kind."""


@dataclass(frozen=True, slots=True)
class TextRule:
    """A rule that a whole text fits.

    Attributes:
        kind: how it is said.
        value: a text, or a list of texts; of that form only where `is_valid`.
        field: name of the field that holds it, for errors.
    """

    kind: Literal["grammar", "regex", "choice"]
    value: Any
    field: str

    @property
    def is_valid(self) -> bool:
        """Whether the value has the form that `RULES` says; what it means is checked by `constraint`."""
        if self.kind == "grammar":
            return _is_text(self.value, MAX_GRAMMAR_CHARS)
        if self.kind == "regex":
            return _is_text(self.value, MAX_REGEX_CHARS)
        return (
            isinstance(self.value, list)
            and 0 < len(self.value) <= MAX_CHOICES
            and all(_is_text(text, MAX_CHOICE_CHARS) for text in self.value)
            and sum(map(len, self.value)) <= MAX_CHARS_OF_CHOICES
        )

    def constraint(self, grammars: Grammars) -> Factory:
        """What keeps a text to the rule: to the letter, so no space stands in front of it.

        Raises:
            RequestError: it is none that can be enforced, or there are no grammars.
        """
        try:
            start, rules = self._lark(grammars)
        except ConstraintError as error:
            raise refusal(self.field, str(error)) from None
        return grammars.lark(start, rules, self.field, takes_space=False)

    def _lark(self, grammars: Grammars) -> tuple[str, list[str]]:
        if self.kind == "grammar":
            return lark_of_gbnf(self.value, grammars.find_token)
        if self.kind == "regex":
            return "TEXT", [f"TEXT: /{_in_slashes(self.value)}/"]
        return "TEXT", [f"TEXT: /{'|'.join(map(_exactly, self.value))}/"]


def _is_text(value: object, most: int) -> bool:
    if not isinstance(value, str) or not 0 < len(value) <= most:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:  # a lone surrogate, which is no character
        return False
    return True


def _in_slashes(pattern: str) -> str:
    """A regular expression as it stands between slashes.

    Raises:
        ConstraintError: it ends in the middle of an escape.
    """
    written = list[str]()
    chars = iter(pattern)
    for char in chars:
        if char == "\\":
            following = next(chars, None)
            if following is None:
                raise ConstraintError("invalid regex: an escape without a character")
            written.append(char + following)
        else:
            written.append("\\/" if char == "/" else char)
    return "".join(written)


def _exactly(text: str) -> str:
    """A regular expression for one text."""
    return "".join(char if char.isascii() and char.isalnum() else f"\\x{{{ord(char):x}}}" for char in text)
