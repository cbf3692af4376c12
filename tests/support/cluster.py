"""Invented step times, simple enough to be worked out by hand."""

from __future__ import annotations

from typing import Any

from tools.performance.cluster.step_times import Costs, StepTimes

PASS_S, ANSWER_S, ROW_S, POSITION_S = 0.02, 0.001, 0.0005, 1e-6
"""What a pass over the weights takes, a row of an answer, a row of a prompt, a position that either looks at."""


def step_times(*, outside_s: float = 0.0, slowdown: float = 1.0, n_cores: int = 2) -> StepTimes:
    """A table that is linear in its axes."""
    n_decode, n_prompt = (0, 1, 8), (0, 1, 512)

    def table(scale: float) -> Costs:
        forward = tuple(
            tuple(scale * (PASS_S + ANSWER_S * d + ROW_S * p) if d or p else 0.0 for p in n_prompt)
            for d in n_decode
        )
        outside = tuple(tuple(outside_s for _ in n_prompt) for _ in n_decode)
        return Costs(forward, outside, scale * POSITION_S, scale * POSITION_S)

    about: dict[str, Any] = {
        "model": "invented",
        "n_threads": 1,
        "n_cores": n_cores,
        "kv_bytes_per_token": 1024,
    }
    about |= {"cpu": "a CPU", "path": "avx2", "weight_bytes": 100 << 20, "n_ctx_train": 512}
    return StepTimes(n_decode, n_prompt, table(1.0), table(slowdown), about)
