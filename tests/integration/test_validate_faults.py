"""The harness is proven: each planted fault fails at the stage that belongs to it, and nothing else does."""

from __future__ import annotations

from typing import Any

import pytest

from llorch.validation.checkpoints import ValidationResult, validate
from llorch.validation.dumps import Reference
from llorch.validation.tolerances import stage_key
from tests.conftest import REPOSITORY
from tests.support import faults

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


FAULTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "eps 1e-3": ({"config": faults.larger_eps}, "1", "attn_norm-0"),
    "post-norm": ({"operations": faults.POST_NORM}, "1", "attn_norm-0"),
    "one weight of K x 1.01": ({"tensors": faults.one_value_off("blk.1.attn_k.weight")}, "2", "Kcur-1"),
    "half-split RoPE": ({"operations": faults.HALF_SPLIT_ROPE}, "3", "Qcur_rope-0"),
    "start position off by one": ({"llama": faults.LateLlama}, "3", "Qcur_rope-0"),
    "V rotated": ({"operations": faults.ROTATED_V}, "3b", "cache_v-0"),
    "a cache row not written": (
        {"operations": faults.FORGETS_DECODE_ROWS, "llama": faults.ForgetfulLlama},
        "3b",
        "cache_k-0",
    ),
    "wrong score scale": ({"operations": faults.WRONG_SCALE}, "4", "kq_soft_max-0"),
    "missing mask": ({"llama": faults.MasklessLlama}, "4", "kq_soft_max-0"),
    "one weight of attn_output x 1.01": (
        {"tensors": faults.one_value_off("blk.1.attn_output.weight")},
        "5",
        "attn_out-1",
    ),
    "missing residual": ({"operations": faults.NO_RESIDUAL}, "7", "ffn_inp-0"),
    "gate and up swapped": ({"weights": faults.gate_and_up_swapped}, "6", "ffn_gate-0"),
    "one weight of ffn_down x 1.01": (
        {"tensors": faults.one_value_off("blk.0.ffn_down.weight")},
        "6",
        "ffn_out-0",
    ),
    "tied head used by mistake": ({"weights": faults.tied_head}, "8", "result_output"),
    "fused steps without RoPE": ({"operations": faults.UNROTATED_WHEN_FUSED}, "9", "last row"),
    "other bits in another run": ({"llama": faults.RestlessLlama}, "12", "greedy tokens"),
}


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
