"""A busy machine makes llorch slower, but not many times: its threads wait for one that is not running."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not hasattr(os, "sched_setaffinity"), reason="this system cannot pin a process to CPUs"
    ),
]

MODEL = Path(__file__).resolve().parents[2] / "llorch" / "assets" / "demo.gguf"
N_TOKENS = 1500
LEAST_SHARE = 0.35
"""CPU time per second of a disturbed run. A fair scheduler leaves half a core to each of four threads on two cores, two
thirds of one to each of three; threads that wait for one another while other work runs get a tenth."""
MOST_CPU_TIME = 2.5
"""Times the CPU time of the undisturbed run: threads that spin while they wait take more."""
N_PAIRS = 5
"""Undisturbed and disturbed runs alternate until a pair is within the limits: a collapse shows in every pair."""


@dataclass(frozen=True, slots=True)
class Run:
    """Seconds of a run, and CPU time of all its threads."""

    seconds: float
    cpu_s: float


def decode(cpus: set[int], n_threads: int) -> Run:
    command = [sys.executable, "-m", "tests.support.contention_worker", str(MODEL), ",".join(map(str, cpus))]
    done = subprocess.run(
        [*command, str(n_threads), str(N_TOKENS)], capture_output=True, check=True, text=True
    )
    return Run(*map(float, done.stdout.split()))


def _burn() -> None:
    while True:
        pass


@contextmanager
def busy(n_processes: int) -> Iterator[None]:
    """Other work on every core."""
    processes = [
        multiprocessing.get_context("spawn").Process(target=_burn, daemon=True) for _ in range(n_processes)
    ]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()


@pytest.fixture(scope="module")
def two_cpus() -> set[int]:
    cpus = sorted(os.sched_getaffinity(0))[:2]
    if len(cpus) < 2:
        pytest.skip("needs two CPUs")
    return set(cpus)


def assert_no_collapse(undisturbed: Callable[[], Run], disturbed: Callable[[], Run]) -> None:
    """In at least one pair of runs the disturbed one gets its share of the cores, and needs it for its tokens."""
    seen: list[str] = []
    while len(seen) < N_PAIRS:
        alone, beside = undisturbed(), disturbed()
        share, cpu_time = beside.cpu_s / beside.seconds, beside.cpu_s / alone.cpu_s
        whole = min(1.0, alone.cpu_s / alone.seconds)  # of a core, less what work of others takes
        if share > LEAST_SHARE * whole and cpu_time < MOST_CPU_TIME:
            return
        seen.append(f"{share:.2f} of a core, {cpu_time:.1f} times the CPU time")
    pytest.fail(f"disturbed: {seen}")


def test_two_threads_on_one_core_get_it_and_do_not_spin_it_away(two_cpus: set[int]) -> None:
    one_cpu = {min(two_cpus)}
    assert_no_collapse(lambda: decode(one_cpu, 1), lambda: decode(one_cpu, 2))


def test_beside_other_work_on_all_cores_a_fair_share_is_used(two_cpus: set[int]) -> None:
    def disturbed() -> Run:
        with busy(len(two_cpus)):
            return decode(two_cpus, 2)

    assert_no_collapse(lambda: decode(two_cpus, 2), disturbed)
