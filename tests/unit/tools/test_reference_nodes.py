"""The extractor runs without llorch and has its own list of stages; the validator must have the same one."""

from __future__ import annotations

import dataclasses

import pytest

from llorch.validation import dumps
from llorch.validation.tolerances import LAYER_ORDER, stage_names
from tools.reference import reference_nodes
from tools.reference.reference_nodes import GLOBAL_STAGES, LAYER_STAGES

SIZES = {"n_layer": 2, "n_embd": 7, "n_head": 4, "n_head_kv": 2, "head_dim": 3, "n_ff": 11, "n_vocab": 13}
"""No two products of these are equal, so that no two kinds of shapes are."""


def test_extractor_and_validator_know_the_same_stages_in_the_same_order() -> None:
    assert LAYER_STAGES == LAYER_ORDER
    assert [name for name, layer in stage_names(2) if layer < 0] == list(GLOBAL_STAGES)


def test_extractor_and_validator_name_the_same_sizes() -> None:
    names = [field.name for field in dataclasses.fields(reference_nodes.Sizes)]
    assert names == list(dumps.Sizes.model_fields)


@pytest.mark.parametrize("stage", [*GLOBAL_STAGES, *LAYER_STAGES])
@pytest.mark.parametrize(("n_tokens", "n_kv"), [(5, 5), (1, 6)])
def test_extractor_and_validator_expect_the_same_shape(stage: str, n_tokens: int, n_kv: int) -> None:
    theirs = reference_nodes.Sizes(**SIZES).shape(stage, n_tokens, n_kv)
    assert dumps.Sizes(**SIZES).shape(stage, n_tokens, n_kv) == theirs
