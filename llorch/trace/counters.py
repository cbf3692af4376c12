"""Counter tracks of an engine: its KV blocks, its batch, how fast it chooses tokens."""

from __future__ import annotations

from collections import deque

from llorch.trace.perfetto import Timeline
from llorch.trace.records import Recording, StepRecord

PROCESS = "engine"

WINDOW_NS = 1_000_000_000
"""Rates are those of the last second."""

PAUSE_NS = 1_000_000
"""Where nothing is computed for so long, the batch is shown as empty."""


def add_counters(timeline: Timeline, recording: Recording) -> None:
    """Add the counters; each keeps its value until the next step changes it.

    Args:
        timeline: gets the tracks.
        recording: what was computed.
    """
    chosen, read = _Rate(recording.begun_ns), _Rate(recording.begun_ns)
    begins = [step.begun_ns for step in recording.steps] + [recording.ended_ns]
    for step, next_ns in zip(recording.steps, begins[1:], strict=True):
        timeline.counter(PROCESS, "batch: rows", step.begun_ns, step.n_rows)
        if next_ns - step.ended_ns >= PAUSE_NS:
            timeline.counter(PROCESS, "batch: rows", step.ended_ns, 0)
        for name, value in _state(step).items():
            timeline.counter(PROCESS, name, step.ended_ns, value)
        n_chosen = sum(chunk.n_chosen for chunk in step.chunks)
        n_read = sum(chunk.n_tokens for chunk in step.chunks if chunk.is_prompt)
        for name, rate, n in (("tokens/s", chosen, n_chosen), ("prompt tokens/s", read, n_read)):
            timeline.counter(PROCESS, name, step.ended_ns, rate.add(step.ended_ns, n))
            if next_ns - step.ended_ns >= WINDOW_NS:
                timeline.counter(PROCESS, name, step.ended_ns + WINDOW_NS, 0)


def _state(step: StepRecord) -> dict[str, int]:
    """Counters that show what the engine holds after a step."""
    state = step.state
    return {
        "KV blocks: used": state.n_blocks - state.n_free_blocks - state.n_kept_blocks,
        "KV blocks: kept": state.n_kept_blocks,
        "KV blocks: free": state.n_free_blocks,
        "batch: running": state.n_running,
        "batch: waiting": state.n_waiting,
        "cached tokens": state.n_cached_tokens,
    }


class _Rate:
    """Tokens a second, over the last second or since the begin."""

    def __init__(self, begun_ns: int) -> None:
        self._begun_ns = begun_ns
        self._recent: deque[tuple[int, int]] = deque()
        self._sum = 0

    def add(self, at_ns: int, n: int) -> float:
        """Count `n` tokens; the rate then."""
        self._recent.append((at_ns, n))
        self._sum += n
        while self._recent[0][0] <= at_ns - WINDOW_NS:
            self._sum -= self._recent.popleft()[1]
        return round(self._sum * 1e9 / max(min(at_ns - self._begun_ns, WINDOW_NS), 1), 3)
