"""The simulated replica decides as the real engine does: same arrivals in virtual time, same batches."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import llorch.engine.engine as engine_module
import llorch.engine.postprocess as postprocess_module
from llorch.engine.batches import batch_of
from llorch.engine.engine import Engine, open_configured
from llorch.engine.events import EndEvent
from llorch.engine.params import SamplingParams
from llorch.engine.request import Request
from llorch.engine.scheduler import Chunk
from llorch.settings import Settings
from tests.support.cluster import step_times
from tools.performance.cluster.replica import _MOMENT_S, HTTPCosts, ReplicaSettings
from tools.performance.cluster.routing import LeastLoaded
from tools.performance.cluster.simulation import Fleet, Simulation
from tools.performance.cluster.step_times import Load, StepTimes
from tools.performance.cluster.workload import Job, Mix, arrivals

Batch = tuple[tuple[int, int, int], ...]
"""Of each sequence: its job, the tokens that were there before, the tokens computed."""

SETTINGS = ReplicaSettings(parallel=4, ctx_size=1024, batch_size=256)
MIX = Mix(n_users=24, period_s=9, n_groups=3, n_system=90, n_message=80, n_answer=25, n_ctx=1000)


def batch(chunks: list[Chunk]) -> Batch:
    return tuple((int(c.sequence.request.job_id), c.sequence.n_computed, c.n_tokens) for c in chunks)


class VirtualEngine:
    """A real engine on a clock that the table of step times moves."""

    def __init__(self, model: Path, times: StepTimes, patch: pytest.MonkeyPatch) -> None:
        settings = Settings(model=str(model), threads=1, parallel=4, ctx_size=1024, batch_size=256)
        self.now_s = self._cost_s = self._moment_s = 0.0
        self.batches: list[Batch] = []
        self.answers: dict[int, tuple[int, ...]] = {}
        loaded = open_configured(settings)
        self.engine = Engine(loaded, settings)
        forward = loaded.llama.forward

        def noted(chunks: list[Chunk], tables: Any) -> Any:
            self.batches.append(batch(chunks))
            self._cost_s = times.seconds(Load.of(chunks), times.alone)[0]
            return batch_of(chunks, tables)

        def timed(*args: Any, **others: Any) -> Any:
            self.now_s += self._cost_s
            return forward(*args, **others)

        patch.setattr(engine_module, "batch_of", noted)
        patch.setattr(loaded.llama, "forward", timed)
        for module in (engine_module, postprocess_module):
            clock = SimpleNamespace(perf_counter=lambda: self.now_s + self._moment_s)
            patch.setattr(module, "time", clock)

    def run(self, jobs: list[Job]) -> None:
        line = deque(jobs)
        while line or self.engine.has_work:
            if not self.engine.has_work:
                self.now_s = line[0].arrival_s
            self._moment_s = _MOMENT_S
            while line and line[0].arrival_s <= self.now_s:
                job = line.popleft()
                greedy = SamplingParams(temperature=0)
                self.engine.add(
                    Request(str(job.number), job.token_ids, greedy, len(job.answer_ids), ignore_eos=True)
                )
            self._moment_s = 0.0
            for step_event in self.engine.step():
                if isinstance(step_event.event, EndEvent):
                    self.answers[int(step_event.job_id)] = step_event.event.token_ids


@pytest.mark.parametrize("seed", [1, 2])
def test_the_simulation_computes_the_batches_of_the_real_engine(
    seed: int, long_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = step_times()
    jobs = list(arrivals(MIX, 14, seed))
    real = VirtualEngine(long_model, times, monkeypatch)
    times.about["positions_like_a_row"] = real.engine.loaded.llama.row_cost.equal
    real.run(jobs)
    jobs = [Job(job.number, job.arrival_s, job.token_ids, real.answers[job.number]) for job in jobs]

    simulated: list[Batch] = []
    simulation = Simulation(
        times,
        SETTINGS,
        HTTPCosts(),
        Fleet(1),
        LeastLoaded(4),
        lambda _, chunks: simulated.append(batch(chunks)),
    )
    tally = simulation.run(jobs)

    assert simulated == real.batches
    assert simulation.now_s == real.now_s
    assert tally.n_finished == len(jobs) > 25
    assert tally.n_tokens == sum(map(len, real.answers.values()))
    assert max(map(len, simulated)) == 4  # sequences shared steps
    assert tally.n_cached > 0
