"""The engine on real models: any mix of generations, each as if it were alone."""

from __future__ import annotations

import dataclasses
import math
import random
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llorch.engine.engine import Engine
from llorch.engine.events import EndEvent, ErrorEvent, Event, StartedEvent, TokenEvent
from llorch.engine.params import SamplingParams
from llorch.engine.request import Request
from llorch.errors import ContextLengthError, RequestError, SettingsError
from llorch.open_model import OpenModel, open_model
from llorch.settings import Settings
from tests.support.generations import check_protocol, end_of, run
from tests.support.poisoned_model import write_model_with_poison
from tests.support.real_models import greedy_stop, greedy_text

GREEDY = SamplingParams(temperature=0)
EOS = 2


@pytest.fixture(scope="module")
def loaded(real_model: Path) -> Iterator[OpenModel]:
    model = open_model(real_model, n_threads=2, n_batch=16)
    yield model
    model.close()


def new_engine(loaded: OpenModel, **settings: object) -> Engine:
    return Engine(loaded, Settings(**{"ctx_size": 128, "parallel": 4, **settings}))  # type: ignore[arg-type]


def request(
    loaded: OpenModel,
    job_id: str = "job",
    prompt: str = "Once upon a time",
    params: SamplingParams = GREEDY,
    max_tokens: int = 12,
    **fields: object,
) -> Request:
    return Request(job_id, tuple(loaded.tokenizer.encode(prompt)), params, max_tokens, **fields)  # type: ignore[arg-type]


def test_a_story_is_written_and_accounted_for(loaded: OpenModel, real_model: Path) -> None:
    n_prompt = len(loaded.tokenizer.encode("Once upon a time"))
    engine = new_engine(loaded)
    events = run(engine, request(loaded))["job"]
    check_protocol(events)
    started, end = events[0], end_of(events)
    assert isinstance(started, StartedEvent)
    assert (started.prompt_tokens, started.model) == (n_prompt, loaded.name)
    assert end.text.startswith(greedy_text(real_model)[:-1])
    assert (end.finish_reason, len(end.token_ids), end.usage.prompt_tokens) == ("length", 12, n_prompt)
    assert end.seed == started.seed
    timings = end.timings
    assert (
        min(timings.prompt_s, timings.decode_s, timings.prompt_tokens_per_s, timings.decode_tokens_per_s) > 0
    )
    assert all(math.isfinite(value) for value in dataclasses.asdict(timings).values())
    assert engine.block_pool.n_free == engine.block_pool.n_blocks


def test_every_generation_is_as_if_it_were_alone(loaded: OpenModel) -> None:
    prompts = ["Once upon a time", "Lily", "The big dog " * 12, "A", "One day, Tom and", "She said"]
    params = [GREEDY, *(SamplingParams(seed=s, repetition_penalty=1.1) for s in range(5))]
    requests = [
        request(loaded, f"{i}", prompt, p, max_tokens=10 + 3 * i)
        for i, (prompt, p) in enumerate(zip(prompts, params, strict=True))
    ]
    alone = {r.job_id: end_of(run(new_engine(loaded), r)[r.job_id]) for r in requests}
    together = run(new_engine(loaded, parallel=3), *requests)
    for job_id, events in together.items():
        check_protocol(events)
        end = end_of(events)
        assert end.token_ids == alone[job_id].token_ids
        assert end.text == alone[job_id].text


def test_the_same_seed_writes_the_same_text_and_another_another(loaded: OpenModel) -> None:
    engine = new_engine(loaded)
    texts = [
        end_of(run(engine, request(loaded, params=SamplingParams(seed=seed), max_tokens=40))["job"]).text
        for seed in (1, 1, 2)
    ]
    assert texts[0] == texts[1] != texts[2]


def test_a_generated_seed_is_reported_and_repeats_the_text(loaded: OpenModel) -> None:
    engine = new_engine(loaded)
    first = end_of(run(engine, request(loaded, params=SamplingParams()))["job"])
    again = end_of(run(engine, request(loaded, params=SamplingParams(seed=first.seed)))["job"])
    assert first.text == again.text
    assert first.seed < 2**53


def test_more_generations_than_slots_wait_their_turn(loaded: OpenModel) -> None:
    engine = new_engine(loaded, parallel=2)
    names = [f"{i}" for i in range(7)]
    for name in names:
        engine.add(request(loaded, name, max_tokens=6))
    finished = []
    while engine.has_work:
        finished += [e.job_id for e in engine.step() if isinstance(e.event, EndEvent)]
        assert engine.snapshot().n_running <= 2
    assert finished == names


def test_a_stop_string_ends_the_text_before_it(loaded: OpenModel, real_model: Path) -> None:
    engine = new_engine(loaded)
    stop, before = greedy_stop(real_model)
    events = run(engine, request(loaded, max_tokens=60, stop=("zebra", stop)))["job"]
    check_protocol(events)
    end = end_of(events)
    assert (end.text, end.finish_reason, end.matched_stop) == (before, "stop", stop)
    assert loaded.tokenizer.decode(end.token_ids).startswith(greedy_text(real_model))


def test_text_held_back_for_a_stop_string_is_given_out_at_the_end(loaded: OpenModel) -> None:
    engine = new_engine(loaded)
    whole = end_of(run(engine, request(loaded))["job"]).text
    events = run(engine, request(loaded, stop=(whole[-6:] + "~",)))["job"]
    check_protocol(events)
    assert end_of(events).text == whole


def test_end_of_generation_is_no_token_and_no_text(loaded: OpenModel) -> None:
    params = SamplingParams(temperature=0, logit_bias={EOS: 100})
    end = end_of(run(new_engine(loaded), request(loaded, params=params))["job"])
    assert (end.finish_reason, end.text, end.token_ids, end.matched_stop) == ("stop", "", (), None)
    end = end_of(run(new_engine(loaded), request(loaded, params=params, ignore_eos=True))["job"])
    assert (end.finish_reason, len(end.token_ids)) == ("length", 12)
    assert EOS not in end.token_ids


def test_half_a_character_before_the_end_becomes_visible(loaded: OpenModel) -> None:
    tokens: Any = loaded.source.metadata["tokenizer.ggml.tokens"]
    byte = tokens.index(
        b"<0xE2>" if b"<0xE2>" in tokens else "â".encode()
    )  # begins a character of three bytes
    params = SamplingParams(temperature=0, logit_bias={byte: 100, EOS: 95}, frequency_penalty=2)
    events = run(new_engine(loaded), request(loaded, params=params))["job"]
    check_protocol(events)
    n = end_of(events).usage.completion_tokens
    assert end_of(events).finish_reason == "stop"
    assert end_of(events).token_ids == (byte,) * n
    assert end_of(events).text == "\ufffd" * n
    assert events[-2] == TokenEvent(n, None, "\ufffd")
    params = SamplingParams(temperature=0, logit_bias={byte: 100})
    events = run(new_engine(loaded), request(loaded, params=params, max_tokens=1))["job"]
    assert events[1] == TokenEvent(0, byte, "\ufffd")


def test_a_full_context_ends_the_text(loaded: OpenModel) -> None:
    engine = new_engine(loaded, ctx_size=40)
    end = end_of(run(engine, request(loaded, max_tokens=10**9))["job"])
    n_free = 40 - len(loaded.tokenizer.encode("Once upon a time"))
    assert (end.finish_reason, len(end.token_ids)) == ("length", n_free)
    alone = end_of(run(new_engine(loaded), request(loaded, max_tokens=n_free))["job"])
    assert end.token_ids == alone.token_ids


def test_a_prompt_that_fills_the_context_is_refused_and_one_token_less_is_not(loaded: OpenModel) -> None:
    n_prompt = len(request(loaded).token_ids)
    engine = new_engine(loaded, ctx_size=n_prompt)
    with pytest.raises(ContextLengthError) as caught:
        engine.add(request(loaded))
    assert (caught.value.n_prompt_tokens, caught.value.n_ctx) == (n_prompt, n_prompt)
    assert not engine.has_work
    engine = new_engine(loaded, ctx_size=n_prompt + 1)
    assert len(end_of(run(engine, request(loaded))["job"]).token_ids) == 1


def test_every_fault_of_a_request_is_named(loaded: OpenModel) -> None:
    engine = new_engine(loaded)
    bad = Request("", (-1, 10**6), SamplingParams(logit_bias={10**6: 1.0}), -1, ("",))
    with pytest.raises(RequestError) as caught:
        engine.add(bad)
    faulty = [error.field for error in caught.value.errors]
    assert faulty == ["job_id", "token_ids", "max_tokens", "stop", "logit_bias"]
    with pytest.raises(RequestError, match="prompt"):
        engine.add(Request("job", (), GREEDY, 1))
    engine.add(request(loaded))
    with pytest.raises(RequestError, match="job_id"):
        engine.add(request(loaded))


@pytest.mark.parametrize("n_steps", [0, 1, 2, 9])
def test_an_abort_frees_everything_at_once(loaded: OpenModel, real_model: Path, n_steps: int) -> None:
    """While queued (0), while the prompt is read (1, 2: 16 rows a step), while writing (9)."""
    engine = new_engine(loaded, parallel=1)
    engine.add(request(loaded, "long", "The big dog " * 14, max_tokens=30))
    events = [event for _ in range(n_steps) for event in engine.step()]
    engine.add(request(loaded, "next"))
    assert engine.abort("long")
    assert engine.block_pool.n_free == engine.block_pool.n_blocks
    assert not engine.abort("long")
    by_job = run(engine)
    mine = [event.event for event in events if event.job_id == "long"] + by_job["long"]
    check_protocol(mine)
    assert end_of(mine).finish_reason == "abort"
    assert (end_of(mine).usage.completion_tokens > 0) == (n_steps == 9)
    assert end_of(by_job["next"]).text.startswith(greedy_text(real_model)[:10])


def test_nan_fails_its_own_sequence_only(tmp_path: Path) -> None:
    poison = 300
    path = tmp_path / "poison.gguf"
    write_model_with_poison(path, poison)
    model = open_model(path, n_threads=2, n_batch=16)
    try:
        params = SamplingParams(temperature=0, logit_bias={poison: -math.inf})
        good = [Request(f"good-{i}", tuple(range(3, 8 + i)), params, 20) for i in range(4)]
        for kv_type in ("f32", "f16"):
            alone = {r.job_id: end_of(run(new_engine(model, kv_type=kv_type), r)[r.job_id]) for r in good}
            engine = new_engine(model, kv_type=kv_type, parallel=2)
            bad = Request("bad", (3, 4, poison, 5), params, 20)
            events = run(engine, good[0], bad, *good[1:])  # the later ones get the blocks the bad one had
            check_protocol(events["bad"])
            error = events["bad"][-1]
            assert isinstance(error, ErrorEvent)
            assert (error.code, error.retriable) == ("numerical_error", False)
            for r in good:
                assert end_of(events[r.job_id]).token_ids == alone[r.job_id].token_ids
            assert engine.block_pool.n_free == engine.block_pool.n_blocks
    finally:
        model.close()


@pytest.mark.parametrize("seed", range(3))
def test_a_storm_of_requests_and_aborts_leaves_nothing_behind(loaded: OpenModel, seed: int) -> None:
    rng = random.Random(seed)
    engine = new_engine(loaded, parallel=3, ctx_size=64)
    events: dict[str, list[Event]] = defaultdict(list)
    jobs: list[Request] = []
    aborted = set()
    for i in range(120):
        if rng.random() < 0.25:
            jobs.append(
                Request(
                    f"{i}",
                    tuple(rng.randrange(3, 512) for _ in range(rng.randrange(1, 63))),
                    SamplingParams(seed=i, temperature=rng.choice([0, 0.8])),
                    rng.randrange(1, 40),
                    rng.choice([(), (" the", "a "), ("\n",)]),
                )
            )
            engine.add(jobs[-1])
        if jobs and rng.random() < 0.1:
            job_id = rng.choice(jobs).job_id
            if engine.abort(job_id):
                aborted.add(job_id)
        for step_event in engine.step():
            events[step_event.job_id].append(step_event.event)
    for job_id, more in run(engine).items():
        events[job_id] += more
    assert engine.block_pool.n_free == engine.block_pool.n_blocks
    state = engine.snapshot()
    assert (state.n_running, state.n_waiting) == (0, 0)
    for job in jobs:
        check_protocol(events[job.job_id])
        end = end_of(events[job.job_id])
        assert (end.finish_reason == "abort") == (job.job_id in aborted)
    for job in rng.sample([job for job in jobs if job.job_id not in aborted], 4):
        alone = end_of(run(new_engine(loaded, ctx_size=64), job)[job.job_id])
        assert alone.token_ids == end_of(events[job.job_id]).token_ids


def test_a_context_that_memory_cannot_hold_is_refused(loaded: OpenModel) -> None:
    with pytest.raises(
        SettingsError, match=r"ctx_size 1000000000000 needs .* MiB of KV cache .*choose at most \d+"
    ):
        new_engine(loaded, ctx_size=10**12)
