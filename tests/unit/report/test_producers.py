"""Which operation produces which named intermediate, held against the taps of the programs themselves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from llorch.kernels.kv_types import KV_TYPES
from llorch.kernels.program import Program
from llorch.model.forward_pass import RunState, write_program
from llorch.open_model import OpenModel, open_model
from llorch.report.producers import FUSED_OPERATIONS, STAGE_PRODUCERS, producer_of, stages_of
from llorch.validation.tolerances import STAGES, stage_names
from tests.support.proof import GOLDEN


@pytest.fixture(scope="module")
def model() -> Iterator[OpenModel]:
    with open_model(GOLDEN / "tiny.gguf", n_threads=1, with_tokenizer=False) as model:
        yield model


def program_of(model: OpenModel, *, observed: bool) -> Program:
    placed = model.llama.residence.weights
    state = RunState.empty(model.config, placed, 1)
    return write_program(model.config, placed, state, KV_TYPES["f32"], observed=observed)


@pytest.mark.parametrize("observed", [False, True])
def test_every_stage_is_produced_once(model: OpenModel, observed: bool) -> None:
    labels = program_of(model, observed=observed).labels
    cells = zip(stages_of(labels), labels, strict=True)
    found = [(stage, layer) for stages, (_, layer) in cells for stage in stages if "cache" not in stage]
    assert sorted(found) == sorted(stage_names(model.config.n_layer))


@pytest.mark.parametrize("observed", [False, True])
def test_a_stage_belongs_to_the_operation_behind_which_it_is_tapped(model: OpenModel, observed: bool) -> None:
    program = program_of(model, observed=observed)
    stages = stages_of(program.labels)
    taps = [(index, tap) for index, of_index in program.taps.items() for tap in of_index]
    assert len(taps) > 7 * model.config.n_layer
    for index, tap in taps:
        assert tap.name in stages[index], (tap.name, tap.layer, program.labels[index])


def test_every_compared_stage_has_a_producer_among_the_operations_for_speed(model: OpenModel) -> None:
    assert {label for label, _ in model.llama.labels} == set(FUSED_OPERATIONS)
    for stage in (*STAGES, "cache_k", "cache_v"):
        assert producer_of(stage, FUSED_OPERATIONS) in STAGE_PRODUCERS[stage]


def test_what_is_no_stage_has_no_producer() -> None:
    assert producer_of("best tokens", FUSED_OPERATIONS) is None
    assert producer_of("Qcur", ["norm"]) is None


def test_a_bias_on_the_output_projection_makes_its_sum_an_operation_of_its_own() -> None:
    labels = [("norm", 0), ("attn_output", 0), ("bias", 0), ("add", 0), ("norm", 0), ("ffn_down", 0)]
    stages = stages_of(labels)
    assert stages[1] == ("attn_out",)
    assert stages[3] == ("ffn_inp",)
    assert stages[5] == ("ffn_out", "l_out")
