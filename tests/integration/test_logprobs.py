"""Log probabilities of answers and prompts: right, and the same bits alone, in company, in pieces and with drafts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import llorch
import llorch.engine.engine as engine_module
from llorch.engine.engine import Engine, open_configured
from llorch.engine.events import EndTokenEvent, Event, PromptEvent, StartedEvent, TokenEvent, TokenLogprobs
from llorch.engine.params import SamplingParams
from llorch.engine.request import Request
from llorch.errors import ContextLengthError, RequestError
from llorch.model.batch import Batch
from llorch.model.kv_cache import KVCache
from llorch.open_model import OpenModel
from llorch.settings import Settings
from tests.support.drafts import new_engine, propose_partly_wrong, untimed
from tests.support.generations import end_of, run

PROMPT = (1, *range(70, 100), *range(70, 90))


@pytest.fixture(scope="module")
def loaded(tiny_model: Path) -> Iterator[OpenModel]:
    with open_configured(Settings(model=str(tiny_model), threads=2, batch_size=16)) as loaded:
        yield loaded


def request(
    job_id: str = "job", prompt: tuple[int, ...] = PROMPT, max_tokens: int = 8, **fields: Any
) -> Request:
    params = fields.pop("params", SamplingParams(temperature=1, top_k=0, seed=3))
    fields = {"n_logprobs": 5, "n_prompt_logprobs": 5, "ignore_eos": True, **fields}
    return Request(job_id, prompt, params, max_tokens, **fields)


def prompt_logprobs(events: list[Event]) -> tuple[TokenLogprobs | None, ...]:
    """Those of the one `PromptEvent`, which is the second event."""
    (found,) = (event for event in events if isinstance(event, PromptEvent))
    assert events[1] is found
    return found.logprobs


def token_logprobs(events: list[Event]) -> list[TokenLogprobs]:
    return [e.logprobs for e in events if isinstance(e, TokenEvent) and e.logprobs is not None]


def direct(loaded: OpenModel, token_ids: tuple[int, ...]) -> NDArray[np.float64]:
    """Logarithms of all probabilities behind each token, in float64: (n, n_vocab)."""
    n = len(token_ids)
    cache = KVCache(loaded.config, 4, "f16")
    tables, slots = np.arange(4, dtype=np.int32)[None], np.zeros(1, np.int32)
    rows = []
    for i, token_id in enumerate(token_ids):
        at, ids = np.array([i], np.int32), np.array([token_id], np.int32)
        rows.append(
            loaded.llama.forward(Batch.of(ids, at, slots, tables, slots), cache)[0].astype(np.float64)
        )
    assert len(rows) == n
    logits = np.array(rows)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))  # type: ignore[no-any-return]


def test_they_are_those_of_the_logits_computed_token_by_token(loaded: OpenModel) -> None:
    events = run(new_engine(loaded, "off"), request())["job"]
    token_ids = PROMPT + end_of(events).token_ids
    expected = direct(loaded, token_ids)
    first, *others = prompt_logprobs(events)
    assert first is None
    found = [*others, *token_logprobs(events)]
    assert len(found) == len(token_ids) - 1
    for i, entry in enumerate(found):
        assert entry is not None
        assert entry.logprob == pytest.approx(expected[i, token_ids[i + 1]], abs=1e-4)
        best = np.argsort(-expected[i], kind="stable")[:5]
        assert [value for _, value in entry.top] == pytest.approx(expected[i, best].tolist(), abs=1e-4)
        assert (entry.top[0][1] == entry.logprob) == (entry.top[0][0] == token_ids[i + 1])


def test_bias_penalties_and_temperature_do_not_change_them(loaded: OpenModel) -> None:
    params = SamplingParams(temperature=0, logit_bias={77: 50.0}, repetition_penalty=1.5)
    events = run(new_engine(loaded, "off"), request(params=params, max_tokens=1))["job"]
    assert end_of(events).token_ids == (77,)
    (found,) = token_logprobs(events)
    assert found.logprob == pytest.approx(direct(loaded, PROMPT)[-1, 77], abs=1e-4)


@pytest.mark.parametrize("n", [2, 5, 8])
def test_company_pieces_and_drafts_change_no_bit(
    loaded: OpenModel, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [request(f"{i}", PROMPT[: 51 - 6 * i], n_prompt_logprobs=i) for i in range(n)]
    alone = {r.job_id: untimed(run(new_engine(loaded, "off"), r)[r.job_id]) for r in requests}
    answer = end_of(alone["0"]).token_ids
    propose_partly_wrong(monkeypatch, answer, [5], 0.3)
    for logits_bytes in (1, 5 * 4 * 320, 1 << 26):
        monkeypatch.setattr(engine_module, "LOGITS_BYTES", logits_bytes)
        for draft in ("off", "ngram"):
            together = run(new_engine(loaded, draft), *requests)
            for one in requests:
                assert untimed(together[one.job_id]) == alone[one.job_id]


def test_the_logits_of_a_long_prompt_take_little_memory(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "LOGITS_BYTES", 7 * 4 * 320)
    with open_configured(Settings(model=str(tiny_model), threads=1)) as fresh:
        engine = Engine(fresh, Settings(parallel=3, ctx_size=64))
        run(engine, *(request(f"{i}") for i in range(3)))
        assert len(fresh.llama._logits) == 7


def test_no_token_is_generated_where_none_is_wanted(loaded: OpenModel) -> None:
    engine = new_engine(loaded, "off")
    started, prompt, end = run(engine, request(max_tokens=0))["job"]
    assert isinstance(started, StartedEvent)
    assert isinstance(prompt, PromptEvent)
    assert len(prompt.logprobs) == len(PROMPT)
    assert end_of([end]).finish_reason == "length"
    assert (end_of([end]).token_ids, end_of([end]).text, end_of([end]).usage.completion_tokens) == ((), "", 0)
    assert engine.block_pool.n_free == engine.block_pool.n_blocks


def test_a_prompt_can_be_read_for_nothing_but_the_cache(loaded: OpenModel) -> None:
    engine = new_engine(loaded, "off")
    started, end = run(engine, request(max_tokens=0, n_prompt_logprobs=None))["job"]
    assert isinstance(started, StartedEvent)
    assert (end_of([end]).finish_reason, end_of([end]).token_ids) == ("length", ())
    assert end_of(run(engine, request(n_prompt_logprobs=None))["job"]).usage.cached_tokens == 32


@pytest.mark.parametrize("bad", [False, -1, 0.0, "0", None])
def test_only_the_number_0_is_no_token(loaded: OpenModel, bad: Any) -> None:
    with pytest.raises(RequestError) as caught:
        new_engine(loaded, "off").check(request(max_tokens=bad))
    assert [error.field for error in caught.value.errors] == ["max_tokens"]


def test_a_prompt_of_one_token_has_one_entry(loaded: OpenModel) -> None:
    for max_tokens in (0, 1):
        events = run(new_engine(loaded, "off"), request(prompt=(1,), max_tokens=max_tokens))["job"]
        assert prompt_logprobs(events) == (None,)
        assert len(end_of(events).token_ids) == max_tokens


def test_without_an_answer_a_prompt_may_fill_the_context(loaded: OpenModel) -> None:
    full = tuple(3 + i % 90 for i in range(64))
    assert (
        len(prompt_logprobs(run(new_engine(loaded, "off"), request(prompt=full, max_tokens=0))["job"])) == 64
    )
    with pytest.raises(ContextLengthError):
        new_engine(loaded, "off").add(request(prompt=full))
    with pytest.raises(ContextLengthError):
        new_engine(loaded, "off").add(request(prompt=(*full, 5), max_tokens=0))


def test_nobody_gets_them_unasked(loaded: OpenModel) -> None:
    events = run(new_engine(loaded, "off"), request(n_logprobs=None, n_prompt_logprobs=None))["job"]
    assert not any(isinstance(event, PromptEvent) for event in events)
    assert token_logprobs(events) == []


@pytest.mark.parametrize("bad", [-1, 21, 1.0, True, "5"])
def test_wrong_numbers_of_tokens_are_refused_together(loaded: OpenModel, bad: Any) -> None:
    with pytest.raises(RequestError) as caught:
        new_engine(loaded, "off").check(request(n_logprobs=bad, n_prompt_logprobs=bad))
    assert [error.field for error in caught.value.errors] == ["n_logprobs", "n_prompt_logprobs"]


def test_python_callers_get_them_of_answers_and_of_texts(tiny_model: Path) -> None:
    with llorch.load(tiny_model, threads=1, ctx_size=64) as model:
        answer = model.generate([1, 70, 71, 72], max_tokens=6, seed=1, ignore_eos=True, n_logprobs=2)
        assert answer.logprobs is not None
        assert [len(entry.top) for entry in answer.logprobs] == [2] * 6
        judged = model.logprobs(answer.prompt_token_ids + answer.token_ids, n_top=2)
        assert judged[-6:] == answer.logprobs
        assert judged[0] is None
        assert math.isfinite(sum(entry.logprob for entry in judged[1:] if entry))
        assert model.generate([1, 70], max_tokens=1).logprobs is None
        with pytest.raises(RequestError, match="n_logprobs"):
            model.generate([1, 70], n_logprobs=21)
        with pytest.raises(RequestError, match="prompt"):
            model.logprobs([])


def test_a_prompt_read_row_by_row_gets_no_drafts(loaded: OpenModel, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = untimed(run(new_engine(loaded, "off"), request())["job"])
    monkeypatch.setattr(engine_module, "LOGITS_BYTES", 1)
    propose_partly_wrong(monkeypatch, [5] * 60, [5], 0)
    assert untimed(run(new_engine(loaded, "ngram", parallel=1), request())["job"]) == expected


@pytest.mark.parametrize("wants_them", [True, False])
def test_the_token_that_ends_an_answer_is_told_where_probabilities_are(
    loaded: OpenModel, wants_them: bool
) -> None:
    (eos,) = loaded.tokenizer.vocab.eog_ids
    params = SamplingParams(temperature=0, logit_bias={eos: 100})
    asked = request(
        params=params, ignore_eos=False, n_logprobs=2 if wants_them else None, n_prompt_logprobs=None
    )
    events = run(Engine(loaded, Settings()), asked)["job"]
    told = [event for event in events if isinstance(event, EndTokenEvent)]
    assert [event.id for event in told] == [eos] * wants_them
    assert all(events[-2] is event and math.isfinite(event.logprobs.logprob) for event in told)
    assert end_of(events).token_ids == ()
