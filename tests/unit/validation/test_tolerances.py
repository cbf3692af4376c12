"""The table of checkpoints is complete and says why."""

from __future__ import annotations

import pytest

from llorch.validation.bounds import Tolerance
from llorch.validation.tolerances import (
    CHECKPOINTS,
    LAYER_ORDER,
    STAGES,
    Checkpoint,
    hint_of,
    stage_names,
)


def test_the_twelve_checkpoints_and_3b_stand_in_order() -> None:
    numbers = ["1", "2", "3", "3b", "4", "5", "6", "7", "8", "9", "10", "11", "12"]
    assert [checkpoint.number for checkpoint in CHECKPOINTS] == numbers


def test_every_stage_belongs_to_one_checkpoint() -> None:
    names = [stage for checkpoint in CHECKPOINTS for stage in checkpoint.stages]
    assert len(names) == len(set(names))
    assert set(names) == {name for name, _ in stage_names(1)}
    assert set(names) - {"inp_embd", "result_norm", "result_output"} == set(LAYER_ORDER)


@pytest.mark.parametrize("checkpoint", CHECKPOINTS, ids=lambda c: c.number)
def test_every_row_has_a_reason_and_a_hint(checkpoint: Checkpoint) -> None:
    assert checkpoint.tolerance.reason
    assert all(checkpoint.stages.values())
    assert checkpoint.hint or checkpoint.stages
    assert bool(checkpoint.stages) == bool(checkpoint.drift)
    assert all(tolerance.reason for tolerance in checkpoint.drift.values())


@pytest.mark.parametrize(
    ("stage", "number", "absolute"),
    [
        ("attn_norm", "1", 1e-5),
        ("Vcur", "2", 1e-4),
        ("Kcur_rope", "3", 1e-5),
        ("kq_soft_max", "4", 1e-4),
        ("attn_out", "5", 1e-4),
        ("ffn_out", "6", 1e-4),
        ("l_out", "7", 1e-4),
        ("result_output", "8", 1e-3),
    ],
)
def test_stages_have_the_documented_tolerances(stage: str, number: str, absolute: float) -> None:
    """These numbers stand here again on purpose: loosening a tolerance must need two edits."""
    assert STAGES[stage].number == number
    assert STAGES[stage].tolerance.absolute == absolute
    assert hint_of(number, stage)


def test_stages_are_named_in_the_order_of_the_computation() -> None:
    names = list(stage_names(2))
    assert names[0] == ("inp_embd", -1)
    assert names.index(("l_out", 0)) < names.index(("attn_norm", 1))
    assert names[-1] == ("result_output", -1)


@pytest.mark.parametrize(
    ("tolerance", "text"),
    [
        (Tolerance(0.0, "r"), "exact"),
        (Tolerance(1e-5, "r"), "1e-05"),
        (Tolerance(1e-4, "r", relative=2.4e-7), "0.0001 + 2.4e-07 peak"),
        (Tolerance(None, "r", nmse=1e-4), "NMSE 0.0001"),
    ],
)
def test_tolerances_print_shortly(tolerance: Tolerance, text: str) -> None:
    assert str(tolerance) == text
