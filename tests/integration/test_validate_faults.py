"""The harness is proven: each planted fault fails at the stage that belongs to it, and nothing else does."""

from __future__ import annotations

from typing import Any

import pytest

from llorch.validation.checkpoints import ValidationResult, validate
from llorch.validation.dumps import Reference
from llorch.validation.tolerances import stage_key
from tests.conftest import REPOSITORY
from tests.support import faults
from tests.support.planted_faults import FAULTS

TINY = REPOSITORY / "tests" / "golden" / "checkpoints"
"""A model with random weights, GQA, an untied head and Q8_0 throughout, and llama.cpp's dumps of it."""

PROFILES = ("native", "f32")


def outcome_of(profile: str, goes_on: bool = False, **changes: Any) -> ValidationResult:
    reference = Reference.load(TINY / f"tiny-{profile}")
    with faults.faulty_subject(TINY / "tiny.gguf", reference, **changes) as subject:
        return validate(subject, reference, goes_on=goes_on)


@pytest.mark.parametrize("profile", PROFILES)
def test_without_a_fault_everything_passes(profile: str) -> None:
    outcome = outcome_of(profile)
    assert outcome.findings.first_failure is None
    assert {row.verdict for row in outcome.rows} == {"pass"}


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_where_it_sits(name: str, profile: str) -> None:
    changes, checkpoint, stage = FAULTS[name]
    outcome = outcome_of(profile, **changes)
    failure = outcome.findings.first_failure
    assert failure is not None
    assert (failure.checkpoint, stage_key(failure.stage, failure.layer)) == (checkpoint, stage)
    assert failure.hint
    assert outcome.findings.results[-1] is failure, "nothing is compared after the first divergence"
    if checkpoint not in ("9", "12"):
        assert failure.way == "local"


def test_unquantised_activations_fail_on_the_native_profile_alone() -> None:
    failure = outcome_of("native", tensors=faults.expanded_to_f32).findings.first_failure
    assert failure is not None
    assert (failure.checkpoint, failure.stage, failure.layer) == ("2", "Qcur", 0)
    assert outcome_of("f32", tensors=faults.expanded_to_f32).passed


def test_going_on_shows_every_place_that_a_fault_reaches() -> None:
    outcome = outcome_of("native", goes_on=True, weights=faults.gate_and_up_swapped)
    failed = {(c.way, c.stage) for c in outcome.findings.results if c.verdict == "fail"}
    assert {("local", "ffn_gate"), ("local", "ffn_up"), ("end_to_end", "result_output")} <= failed
    assert ("local", "ffn_swiglu") not in failed, "a stage fed with the reference's input is innocent"


def test_another_number_of_keys_is_a_failure_and_no_crash() -> None:
    outcome = outcome_of("native", goes_on=True, llama=faults.LateLlama)
    failed = {c.stage: c.note for c in outcome.findings.results if c.verdict == "fail"}
    assert "shape" in failed["kq"]
