"""Receipts that somebody altered, with and without making their hashes fit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llorch.engine.engine import Engine, open_configured
from llorch.engine.params import SamplingParams
from llorch.engine.request import Request
from llorch.errors import InputError
from llorch.open_model import OpenModel
from llorch.receipts.schema import Receipt
from llorch.settings import Settings
from tests.support.receipts import altered, receipts, rehashed, verified

PROMPT = tuple(3 + i * 7 % 300 for i in range(40))
DIGEST = "0" * 64


@pytest.fixture(scope="module")
def loaded(tiny_model: Path) -> Iterator[OpenModel]:
    with open_configured(Settings(model=str(tiny_model), threads=1)) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def receipt(loaded: OpenModel) -> dict[str, Any]:
    params = SamplingParams(temperature=1.5, top_k=0, top_p=1.0, min_p=0.0, seed=11)
    asked = Request("job", PROMPT, params, 8, ignore_eos=True, hashes_logits=True)
    [receipt] = receipts(loaded, Engine(loaded, Settings(ctx_size=96, parallel=1)), asked)
    return receipt


ALTERED: dict[str, tuple[object, str]] = {
    "model.sha256": (DIGEST, "model"),
    "model.bytes": (1, "model_description"),
    "model.tensors": ({"F32": 1}, "model_description"),
    "model.quantization": ("Q8_1", "model_description"),
    "arithmetic.revision": (2, "arithmetic"),
    "arithmetic.sums": ("llama.cpp", "arithmetic"),
    "arithmetic.kv_type": ("f32", "logits"),
    "prompt.token_ids": ([5, *PROMPT[1:]], "logits"),
    "settings.temperature": (0.0, "token_ids"),
    "settings.top_k": (1, "token_ids"),
    "settings.top_p": (0.0, "token_ids"),
    "settings.min_p": (1.0, "token_ids"),
    "settings.seed": (12, "token_ids"),
    "settings.repetition_penalty": (0.001, "token_ids"),
    "settings.presence_penalty": (-5.0, "settings"),
    "settings.logit_bias": ({"7": 100.0}, "token_ids"),
    "settings.max_tokens": (7, "token_ids"),
    "settings.ignore_eos": ("yes", ""),
    "settings.end_ids": ([], "settings"),
    "settings.samplers": ([], "token_ids"),
    "settings.typical_p": (0.01, "token_ids"),
    "settings.top_n_sigma": (0.01, "token_ids"),
    "settings.xtc_probability": (1.0, "token_ids"),
    "settings.dynatemp_range": (1.5, "token_ids"),
    "settings.mirostat": (2, "token_ids"),
    "settings.adaptive_target": (0.0, "token_ids"),
    "settings.stop_token_ids": ([*range(150, 278)], "token_ids"),
    "settings.dry_multiplier": (-1.0, "settings"),
    "answer.token_ids": ([9] * 8, "token_ids"),
    "answer.end_token_id": (2, "counts"),
    "answer.finish_reason": ("stop", "finish"),
    "answer.matched_stop": ("x", "finish"),
    "answer.text_sha256": (DIGEST, "text"),
    "logits.n_rows": (7, "counts"),
    "logits.n_vocab": (300, "counts"),
    "logits.sha256": (DIGEST, "counts"),
    "logits.running": (["0" * 16] * 8, "counts"),
}
"""Another value of a member, and the check that does not hold then, even if all hashes were made to fit."""
WITH_ANOTHER = (
    "xtc_threshold", "dynatemp_exponent", "dry_base", "dry_allowed_length", "dry_penalty_last_n",
    "dry_sequence_breakers", "mirostat_tau", "mirostat_eta", "adaptive_decay",
)  # fmt: skip
"""Settings without an effect alone."""


@pytest.mark.parametrize("place", [place for place, (_, check) in ALTERED.items() if check])
def test_a_forger_who_makes_the_hashes_fit_is_found_by_the_check_that_is_named(
    receipt: dict[str, Any], tiny_model: Path, place: str
) -> None:
    value, check = ALTERED[place]
    outcome = verified(rehashed(altered(receipt, place, value)), tiny_model)
    assert outcome.checks[check] is False
    assert outcome.verdict == ("not reproducible" if check in ("model", "arithmetic") else "not verified")
    assert any(note.startswith(f"{check}:") for note in outcome.notes)


def test_every_member_is_under_the_receipts_own_hash(receipt: dict[str, Any], tiny_model: Path) -> None:
    others: dict[type, Any] = {bool: None, int: 1, float: 0.5, str: "f32", list: [], dict: {}, type(None): 5}
    places = [
        f"{part}.{name}" if isinstance(value, dict) else part
        for part, value in receipt.items()
        if part not in ("type", "receipt")
        for name in (value if isinstance(value, dict) else [""])
    ]
    assert len(places) > 40
    n_checked = 0
    for place in places:
        part, _, name = place.partition(".")
        old = receipt[part][name] if name else receipt[part]
        value = not old if isinstance(old, bool) else others[type(old)]
        if value == old:
            continue
        try:
            outcome = verified(altered(receipt, place, value), tiny_model)
        except InputError:  # no receipt has such a value
            continue
        assert (outcome.checks["receipt"], outcome.verdict) == (False, "not verified"), place
        assert outcome.checks["logits"] is None  # nothing is computed for it
        n_checked += 1
    assert n_checked > 25


def test_the_first_token_that_differs_is_named(receipt: dict[str, Any], tiny_model: Path) -> None:
    running = [*receipt["logits"]["running"]]
    running[5] = "0" * 16
    outcome = verified(rehashed(altered(receipt, "logits.running", running)), tiny_model)
    assert outcome.first_difference == 5
    assert outcome.checks["token_ids"] is True
    assert "those of token 5 are the first to differ" in outcome.notes[0]
    ids = [*receipt["answer"]["token_ids"]]
    ids[3] = 9 if ids[3] != 9 else 10
    outcome = verified(rehashed(altered(receipt, "answer.token_ids", ids)), tiny_model)
    assert outcome.first_difference == 3
    assert "another one is chosen at 3" in outcome.notes[0]


def test_logits_are_compared_along_the_receipts_tokens_where_other_ones_are_chosen(
    receipt: dict[str, Any], tiny_model: Path
) -> None:
    outcome = verified(rehashed(altered(receipt, "settings.seed", 12)), tiny_model)
    assert (outcome.checks["logits"], outcome.checks["token_ids"]) == (True, False)


def test_prompt_ids_that_no_vocabulary_has_are_no_crash(receipt: dict[str, Any], tiny_model: Path) -> None:
    outcome = verified(rehashed(altered(receipt, "prompt.token_ids", [2**31 - 1])), tiny_model)
    assert outcome.checks["counts"] is False


def test_every_part_of_the_format_is_in_the_table_of_alterations_or_left_open() -> None:
    fields = {
        f"{part}.{name}"
        for part in ("model", "arithmetic", "prompt", "settings", "answer", "logits")
        for name in Receipt.model_fields[part].annotation.model_fields  # type: ignore[union-attr]
    }
    harmless = {
        "model.name",  # a file may be renamed
        "prompt.sha256",
        "settings.frequency_penalty",
        "settings.penalty_last_n",
        "settings.penalize_prompt",
        "settings.stop",  # of strings that do not occur
        "settings.shown_ids",
        "settings.is_constrained",  # nothing is verified then
        "settings.min_tokens",  # where the end is ignored
        *(f"settings.{name}" for name in WITH_ANOTHER),
        "answer.timed_out",  # the end is left open then
    }
    assert fields == ALTERED.keys() | harmless
