"""Ctrl-C: it discards a line, stops an answer, and ends the program only for the impatient."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from types import FrameType

import pytest

from llorch.cli.dialogue.stop_key import IMPATIENT, LineDiscarded, StopKey


class Ended(Exception):
    """What was there before has the signal."""


@pytest.fixture(autouse=True)
def handler_before() -> Iterator[None]:
    def end(number: int, frame: FrameType | None) -> None:
        raise Ended

    before = signal.signal(signal.SIGINT, end)
    yield
    assert signal.getsignal(signal.SIGINT) is end, "it is put back"
    signal.signal(signal.SIGINT, before)


def test_a_press_at_the_prompt_discards_the_line() -> None:
    key = StopKey()
    with key.handled():
        for _ in range(3):
            with pytest.raises(LineDiscarded), key.prompting():
                signal.raise_signal(signal.SIGINT)
        assert not key.is_pressed


def test_a_press_in_an_answer_stops_it_and_is_forgotten_by_the_next() -> None:
    key = StopKey()
    with key.handled():
        seen = [key.is_pressed]
        signal.raise_signal(signal.SIGINT)
        seen.append(key.is_pressed)
        key.begin_answer()
        seen.append(key.is_pressed)
    assert seen == [False, True, False]


def test_an_answer_that_does_not_stop_can_be_left() -> None:
    key = StopKey()
    with key.handled():
        for _ in range(IMPATIENT - 1):
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(Ended):
            signal.raise_signal(signal.SIGINT)


def test_a_signal_that_was_switched_off_stays_so() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with StopKey().handled():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
