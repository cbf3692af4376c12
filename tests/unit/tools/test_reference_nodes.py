"""The extractor runs without llorch and has its own list of stages; the validator must have the same one."""

from __future__ import annotations

from llorch.validation.tolerances import LAYER_ORDER
from tools.reference.reference_nodes import LAYER_STAGES


def test_extractor_and_validator_know_the_same_stages_in_the_same_order() -> None:
    assert LAYER_STAGES == LAYER_ORDER
