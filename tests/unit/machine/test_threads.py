"""How many threads suit this process."""

from __future__ import annotations

import math

import pytest

from llorch.machine import threads


@pytest.mark.parametrize(
    ("affinity", "quota", "physical", "n"),
    [(8, math.inf, 4, 4), (8, 2.5, 4, 2), (1, math.inf, 1, 1), (8, 0.5, 4, 1), (2, 16.0, 2, 2)],
)
def test_threads_fit_affinity_quota_and_cores(
    affinity: int, quota: float, physical: int, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "allowed_cpus", lambda: set(range(affinity)))
    monkeypatch.setattr(threads, "cpu_quota", lambda: quota)
    monkeypatch.setattr(threads, "_physical", lambda cpus: physical)
    chosen, reason = threads.default_threads()
    assert chosen == n
    assert str(affinity) in reason
