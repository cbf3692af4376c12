"""What an engine tells about its work: progress of prompts, speeds, and its state for other threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llorch.engine.engine import Engine, open_configured
from llorch.engine.events import EndEvent, ProgressEvent, StartedEvent, TokenEvent
from llorch.engine.params import SamplingParams
from llorch.engine.request import Request
from llorch.open_model import OpenModel
from llorch.settings import Settings
from tests.support.generations import end_of, run


@pytest.fixture(scope="module")
def loaded(long_model: Path) -> Iterator[OpenModel]:
    with open_configured(Settings(model=str(long_model), threads=1)) as loaded:
        yield loaded


def new_engine(loaded: OpenModel, **settings: Any) -> Engine:
    return Engine(loaded, Settings(**{"parallel": 2, "ctx_size": 256, **settings}))


def request(job_id: str = "a", n_prompt: int = 150, max_tokens: int = 4, **fields: Any) -> Request:
    token_ids = tuple(3 + i * 7 % 300 for i in range(n_prompt))
    return Request(job_id, token_ids, SamplingParams(temperature=0), max_tokens, ignore_eos=True, **fields)


def test_progress_is_reported_after_each_step_that_reads_prompt_and_only_on_request(
    loaded: OpenModel,
) -> None:
    engine = new_engine(loaded)
    events = run(engine, request(wants_progress=True))["a"]
    assert isinstance(events[0], StartedEvent)
    reports = [event for event in events if isinstance(event, ProgressEvent)]
    assert events[1 : 1 + len(reports)] == reports
    assert (reports[0].n_computed, reports[-1].n_computed) == (64, 150)
    assert [report.n_computed for report in reports] == sorted({report.n_computed for report in reports})
    assert {(report.n_prompt, report.n_cached) for report in reports} == {(150, 0)}
    assert [report.elapsed_s for report in reports] == sorted(report.elapsed_s for report in reports)
    (again,) = [
        event for event in run(engine, request(wants_progress=True))["a"] if isinstance(event, ProgressEvent)
    ]
    assert (again.n_prompt, again.n_cached, again.n_computed) == (150, 128, 150)
    assert not any(isinstance(event, ProgressEvent) for event in run(engine, request())["a"])


def test_progress_does_not_go_back_when_a_generation_gives_way(loaded: OpenModel) -> None:
    engine = new_engine(loaded, prefix_cache=False)
    engine.add(request(wants_progress=True, max_tokens=20))
    events = [event for _ in range(6) for event in engine.step()]
    scheduler = engine._scheduler
    (sequence,) = scheduler.running
    assert sequence.n_generated
    scheduler._give_way(sequence)
    while engine.has_work:
        events += engine.step()
    done = [e.event.n_computed for e in events if isinstance(e.event, ProgressEvent)]
    assert (done, done[-1]) == (sorted(set(done)), 150)
    ids = [e.event.id for e in events if isinstance(e.event, TokenEvent)]
    assert tuple(ids) == end_of(run(engine, request(max_tokens=20))["a"]).token_ids


def test_the_speed_of_a_prompt_counts_what_was_computed(loaded: OpenModel) -> None:
    engine = new_engine(loaded)
    for n_computed in (150, 22):
        timings = end_of(run(engine, request())["a"]).timings
        assert timings.prompt_tokens_per_s * timings.prompt_s == pytest.approx(n_computed)


def test_a_snapshot_shows_slots_and_blocks(loaded: OpenModel) -> None:
    engine = new_engine(loaded)
    idle = engine.snapshot()
    assert (idle.n_ctx, idle.n_slots, idle.n_running, idle.n_waiting, idle.block_size) == (256, 2, 0, 0, 32)
    assert (idle.n_blocks, idle.n_free_blocks, idle.n_kept_blocks, idle.n_used_blocks) == (16, 16, 0, 0)
    requests = [request("a"), request("b", owner="x"), request("c")]
    for r in requests:
        engine.add(r)
    assert engine.snapshot().n_waiting == 3
    engine.step()
    busy = engine.snapshot()
    a, b = busy.slots
    assert (a.request, a.n_prompt, a.n_computed, a.n_cached, a.n_generated) == (
        requests[0],
        150,
        32,
        0,
        0,
    )  # half of the rows
    assert a.is_prefilling
    assert (a.slot, b.slot, b.request.job_id, busy.n_waiting) == (0, 1, "b", 1)
    assert busy.n_used_blocks == 2
    while not any(isinstance(event.event, EndEvent) for event in engine.step()):
        pass
    while engine.has_work:
        engine.step()
    done = engine.snapshot()
    assert (done.n_running, done.n_used_blocks, done.n_kept_blocks) == (0, 0, 8)
    assert done.n_free_blocks == 8
    assert busy.slots[0].n_computed == 32


def test_a_slot_has_read_no_less_of_its_prompt_when_it_has_to_read_it_again(loaded: OpenModel) -> None:
    engine = new_engine(loaded)
    run(engine, request(max_tokens=1))
    engine.add(request(max_tokens=20))
    engine.step()
    engine._scheduler._give_way(engine._scheduler.running[0])
    engine._admit()  # and nothing is found or computed yet
    (slot,) = engine.snapshot().slots
    assert (slot.n_cached, slot.n_prompt_done, slot.is_prefilling) == (128, 150, True)


def test_other_threads_may_ask_at_any_time(loaded: OpenModel) -> None:
    engine = new_engine(loaded, parallel=4)
    faults: list[BaseException] = []
    is_over = threading.Event()

    def ask() -> None:
        try:
            while not is_over.is_set():
                snapshot = engine.snapshot()
                assert snapshot.n_running <= 4
                assert all(0 <= slot.slot < 4 for slot in snapshot.slots)
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for i in range(4):
        run(engine, *(request(f"{i}-{j}", 1 + 10 * j, 3, owner=f"{j}") for j in range(8)))
    is_over.set()
    for thread in threads:
        thread.join()
    assert faults == []
