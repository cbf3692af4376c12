"""What is one message: a line, lines that end with a backslash, or a text between quotes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from llorch.cli.dialogue.typed_messages import FIRST, NEXT, read_message
from llorch.errors import InputError


def typing(*lines: str) -> tuple[Callable[[str], str], list[str]]:
    """Something that types `lines`, and the prompts that it gets."""
    rest, prompts = list(lines), []

    def next_line(prompt: str) -> str:
        prompts.append(prompt)
        if not rest:
            raise EOFError
        return rest.pop(0)

    return next_line, prompts


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["one"], "one"),
        ([""], ""),
        (["one\\", "two\\", "three"], "one\ntwo\nthree"),
        (["one\\", ""], "one\n"),
        (['"""one"""'], "one"),
        (['"""', "one", "", "  two", '"""'], "one\n\n  two"),
        (['  """one', 'two"""'], "one\ntwo"),
        (['"""', "/exit", "ends with \\", '"""'], "/exit\nends with \\"),
        (['""""""'], ""),
        (['a """ b'], 'a """ b'),
    ],
)
def test_lines_become_one_message(lines: list[str], message: str) -> None:
    next_line, prompts = typing(*lines)
    assert read_message(next_line) == message
    assert prompts == [FIRST, *[NEXT] * (len(lines) - 1)]


@pytest.mark.parametrize("lines", [["one\\"], ['"""', "one"], ['"""']])
def test_a_message_that_does_not_end_is_named(lines: list[str]) -> None:
    with pytest.raises(InputError, match="the input ends inside of"):
        read_message(typing(*lines)[0])


def test_no_line_is_no_message() -> None:
    with pytest.raises(EOFError):
        read_message(typing()[0])
