"""A receipt is verified if everything in it came out again, and only then."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llorch.engine.engine import Engine, open_configured
from llorch.engine.events import EndEvent
from llorch.engine.params import SamplingParams
from llorch.engine.request import Request
from llorch.open_model import OpenModel
from llorch.receipts.issue import Issuer
from llorch.settings import Settings
from tests.support.allowed_sets import Sets
from tests.support.receipts import altered, receipts, rehashed, verified
from tests.support.tiny_models import write_tiny_llama

PROMPT = tuple(3 + i * 7 % 300 for i in range(40))
SAMPLED = SamplingParams(temperature=1.5, top_k=0, top_p=1.0, min_p=0.0, seed=11)


@pytest.fixture(scope="module")
def loaded(tiny_model: Path) -> Iterator[OpenModel]:
    with open_configured(Settings(model=str(tiny_model), threads=1)) as loaded:
        yield loaded


def new_engine(loaded: OpenModel, **settings: Any) -> Engine:
    return Engine(loaded, Settings(**{"ctx_size": 96, "parallel": 2, **settings}))


def request(job_id: str = "job", **fields: Any) -> Request:
    fields = {"params": SAMPLED, "max_tokens": 8, "ignore_eos": True, "hashes_logits": True, **fields}
    return Request(job_id, fields.pop("token_ids", PROMPT), **fields)


@pytest.fixture(scope="module")
def receipt(loaded: OpenModel) -> dict[str, Any]:
    [receipt] = receipts(loaded, new_engine(loaded), request(stop=("never written",)))
    return receipt


def test_what_came_out_again_is_verified_and_what_nobody_can_check_stays_open(
    receipt: dict[str, Any], tiny_model: Path
) -> None:
    outcome = verified(receipt, tiny_model)
    assert outcome.verdict == "verified"
    open_checks = {name for name, holds in outcome.checks.items() if holds is None}
    assert open_checks == {"circumstances", "llama_server"}
    assert all(outcome.checks[name] for name in outcome.checks.keys() - open_checks)
    assert outcome.notes == []


@pytest.mark.parametrize(
    "fields",
    [
        {"params": SamplingParams(temperature=0)},
        {"params": SamplingParams(temperature=1.0, seed=3, repetition_penalty=1.3, penalty_last_n=-1)},
        {"params": SamplingParams(temperature=1.0, seed=3, presence_penalty=1.0, penalize_prompt=False)},
        {"params": SamplingParams(temperature=1.5, seed=3, logit_bias={5: 8.5, 6: -math.inf})},
        {"params": SamplingParams(temperature=2.0, seed=2**64 - 1), "max_tokens": 1},
        {"max_tokens": 10**6},
        {"n_logprobs": 3},
        {"token_ids": (1,)},
        {"shown_ids": frozenset({1, 2})},
    ],
    ids=lambda fields: ",".join(fields),
)
def test_whatever_a_request_asks_for_is_repeated(
    loaded: OpenModel, tiny_model: Path, fields: dict[str, Any]
) -> None:
    [receipt] = receipts(loaded, new_engine(loaded), request(**fields))
    assert verified(receipt, tiny_model).verdict == "verified"


def test_an_answer_that_an_end_token_ended_has_the_logits_of_that_too(
    loaded: OpenModel, tiny_model: Path
) -> None:
    ends = SamplingParams(temperature=0, logit_bias={2: 100.0})
    [receipt] = receipts(loaded, new_engine(loaded), request(params=ends, ignore_eos=False))
    assert receipt["answer"]["finish_reason"] == "stop"
    assert (receipt["answer"]["token_ids"], receipt["answer"]["end_token_id"]) == ([], 2)
    assert receipt["logits"]["n_rows"] == 1
    assert verified(receipt, tiny_model).verdict == "verified"


def test_a_stop_string_ends_the_replay_too(loaded: OpenModel, tiny_model: Path) -> None:
    [plain] = receipts(loaded, new_engine(loaded), request())
    text = loaded.tokenizer.decode(plain["answer"]["token_ids"][2:4], prompt_ids=[5])
    [receipt] = receipts(loaded, new_engine(loaded), request(stop=(text,)))
    assert receipt["answer"]["matched_stop"] == text
    assert verified(receipt, tiny_model).verdict == "verified"
    other = rehashed(altered(receipt, "answer.matched_stop", None))
    assert verified(other, tiny_model).checks["finish"] is False


def test_company_cache_and_drafts_change_nothing_in_a_receipt(loaded: OpenModel, tiny_model: Path) -> None:
    greedy = SamplingParams(temperature=0, seed=1)
    repeated = request(token_ids=PROMPT[:12] * 4, max_tokens=20, params=greedy)
    [alone] = receipts(loaded, new_engine(loaded, prefix_cache=False), repeated)
    engine = new_engine(loaded, draft="ngram")
    received = [
        receipts(loaded, engine, request("first"), repeated)[1],
        receipts(loaded, engine, repeated, request("last", max_tokens=30))[0],
    ]
    assert received[1]["circumstances"]["cached_tokens"] > 0
    assert max(one["circumstances"]["drafted_tokens"] for one in received) > 0
    for one in received:
        assert {**one, "circumstances": 0, "sha256": 0} == {**alone, "circumstances": 0, "sha256": 0}
    assert verified(received[1], tiny_model).verdict == "verified"


def test_a_generation_that_had_to_give_way_has_the_receipt_of_one_that_had_not(
    loaded: OpenModel, tiny_model: Path
) -> None:
    older, younger = (request(f"job{n}", token_ids=PROMPT[:n], max_tokens=40) for n in (20, 24))
    [alone] = receipts(loaded, new_engine(loaded), younger)
    engine = new_engine(loaded, prefix_cache=False)
    taken = engine.block_pool.allocate(engine.block_pool.n_free - 3)
    received = receipts(loaded, engine, older, younger)[1]
    assert engine.snapshot().n_preempted > 0
    engine.block_pool.release(taken)
    assert received == alone
    assert verified(received, tiny_model).verdict == "verified"


def test_a_choice_that_a_grammar_limited_is_not_reproducible_but_its_logits_are_checked(
    loaded: OpenModel, tiny_model: Path
) -> None:
    allowed = [{40, 41}, {50, 51, 52}, {60}, {2}]
    bound = request(ignore_eos=False, constraint=lambda: Sets([*allowed, None], 320))
    [receipt] = receipts(loaded, new_engine(loaded), bound)
    outcome = verified(receipt, tiny_model)
    assert outcome.verdict == "not reproducible"
    assert (outcome.checks["logits"], outcome.checks["token_ids"], outcome.checks["finish"]) == (
        True,
        None,
        None,
    )
    assert "grammar" in outcome.notes[0]
    claimed = rehashed(altered(receipt, "answer.token_ids", [40, 50, 61]))
    assert verified(claimed, tiny_model).verdict == "not verified"
    free = rehashed(altered(receipt, "settings.is_constrained", False))
    assert verified(free, tiny_model).checks["token_ids"] is False


@pytest.mark.parametrize("end", [Engine.abort, Engine.time_out])
def test_an_answer_that_a_client_or_a_clock_ended_is_verified_as_far_as_it_went(
    loaded: OpenModel, tiny_model: Path, end: Callable[[Engine, str], object]
) -> None:
    engine = new_engine(loaded)
    engine.add(asked := request(max_tokens=50))
    for _ in range(4):
        engine.step()
    end(engine, asked.job_id)
    [event] = [one.event for one in engine.step() if isinstance(one.event, EndEvent)]
    outcome = verified(Issuer(loaded, engine.n_ctx, "f16").receipt(asked, event), tiny_model)
    assert outcome.verdict == "verified"
    assert (outcome.checks["finish"], outcome.checks["text"]) == (None, None)
    assert "cannot be repeated" in outcome.notes[0]


def test_nothing_generated_is_not_reproducible(loaded: OpenModel, tiny_model: Path) -> None:
    [receipt] = receipts(loaded, new_engine(loaded), request(max_tokens=0, n_prompt_logprobs=0))
    assert receipt["logits"]["sha256"] is None
    outcome = verified(receipt, tiny_model)
    assert outcome.verdict == "not reproducible"
    assert outcome.checks["logits"] is outcome.checks["token_ids"] is None


def test_another_model_is_not_the_receipts_and_nothing_is_computed(
    receipt: dict[str, Any], tmp_path: Path
) -> None:
    write_tiny_llama(tmp_path / "other.gguf", n_layer=2)
    outcome = verified(receipt, tmp_path / "other.gguf")
    assert outcome.verdict == "not reproducible"
    assert outcome.checks["model"] is False
    assert outcome.checks["logits"] is outcome.checks["token_ids"] is None


def test_a_cache_of_float32_is_used_where_the_receipt_says_so(tiny_model: Path) -> None:
    with open_configured(Settings(model=str(tiny_model), threads=1, kv_type="f32")) as loaded:
        [receipt] = receipts(loaded, new_engine(loaded, kv_type="f32"), request())
    assert receipt["arithmetic"]["kv_type"] == "f32"
    assert verified(receipt, tiny_model).verdict == "verified"
