"""The watch asks until the file has changed or it is left."""

from __future__ import annotations

import threading

from llorch.machine.file_watch import FileWatch

WAIT_S = 60.0
"""Only a failing test waits so long."""


def test_a_change_is_told_once_with_its_reason() -> None:
    answers = iter([None, None, "cut"])
    told: list[str] = []
    told_once = threading.Event()

    def on_change(change: str) -> None:
        told.append(change)
        told_once.set()

    with FileWatch(lambda: next(answers), on_change, interval_s=0.001) as watch:
        assert told_once.wait(WAIT_S)
        watch._thread.join(WAIT_S)
    assert told == ["cut"]
    assert next(answers, "asked no more") == "asked no more"


def test_nothing_is_asked_after_the_watch_was_left() -> None:
    asked = threading.Event()
    n_asked = 0

    def changed() -> None:
        nonlocal n_asked
        n_asked += 1
        asked.set()

    with FileWatch(changed, lambda _: None, interval_s=0.001) as watch:
        assert asked.wait(WAIT_S)
    before = n_asked
    assert not watch._thread.is_alive()
    assert n_asked == before


def test_a_watch_that_is_left_at_once_does_not_wait_for_its_next_question() -> None:
    with FileWatch(lambda: "never asked", lambda _: None, interval_s=1e6) as watch:
        pass
    assert not watch._thread.is_alive()
