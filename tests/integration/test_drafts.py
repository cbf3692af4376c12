"""Drafts in the engine: where they save steps, and where they stay away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from llorch.engine.drafts import MAX_ROWS
from llorch.engine.engine import Engine, open_configured
from llorch.engine.events import Timings
from llorch.engine.ngram_drafter import NgramDrafter
from llorch.engine.params import SamplingParams
from llorch.engine.request import Request
from llorch.open_model import OpenModel
from llorch.settings import Settings
from tests.support.allowed_sets import Sets
from tests.support.drafts import new_engine, untimed
from tests.support.generations import end_of, run

PASSAGE = tuple(3 + i * 7 % 300 for i in range(100))
CTX = 256


@pytest.fixture(scope="module")
def loaded(tiny_model: Path) -> Iterator[OpenModel]:
    with open_configured(Settings(model=str(tiny_model), threads=1)) as loaded:
        yield loaded


def writing(text: tuple[int, ...], job_id: str = "job", prompt: tuple[int, ...] = PASSAGE) -> Request:
    """The model is made to write `text`."""
    sets = [{token_id} for token_id in text]
    params = SamplingParams(temperature=0)
    return Request(job_id, (1, *prompt), params, len(text), constraint=lambda: Sets([*sets, None], 320))


def steps_and_timings(engine: Engine, request: Request) -> tuple[int, Timings]:
    engine.add(request)
    n_steps, events = 0, []
    while engine.has_work:
        events += [step_event.event for step_event in engine.step()]
        n_steps += 1
    return n_steps, end_of(events).timings


def test_a_copy_takes_a_quarter_of_the_steps(loaded: OpenModel) -> None:
    n_steps, timings = steps_and_timings(new_engine(loaded, "off", ctx_size=CTX), writing(PASSAGE))
    assert (timings.drafted_tokens, timings.accepted_tokens) == (0, 0)
    n_drafted_steps, timings = steps_and_timings(new_engine(loaded, "ngram", ctx_size=CTX), writing(PASSAGE))
    assert timings.accepted_tokens == timings.drafted_tokens > 75
    assert n_drafted_steps == n_steps - timings.accepted_tokens <= n_steps / 4


def test_what_never_repeats_is_never_drafted(loaded: OpenModel) -> None:
    backwards = tuple(reversed(PASSAGE))
    _, timings = steps_and_timings(new_engine(loaded, "ngram", ctx_size=CTX), writing(backwards))
    assert timings.drafted_tokens == 0


def test_what_repeats_and_goes_on_otherwise_is_drafted_seldom(loaded: OpenModel) -> None:
    """The same three tokens come again and again, each time with another behind them."""
    text = tuple(token_id for i in range(30) for token_id in (10, 11, 12, 100 + i))
    _, timings = steps_and_timings(new_engine(loaded, "ngram", ctx_size=CTX), writing(text))
    assert 0 < timings.drafted_tokens <= len(text) * 0.03
    assert timings.accepted_tokens == 0


def test_many_users_get_no_drafts_and_few_share_the_rows_that_are_cheap(
    loaded: OpenModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward, sizes = loaded.llama.forward, list[tuple[int, int]]()

    def count_rows(batch, cache, **others):  # type: ignore[no-untyped-def]
        if batch.n_rows == len(batch.output_rows):  # no prompt is being read
            sizes.append((len(set(batch.slots.tolist())), batch.n_rows))
        return forward(batch, cache, **others)

    monkeypatch.setattr(loaded.llama, "forward", count_rows)
    run(new_engine(loaded, "ngram", ctx_size=CTX), *(writing(PASSAGE, f"{i}") for i in range(8)))
    assert max(n for n, _ in sizes) == 8
    assert all(n_rows == n for n, n_rows in sizes if n >= 5)
    for n_few in (1, 2, 3):
        sizes.clear()
        run(new_engine(loaded, "ngram", ctx_size=CTX), *(writing(PASSAGE, f"{i}") for i in range(n_few)))
        assert max(n_rows for n, n_rows in sizes if n == n_few) == MAX_ROWS


def test_no_drafter_is_made_unless_it_is_wanted(loaded: OpenModel, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    monkeypatch.setattr(NgramDrafter, "append", lambda self, token_id: made.append(self))
    run(Engine(loaded, Settings(ctx_size=CTX)), writing(PASSAGE))
    assert made == []
    run(new_engine(loaded, "ngram", ctx_size=CTX), writing(PASSAGE))
    assert len(made) == len(PASSAGE)


def test_a_real_model_writes_the_same_with_and_without_drafts_alone_and_in_company(real_model: Path) -> None:
    """Greedy and sampled, with the bits of every token's probability."""
    with open_configured(Settings(model=str(real_model), threads=2)) as loaded:
        text = "One day, Lily went to the park. Lily saw a big dog. The dog was big. Lily went to the dog. One day,"
        prompt = tuple(loaded.tokenizer.encode(text))
        requests = [
            Request(f"{t}", prompt, SamplingParams(temperature=t, seed=2), 24, n_logprobs=2, ignore_eos=True)
            for t in (0, 0.4)
        ]
        alone = [untimed(run(new_engine(loaded, "off", ctx_size=CTX), r)[r.job_id])[1:] for r in requests]
        drafted = [run(new_engine(loaded, "ngram", ctx_size=CTX), r)[r.job_id] for r in requests]
        together = run(new_engine(loaded, "ngram", ctx_size=CTX), *requests)
    assert [untimed(events)[1:] for events in drafted] == alone
    assert [untimed(together[r.job_id])[1:] for r in requests] == alone
    assert any(end_of(events).timings.accepted_tokens for events in drafted)
