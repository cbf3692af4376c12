"""How many replicas a load asks for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from llorch.ray_serve.autoscaling import replicas_for_load


def context(gauges: dict[str, Any] | None, in_line: float = 0.0, target: int = 1) -> SimpleNamespace:
    return SimpleNamespace(
        aggregated_metrics=gauges, total_queued_requests=in_line, target_num_replicas=target
    )


@pytest.mark.parametrize(
    ("running", "waiting", "in_line", "wanted"),
    [([0, 0], [0, 0], 0, 0), ([3, 0], [0, 0], 0, 1), ([4, 3], [0, 0], 0, 3), ([4, 4], [1, 1], 8, 6)],
)
def test_open_requests_fill_three_quarters_of_the_slots(
    running: list[int], waiting: list[int], in_line: int, wanted: int
) -> None:
    gauges = {
        "running": dict(enumerate(running)),
        "waiting": dict(enumerate(waiting)),
        "slots": {0: 4, 1: 4},
    }
    assert replicas_for_load(context(gauges, in_line)) == (wanted, {})


@pytest.mark.parametrize("gauges", [None, {}, {"running": {}}])
def test_without_gauges_nothing_changes_but_one_replica_is_started_for_those_who_wait(gauges: Any) -> None:
    assert replicas_for_load(context(gauges, 0.0, 3)) == (3, {})
    assert replicas_for_load(context(gauges, 2.0, 0)) == (1, {})
