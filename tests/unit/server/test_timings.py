"""Durations in llama-server's words."""

from __future__ import annotations

import math

from llorch.engine.events import ProgressEvent, Timings, Usage
from llorch.server.timings import progress_json, timings_json

KEYS = {
    "cache_n", "prompt_n", "prompt_ms", "prompt_per_token_ms", "prompt_per_second",
    "predicted_n", "predicted_ms", "predicted_per_token_ms", "predicted_per_second",
}  # fmt: skip


def test_cached_tokens_took_no_time_and_the_first_token_is_no_step() -> None:
    report = timings_json(Usage(10, 5, cached_tokens=6), Timings(1.0, 0.2, 20.0, 0.4, 10.0))
    assert set(report) == KEYS
    assert (report["cache_n"], report["prompt_n"], report["predicted_n"]) == (6, 4, 5)
    assert math.isclose(report["prompt_per_token_ms"], 50)
    assert math.isclose(report["predicted_per_token_ms"], 100)
    assert (report["prompt_per_second"], report["predicted_per_second"]) == (20.0, 10.0)


def test_nothing_is_infinite_when_nothing_happened() -> None:
    report = timings_json(Usage(3, 0, 0), Timings(0.0, 0.0, 0.0, 0.0, 0.0))
    assert all(math.isfinite(value) for value in report.values())


def test_drafts_are_counted_where_there_were_any() -> None:
    report = timings_json(Usage(3, 9, 0), Timings(0.0, 0.1, 30.0, 0.1, 80.0, 8, 6))
    assert (report["draft_n"], report["draft_n_accepted"]) == (8, 6)


def test_progress_has_four_counts() -> None:
    assert progress_json(ProgressEvent(100, 16, 64, 0.25)) == {
        "total": 100, "cache": 16, "processed": 64, "time_ms": 250,
    }  # fmt: skip
