"""Drafts and faults: nonsense in a drafted row, drafts that raise, ends and interruptions in the middle of a draft."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest

from llorch.engine.engine import open_configured
from llorch.engine.events import ErrorEvent, Event
from llorch.engine.ngram_drafter import NgramDrafter
from llorch.engine.params import SamplingParams
from llorch.engine.postprocess import Postprocessor
from llorch.engine.request import Request
from llorch.engine.sampling import Sampler
from llorch.open_model import OpenModel
from llorch.settings import Settings
from tests.support.drafts import new_engine, propose_partly_wrong, untimed
from tests.support.generations import end_of, run
from tests.support.poisoned_model import write_model_with_poison

POISON = 5


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenModel]:
    path = tmp_path_factory.mktemp("model") / "poison.gguf"
    write_model_with_poison(path, POISON)
    with open_configured(Settings(model=str(path), threads=2)) as loaded:
        yield loaded


def request(job_id: str = "job", **fields: Any) -> Request:
    params = SamplingParams(
        seed=4, temperature=1, top_k=0, logit_bias={POISON: float("-inf")}, repetition_penalty=1.1
    )
    return Request(job_id, (1, *range(70, 75)), fields.pop("params", params), 40, ignore_eos=True, **fields)


@pytest.fixture
def answer(loaded: OpenModel) -> list[Event]:
    return untimed(run(new_engine(loaded, "off"), request())["job"])


@pytest.mark.parametrize("n", [1, 2, 3])
def test_infinities_in_a_rejected_row_leave_no_trace(
    loaded: OpenModel, answer: list[Event], n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    propose_partly_wrong(monkeypatch, end_of(answer).token_ids, [POISON], 0.4)
    events = run(new_engine(loaded, "ngram", parallel=3), *(request(f"{i}") for i in range(n)))
    for i in range(n):
        assert end_of(events[f"{i}"]).timings.drafted_tokens > 0
        assert untimed(events[f"{i}"])[1:-1] == answer[1:-1]


def test_a_draft_that_is_right_fails_where_the_answer_fails(loaded: OpenModel) -> None:
    """The model is made to choose the poison; its next logits are NaN, with a draft in the same step."""
    params = SamplingParams(temperature=0, seed=1, logit_bias={POISON: 100.0})
    outcomes = []
    for draft in ("off", "ngram"):
        with pytest.MonkeyPatch.context() as patch:
            propose_partly_wrong(patch, [POISON] * 40, [POISON], 0)
            outcomes.append(run(new_engine(loaded, draft), request(params=params))["job"])
    assert untimed(outcomes[0]) == untimed(outcomes[1])
    error = outcomes[0][-1]
    assert isinstance(error, ErrorEvent)
    assert error.code == "numerical_error"


def test_a_drafter_that_raises_is_done_without(
    loaded: OpenModel, answer: list[Event], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(self: NgramDrafter, price: float, most: int) -> tuple[int, ...]:
        raise MemoryError

    monkeypatch.setattr(NgramDrafter, "propose", refuse)
    with caplog.at_level(logging.WARNING):
        assert untimed(run(new_engine(loaded, "ngram"), request())["job"]) == answer
    assert "a draft failed: MemoryError" in caplog.text


@pytest.mark.parametrize("at", [0, 1, 5, 6, 7, 20])
@pytest.mark.parametrize("where", ["sample", "end of a row"])
def test_ctrl_c_in_the_middle_of_a_draft_loses_nothing(
    loaded: OpenModel, answer: list[Event], at: int, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    propose_partly_wrong(monkeypatch, end_of(answer).token_ids, [70], 0.2)
    owner: Any = Sampler if where == "sample" else Postprocessor
    name = "sample" if where == "sample" else "_sample"
    method, numbers = getattr(owner, name), iter(range(10**6))

    def work_or_be_interrupted(*args: Any) -> Any:
        if where == "sample" and next(numbers) == at:
            raise KeyboardInterrupt
        result = method(*args)
        if where != "sample" and next(numbers) == at:
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(owner, name, work_or_be_interrupted)
    engine = new_engine(loaded, "ngram")
    engine.add(request())
    events: dict[str, list[Event]] = defaultdict(list)
    n_interrupts = 0
    while engine.has_work:
        try:
            step_events = engine.step()
        except KeyboardInterrupt:
            n_interrupts += 1
            continue
        for step_event in step_events:
            events[step_event.job_id].append(step_event.event)
    assert n_interrupts == 1
    assert untimed(events["job"]) == answer


@pytest.mark.parametrize("n_steps", range(2, 6))
def test_an_abort_between_drafts_leaves_the_beginning_of_the_answer(
    loaded: OpenModel, answer: list[Event], n_steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    propose_partly_wrong(monkeypatch, end_of(answer).token_ids, [70], 0.2)
    engine = new_engine(loaded, "ngram")
    engine.add(request())
    for _ in range(n_steps):
        engine.step()
    engine.abort("job")
    end = end_of(run(engine)["job"])
    assert end.finish_reason == "abort"
    assert end.token_ids == end_of(answer).token_ids[: len(end.token_ids)]
    assert len(end.token_ids) >= n_steps
    assert engine.block_pool.n_free == engine.block_pool.n_blocks


def test_drafts_never_pass_the_end_of_the_context(
    loaded: OpenModel, answer: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    propose_partly_wrong(monkeypatch, end_of(answer).token_ids, [70], 0)
    for ctx_size in range(7, 20):
        end = end_of(run(new_engine(loaded, "ngram", ctx_size=ctx_size), request())["job"])
        assert (end.finish_reason, end.token_ids) == ("length", end_of(answer).token_ids[: ctx_size - 6])
