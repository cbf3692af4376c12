"""How many replicas there should be: as many as the open requests fill, up to a share of their slots."""

from __future__ import annotations

import math
from typing import Any

TARGET_SHARE = 0.75
"""Of all slots, those that are taken when nothing is to be changed."""


def replicas_for_load(context: Any) -> tuple[int, dict[str, Any]]:
    """An autoscaling policy of Serve, which applies its delays and limits to what this returns.

    Args:
        context: a `ray.serve.config.AutoscalingContext` with the gauges of `Replica.record_autoscaling_stats`.

    Returns:
        Replicas wanted, and the policy's state, of which there is none.
    """
    gauges = context.aggregated_metrics or {}
    in_line = float(context.total_queued_requests or 0.0)
    n_open = sum(sum(gauges.get(name, {}).values()) for name in ("running", "waiting")) + in_line
    slots = list(gauges.get("slots", {}).values())
    if not slots:  # nothing runs yet, or has said nothing yet
        return max(context.target_num_replicas, 1 if in_line else 0), {}
    return math.ceil(n_open / (TARGET_SHARE * sum(slots) / len(slots))), {}
