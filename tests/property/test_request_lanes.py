"""Lanes of requests are true for any requests: against what the engine's events say, on an engine that is disturbed."""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from llorch.engine.engine import Engine, open_configured
from llorch.engine.events import EndEvent, ErrorEvent, LastEvent, StepEvent, TokenEvent
from llorch.engine.params import SamplingParams
from llorch.engine.request import Request
from llorch.open_model import OpenModel
from llorch.settings import Settings
from llorch.trace.recorder import Recorder
from llorch.trace.records import RequestRecord
from tests.support.drafts import new_engine
from tests.support.generations import run
from tests.support.perfetto.trace_file import Slice
from tests.support.recordings import lanes
from tests.support.watched_engine import WatchedEngine

NAMES = ("a", "b", "c")


@pytest.fixture(scope="module")
def loaded(tiny_model: Path) -> Iterator[OpenModel]:
    with open_configured(Settings(model=str(tiny_model), threads=1, batch_size=16)) as loaded:
        yield loaded


@st.composite
def arrivals(draw: st.DrawFn) -> list[tuple[int, Request, int | None]]:
    """Requests with the step before which each comes, and the one before which it is aborted, if it is."""
    found = []
    for i in range(draw(st.integers(1, 7))):
        prompt = (1, *draw(st.lists(st.sampled_from([70, 71]), min_size=1, max_size=40)))
        bias = {70: 5.0, 71: 5.0, 2: draw(st.sampled_from([-100.0, 4.0]))}
        params = SamplingParams(temperature=1, seed=i, logit_bias=bias)
        n_prompt_logprobs = draw(st.sampled_from([None, None, 0]))
        n = draw(st.integers(0 if n_prompt_logprobs == 0 else 1, 20))
        job_id = draw(st.sampled_from(NAMES)) if draw(st.booleans()) else f"job{i}"
        request = Request(job_id, prompt, params, n, n_prompt_logprobs=n_prompt_logprobs)
        begin = draw(st.integers(0, 12))
        found.append((begin, request, draw(st.none() | st.integers(begin, 25))))
    return found


class Told:
    """What became of the requests, from the engine's own events."""

    def __init__(self) -> None:
        self.requests: list[RequestRecord] = []
        self.n_tokens: defaultdict[str, int] = defaultdict(int)
        self._open: dict[str, tuple[Request, int, int]] = {}

    def begin(self, request: Request) -> None:
        self._open[request.job_id] = request, time.perf_counter_ns(), 0

    def is_open(self, job_id: str) -> bool:
        return job_id in self._open

    def take(self, events: list[StepEvent]) -> None:
        for job_id, told in ((e.job_id, e.event) for e in events):
            if isinstance(told, TokenEvent) and told.id is not None:
                request, submitted_ns, n = self._open[job_id]
                self._open[job_id] = request, submitted_ns, n + 1
                self.n_tokens[job_id] += 1
            if isinstance(told, LastEvent):
                self._end(job_id, told)

    def _end(self, job_id: str, last: EndEvent | ErrorEvent) -> None:
        request, submitted_ns, n = self._open.pop(job_id)
        outcome = last.finish_reason if isinstance(last, EndEvent) else last.code
        admitted = isinstance(last, EndEvent) and last.timings.prompt_s > 0
        n_prompt = len(request.token_ids)
        self.requests.append(
            RequestRecord(job_id, submitted_ns, time.perf_counter_ns(), outcome, n_prompt, n, admitted)
        )

    def all(self) -> list[RequestRecord]:
        return self.requests + [
            RequestRecord(name, submitted_ns, None, "open", len(request.token_ids), n, False)
            for name, (request, submitted_ns, n) in self._open.items()
        ]


def drive(engine: Engine, coming: list[tuple[int, Request, int | None]], n_steps: int, told: Told) -> None:
    """Steps of an engine while requests come and go."""
    for i in range(n_steps):
        for begin, request, end in coming:
            if begin == i and not told.is_open(request.job_id):
                told.begin(request)
                engine.add(request)
            if end == i and engine.holds(request):
                engine.abort(request.job_id)
        told.take(engine.step())


def n_tokens(slices: list[Slice]) -> int:
    """How many tokens the slices of a lane say there were."""
    found = 0
    for name in (s.name for s in slices if s.category == "token"):
        first, _, last = name.removeprefix("tokens ").removeprefix("token ").partition("-")
        found += 0 if name == "no token" else int(last or first) - int(first) + 1
    return found


@settings(max_examples=20, deadline=None)
@given(
    coming=arrivals(),
    n_steps=st.integers(1, 60),
    n_blocks=st.sampled_from([2, 3, None]),
    drafts=st.booleans(),
)
def test_lanes_say_what_the_events_say(
    loaded: OpenModel,
    coming: list[tuple[int, Request, int | None]],
    n_steps: int,
    n_blocks: int | None,
    drafts: bool,
) -> None:
    if drafts:
        engine = new_engine(loaded, "ngram", parallel=3)
    else:
        engine = WatchedEngine(loaded, n_blocks, parallel=3, ctx_size=64).engine
    told = Told()
    engine.watcher = recorder = Recorder(loaded.llama, keeps_stamps=False)
    drive(engine, coming, n_steps, told)
    engine.watcher = None
    recording = recorder.finish()
    requests = told.all()
    with tempfile.TemporaryDirectory() as folder:
        trace = lanes(Path(folder), recording, *requests)  # slices nest, or it fails
    found = [s for slices in trace.slices.values() for s in slices]
    lives = [s for s in found if "job_id" in s.args]
    assert sorted((s.name, s.args["tokens"], s.args["outcome"]) for s in lives) == sorted(
        (r.job_id, r.n_generated, r.outcome) for r in requests
    )
    assert n_tokens(found) == sum(told.n_tokens.values())
    most_open = max((sum(a.begin_ns <= b.begin_ns < a.end_ns for a in lives) for b in lives), default=0)
    assert len(trace.slices) == max(most_open, int(bool(lives)))
    event(f"gave way: {any(s.name == 'gave way' for s in found)}")
    event(f"several tokens: {any(s.name.startswith('tokens') for s in found)}")
    event(f"queued: {any(s.name == 'queued' and s.end_ns - s.begin_ns > 10**6 for s in found)}")


def test_a_sequence_that_gives_way_is_shown_as_such(loaded: OpenModel, tmp_path: Path) -> None:
    engine = WatchedEngine(loaded, 3, parallel=2, ctx_size=64, prefix_cache=False).engine
    engine.watcher = recorder = Recorder(loaded.llama)
    params = SamplingParams(temperature=0)
    old, young = (Request(f"j{n}", (1,) * n, params, 50 - n, ignore_eos=True) for n in (20, 30))
    run(engine, old, young)
    assert engine.snapshot().n_preempted == 1
    lane = lanes(tmp_path, recorder.finish()).slices["lane 2"]
    (gap,) = [s for s in lane if s.name == "gave way"]
    again = [s for s in lane if s.args.get("again")]
    assert (again[0].begin_ns, again[0].args["first_position"]) == (gap.end_ns, 0)
    assert sum(s.args["rows"] for s in again) > 30, "its prompt, and tokens that it had chosen"
    assert n_tokens(lane) == 20
