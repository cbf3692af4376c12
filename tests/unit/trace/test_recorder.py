"""What a recorder keeps of an engine's steps."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llorch.engine.engine import Engine, open_configured
from llorch.engine.params import SamplingParams
from llorch.engine.request import Request
from llorch.model.batch import Batch
from llorch.open_model import OpenModel
from llorch.settings import Settings
from llorch.trace.recorder import Recorder
from llorch.trace.records import FailedPass, StepRecord
from tests.support.generations import end_of, run

GREEDY = SamplingParams(temperature=0)


@pytest.fixture
def loaded(tiny_model: Path) -> Iterator[OpenModel]:
    with open_configured(Settings(model=str(tiny_model), threads=2)) as loaded:
        yield loaded


def request(job_id: str, n_prompt: int, n: int = 5) -> Request:
    return Request(job_id, tuple(range(5, 5 + n_prompt)), GREEDY, n, ignore_eos=True)


def test_a_recording_has_every_step_with_its_rows_and_stamps_in_order(loaded: OpenModel) -> None:
    engine = Engine(loaded, Settings(ctx_size=64, parallel=2))
    engine.watcher = recorder = Recorder(loaded.llama)
    run(engine, request("a", 20), request("b", 9))
    recording = recorder.finish()
    for name, n_prompt in (("a", 20), ("b", 9)):
        chunks = [c for step in recording.steps for c in step.chunks if c.job_id == name]
        assert sum(c.n_tokens for c in chunks if c.is_prompt) == n_prompt
        assert sum(c.n_chosen for c in chunks) == 5
        positions = list(
            itertools.chain(*(range(c.first_position, c.first_position + c.n_tokens) for c in chunks))
        )
        assert positions == list(range(n_prompt + 4))
    moments = [recording.begun_ns]
    for step in recording.steps:
        moments += [step.begun_ns, *step.forward_ns, step.ended_ns]
        assert step.stamps_ns.shape[0] == len(loaded.llama.labels)
        assert step.forward_ns[0] <= step.stamps_ns.min() <= step.stamps_ns.max() <= step.forward_ns[1]
        assert (np.diff(step.stamps_ns.transpose(1, 0, 2).reshape(step.stamps_ns.shape[1], -1)) >= 0).all()
    assert moments == sorted(moments)
    assert recording.ended_ns >= moments[-1]
    assert recording.n_dropped == 0


def test_stamps_that_are_too_many_are_counted_and_not_kept(loaded: OpenModel) -> None:
    engine = Engine(loaded, Settings(ctx_size=64))
    engine.watcher = recorder = Recorder(loaded.llama, max_bytes=0)
    run(engine, request("a", 4))
    assert (recorder.finish().steps, recorder.finish().n_dropped) == ((), 5)


def test_an_engine_that_is_watched_chooses_the_same_tokens(loaded: OpenModel) -> None:
    alone = end_of(run(Engine(loaded, Settings(ctx_size=64)), request("a", 20))["a"])
    engine = Engine(loaded, Settings(ctx_size=64))
    engine.watcher = Recorder(loaded.llama)
    assert end_of(run(engine, request("a", 20))["a"]).token_ids == alone.token_ids


def test_a_pass_that_failed_is_kept_apart_from_those_that_came_after_it(
    loaded: OpenModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = loaded.llama.forward

    def fail_together(batch: Batch, *args: Any, **more: Any) -> Any:
        if batch.n_rows == 2:
            raise MemoryError
        return forward(batch, *args, **more)

    engine = Engine(loaded, Settings(ctx_size=64, parallel=2))
    engine.watcher = recorder = Recorder(loaded.llama)
    monkeypatch.setattr(loaded.llama, "forward", fail_together)
    run(engine, request("a", 9), request("b", 9))
    recording = recorder.finish()
    assert [[c.job_id for c in failed.chunks] for failed in recording.failed] == [["a", "b"]] * 4
    passes: list[StepRecord | FailedPass] = [*recording.steps, *recording.failed]
    moments = sorted((p.begun_ns, p.ended_ns) for p in passes)
    assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(moments)), "none overlap"
    assert sum(c.n_chosen for step in recording.steps for c in step.chunks) == 10


def test_a_recorder_that_has_stopped_keeps_nothing_more(loaded: OpenModel) -> None:
    engine = Engine(loaded, Settings(ctx_size=64))
    engine.watcher = recorder = Recorder(loaded.llama, keeps_stamps=False)
    run(engine, request("a", 4))
    recorder.stop()
    run(engine, request("b", 4))
    recording = recorder.finish()
    assert {c.job_id for step in recording.steps for c in step.chunks} == {"a"}
    assert recording.ended_ns >= recording.steps[-1].ended_ns
    assert all(len(step.stamps_ns) == 0 for step in recording.steps)
