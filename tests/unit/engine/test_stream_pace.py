"""No stream falters while long prompts arrive: the real engine, on a clock that a model of costs moves."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import llorch.engine.engine as engine_module
import llorch.engine.postprocess as postprocess_module
from llorch.engine.engine import Engine, open_configured
from llorch.engine.events import EndEvent, StepEvent, TokenEvent
from llorch.engine.ngram_drafter import NgramDrafter
from llorch.engine.params import SamplingParams
from llorch.engine.request import Request
from llorch.model.batch import Batch
from llorch.open_model import OpenModel
from llorch.settings import Settings

Cost = tuple[float, float, float]
"""Seconds of a step in itself, of each row, and of each position that a row looks at."""
BILLION: Cost = (0.05, 0.003, 2e-6)
SMALL: Cost = (0.005, 2e-4, 4e-7)
"""Of models with 1.1 billion and 135 million weights."""


@pytest.fixture(scope="module")
def loaded(long_model: Path) -> Iterator[OpenModel]:
    with open_configured(Settings(model=str(long_model), threads=1)) as loaded:
        yield loaded


class Clock:
    """Stands still but for what steps take."""

    def __init__(self, loaded: OpenModel, patch: pytest.MonkeyPatch, cost: Cost) -> None:
        self.now_s = 0.0
        forward = type(loaded.llama).forward
        random = np.random.default_rng(0)
        step_s, row_s, position_s = cost

        def timed(llama: Any, batch: Batch, *args: Any, **others: Any) -> Any:
            cost_s = step_s + row_s * batch.n_rows + position_s * float(batch.positions.sum())
            self.now_s += cost_s * random.uniform(1, 1.1)
            return forward(llama, batch, *args, **others)

        patch.setattr(type(loaded.llama), "forward", timed)
        for module in (engine_module, postprocess_module):
            patch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: self.now_s))


def request(job_id: str, n_prompt: int, max_tokens: int) -> Request:
    rng = np.random.default_rng(sum(job_id.encode()))
    token_ids = tuple(rng.integers(3, 300, n_prompt).tolist())
    return Request(job_id, token_ids, SamplingParams(temperature=0), max_tokens, ignore_eos=True)


@pytest.mark.parametrize("cost", [BILLION, SMALL])
@pytest.mark.parametrize("n_streams", [1, 4])
def test_tokens_come_at_most_twice_as_late_while_prompts_of_2000_tokens_arrive(
    n_streams: int, cost: Cost, loaded: OpenModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(loaded, Settings(parallel=n_streams + 1, ctx_size=4096))
    clock = Clock(loaded, monkeypatch, cost)
    for i in range(n_streams):
        engine.add(request(f"stream{i}", 30, 800))
    times: defaultdict[str, list[float]] = defaultdict(list)
    prompts: list[EndEvent] = []
    arrived_s: list[float] = []
    read_s: list[float] = []
    n_steps = 0
    while any(slot.request.job_id.startswith("stream") for slot in engine.snapshot().slots) or not n_steps:
        for step_event in engine.step():
            if isinstance(step_event.event, TokenEvent) and step_event.job_id.startswith("stream"):
                times[step_event.job_id].append(clock.now_s)
            elif isinstance(step_event.event, EndEvent) and step_event.job_id.startswith("prompt"):
                prompts.append(step_event.event)
                read_s.append(clock.now_s)
        n_steps += 1
        if n_steps in (60, 350):
            engine.add(request(f"prompt{n_steps}", 2000, 1))
            arrived_s.append(clock.now_s)
    ends = np.concatenate([of_stream[1:] for of_stream in times.values()])
    gaps = np.concatenate([np.diff(of_stream) for of_stream in times.values()])
    waits = zip(arrived_s, read_s, strict=True)
    gaps = gaps[np.any([(begin < ends) & (ends <= end) for begin, end in waits], axis=0)]
    assert np.percentile(gaps, 99) <= 2 * np.percentile(gaps, 50)
    assert len(prompts) == 2
    for end in prompts:
        assert end.timings.prompt_s < 4 * 2000 * (cost[1] + 1000 * cost[2])  # not starved either


def test_a_prompt_is_read_beside_a_stream_with_drafts_in_every_step(
    loaded: OpenModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NgramDrafter, "propose", lambda self, price, most: (5,) * min(most, 3))
    engine = Engine(loaded, Settings(parallel=2, ctx_size=4096, draft="ngram"))
    Clock(loaded, monkeypatch, BILLION)
    engine.add(request("stream", 30, 1000))
    for _ in range(5):
        engine.step()
    engine.add(request("prompt", 500, 1))
    ends: list[StepEvent] = []
    while not ends:
        ends = [event for event in engine.step() if isinstance(event.event, EndEvent)]
    assert ends[0].job_id == "prompt"
