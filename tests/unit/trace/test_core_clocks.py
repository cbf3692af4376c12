"""How long threads were without a core."""

from __future__ import annotations

import threading
import time

import pytest

from llorch.trace.core_clocks import CoreClocks

pytestmark = pytest.mark.skipif(
    not hasattr(time, "pthread_getcpuclockid"), reason="this system does not tell the clocks of threads"
)


def test_a_thread_that_sleeps_has_no_core_and_one_that_computes_has() -> None:
    release = threading.Event()
    sleeper = threading.Thread(target=release.wait)
    sleeper.start()
    assert sleeper.ident is not None
    try:
        clocks = CoreClocks([sleeper.ident])
        begun_ns = (
            time.perf_counter_ns()
        )  # around what is measured: this thread may lose its core at any moment
        clocks.begin()
        used_ns = time.thread_time_ns()
        while time.thread_time_ns() - used_ns < 20_000_000:
            pass
        own_ns, other_ns = clocks.off_ns()
        elapsed_ns = time.perf_counter_ns() - begun_ns
    finally:
        release.set()
        sleeper.join()
    assert own_ns <= elapsed_ns - 19_000_000
    assert other_ns >= 19_000_000


def test_where_the_system_does_not_say_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(time, "pthread_getcpuclockid")
    clocks = CoreClocks([])
    clocks.begin()
    assert clocks.off_ns() == ()
