"""A terminal obeys no answer."""

from __future__ import annotations

import io
import re
import sys

import pytest

from llorch.cli.dialogue.screen import Screen, harmless


class FakeTerminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J\x1b]0;title\x07", "\\x1b[2J\\x1b]0;title\\x07"),
        ("\x9b31m", "\\x9b31m"),
        ("a\rb\bc\x7f", "a\\x0db\\x08c\\x7f"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\u2066a\u2069", "\\u2066a\\u2069"),
    ],
)
def test_what_a_terminal_would_obey_is_written_as_an_escape(text: str, shown: str) -> None:
    assert harmless(text) == shown


def test_all_other_text_stays_as_it_is() -> None:
    text = "tab\there\nnext line, Grüße, 日本, עברית, 👩‍👩‍👧"
    assert harmless(text) == text


def test_no_control_character_of_unicode_is_left() -> None:
    text = harmless("".join(map(chr, range(0x300))))
    assert re.findall(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", text) == []


def test_a_file_gets_the_answer_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    Screen(has_color=True, is_quiet=False).write("\x1b[31m")
    assert sys.stdout.getvalue() == "\x1b[31m"  # type: ignore


@pytest.mark.parametrize(
    ("variables", "has_color", "is_dim"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": ""}, True, True),
        ({"TERM": "dumb"}, True, False),
    ],
)
def test_notes_are_dim_unless_somebody_says_no(
    variables: dict[str, str], has_color: bool, is_dim: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stderr", FakeTerminal())
    Screen(has_color=has_color, is_quiet=False).say("\x1bnote")
    assert sys.stderr.getvalue() == ("\x1b[2m\\x1bnote\x1b[0m\n" if is_dim else "\\x1bnote\n")  # type: ignore


@pytest.mark.parametrize(("stream", "is_quiet"), [(io.StringIO(), False), (FakeTerminal(), True)])
def test_notes_are_for_people_who_want_them(
    stream: io.StringIO, is_quiet: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    Screen(has_color=True, is_quiet=is_quiet).say("note")
    assert stream.getvalue() == ""
