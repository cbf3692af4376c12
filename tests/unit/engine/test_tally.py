"""What steps and generations are counted as: each once, however it goes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from llorch.engine.engine import Engine, open_configured
from llorch.engine.events import (
    EndEvent,
    EndTokenEvent,
    ErrorEvent,
    Event,
    FinishReason,
    StartedEvent,
    Timings,
    TokenEvent,
    TokenLogprobs,
    Usage,
)
from llorch.engine.params import SamplingParams
from llorch.engine.request import Request
from llorch.engine.tally import GenerationTally, Timeline
from llorch.open_model import OpenModel
from llorch.settings import Settings
from tests.support.generations import end_of, run


def end(reason: FinishReason, n_tokens: int, timings: Timings) -> EndEvent:
    return EndEvent("a", reason, "", (5,) * n_tokens, Usage(7, n_tokens, 2), 1, None, timings)


def play(tally: GenerationTally, timeline: Timeline, *happenings: tuple[float, Event]) -> None:
    for now_s, event in happenings:
        tally.add(timeline, event, now_s)


def test_times_of_a_generation_begin_with_its_acceptance() -> None:
    tally = GenerationTally()
    timeline = Timeline(accepted_s=100.0)
    play(
        tally,
        timeline,
        (101.0, StartedEvent("a", "m", 7, 1)),
        (103.0, TokenEvent(0, 5, "a")),
        (104.0, TokenEvent(1, 5, "")),
        (104.0, TokenEvent(2, 5, "b")),
        (106.5, EndTokenEvent(2, TokenLogprobs(0.0))),
        (106.5, TokenEvent(3, None, "rest")),
        (106.5, end("stop", 3, Timings(0.5, 1.25, 4, 1.0, 2, drafted_tokens=4, accepted_tokens=1))),
    )
    assert (tally.first_token_s.n, tally.first_token_s.total) == (1, 3.0)
    assert (tally.token_s.n, tally.token_s.total) == (2, 1.0)
    assert (tally.queue_s.total, tally.prefill_s.total, tally.decode_s.total) == (1.75, 1.25, 1.0)
    assert tally.whole_s.total == 6.5
    assert (tally.n_tokens, tally.n_drafted, tally.n_accepted) == (3, 4, 1)
    assert (tally.prompt_lengths.total, tally.answer_lengths.total) == (7, 3)
    assert tally.ends == {"stop": 1, "length": 0, "abort": 0, "error": 0}


def test_a_generation_that_is_aborted_in_the_queue_has_waited_all_its_time() -> None:
    tally = GenerationTally()
    play(tally, Timeline(10.0), (14.0, end("abort", 0, Timings(3.0, 0.0, 0.0, 0.0, 0.0))))
    assert (tally.queue_s.total, tally.prefill_s.total) == (4.0, 0.0)
    assert (tally.decode_s.n, tally.first_token_s.n) == (0, 0)
    assert tally.ends["abort"] == 1


def test_a_failed_generation_counts_as_an_error_of_its_code_and_as_nothing_else() -> None:
    tally = GenerationTally()
    play(
        tally,
        Timeline(10.0),
        (11.0, TokenEvent(0, 5, "a")),
        (12.0, ErrorEvent("numerical_error", "", retriable=False)),
    )
    assert tally.ends == {"stop": 0, "length": 0, "abort": 0, "error": 1}
    assert tally.errors == {"numerical_error": 1}
    assert (tally.whole_s.n, tally.answer_lengths.n, tally.n_tokens) == (1, 0, 1)


@pytest.fixture(scope="module")
def loaded(long_model: Path) -> Iterator[OpenModel]:
    with open_configured(Settings(model=str(long_model), threads=1)) as loaded:
        yield loaded


def request(job_id: str, n_prompt: int, max_tokens: int = 4) -> Request:
    token_ids = tuple(3 + i * 7 % 300 for i in range(n_prompt))
    return Request(job_id, token_ids, SamplingParams(temperature=0), max_tokens, ignore_eos=True)


def test_steps_prompts_and_cached_tokens_of_an_engine_are_counted_as_their_generations_say(
    loaded: OpenModel,
) -> None:
    engine = Engine(loaded, Settings(parallel=2, ctx_size=256, batch_size=64))
    for wave in (["a", "b"], ["c"]):
        ends = [end_of(events) for events in run(engine, *(request(job, 150) for job in wave)).values()]
        for usage in (one.usage for one in ends):
            assert usage.completion_tokens == 4
    tally = engine.tally
    assert tally.n_prompt_tokens == 450
    assert tally.n_cached_tokens == 256  # four whole blocks, twice: the second of a wave waits for the first
    assert tally.step_rows.total == 450 - tally.n_cached_tokens + 3 * 3
    assert tally.step_rows.n == tally.step_s.n > 3
    assert tally.step_s.total > 0


def test_a_prompt_that_is_read_again_after_giving_way_counts_once(loaded: OpenModel) -> None:
    engine = Engine(loaded, Settings(parallel=2, ctx_size=64, prefix_cache=False))
    taken = engine.block_pool.allocate(engine.block_pool.n_free - 3)
    run(engine, *(request(job, 20 + i, 40) for i, job in enumerate("ab")))
    assert engine.snapshot().n_preempted > 0
    assert engine.tally.n_prompt_tokens == 41
    engine.block_pool.release(taken)
