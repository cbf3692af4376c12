"""Directories in int8 give the logits and greedy tokens of transformers with compressed-tensors (`tools/oracles`).

Both compute in float32, and what float32 sums differ by may turn an activation between two integers into the other one
(`tools/oracles/tiny_llamas.py`); one of the stored cases has such an activation.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from llorch.validation.compare import compare
from llorch.validation.tolerances import F32_LOGITS, ROUNDED_LOGITS
from tests.support.hf_directories import sha256_of_weights, write_directory
from tests.support.oracle_values import OracleCase, logits_and_greedy, nmse, opened, stored_cases
from tools.make_w8a8 import make_w8a8

CASES = stored_cases("w8a8")
N_GREEDY = 100
EXACT = ("gqa", "llama3", "biases")


def directory_of(case: OracleCase, path: Path) -> Path:
    """The directory that transformers ran, made and quantised again."""
    unquantized = write_directory(path / "unquantized", **case.about["directory"])
    directory = make_w8a8(unquantized, path / "quantized")
    assert sha256_of_weights(directory) == case.about["sha256"], "the values belong to other weights"
    return directory


@pytest.mark.parametrize("name", EXACT)
def test_logits_and_100_greedy_tokens_are_those_of_compressed_tensors(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    assert len(case.about["greedy"]) == N_GREEDY
    with opened(directory_of(case, tmp_path)) as model:
        logits, greedy = logits_and_greedy(model, case.about["prompt"], N_GREEDY)
    result = compare(case.chosen(logits), case.logits, F32_LOGITS)
    assert result.passed, result
    assert nmse(case.chosen(logits), case.logits) < 1e-12
    assert greedy == case.about["greedy"]


def test_scales_in_bf16_beside_layers_in_bf16_are_within_its_rounding(tmp_path: Path) -> None:
    case = CASES["bf16"]
    with opened(directory_of(case, tmp_path)) as model:
        assert {t.type.name for t in model.source.tensors.values()} == {"BF16", "I8"}
        logits, _ = logits_and_greedy(model, case.about["prompt"])
    result = compare(case.chosen(logits), case.logits, ROUNDED_LOGITS["BF16"])
    assert result.passed, result
    assert nmse(case.chosen(logits), case.logits) < case.about["in_bf16"]["nmse"]


def test_an_activation_near_a_tie_changes_rows_from_its_token_on_and_those_little(tmp_path: Path) -> None:
    case = CASES["near_a_tie"]
    with opened(directory_of(case, tmp_path)) as model:
        logits, _ = logits_and_greedy(model, case.about["prompt"])
    rows = [nmse(ours, theirs) for ours, theirs in zip(case.chosen(logits), case.logits, strict=True)]
    assert max(rows[:3]) < 1e-12
    assert 1e-6 < rows[3] < 1e-3


def test_activations_are_quantised_for_their_values_to_agree(tmp_path: Path) -> None:
    """The tolerance tells: without the activations' rounding, the values are far outside."""
    case = CASES["gqa"]
    with opened(directory_of(case, tmp_path), expanded=True) as model:
        logits, _ = logits_and_greedy(model, case.about["prompt"])
    assert not compare(case.chosen(logits), case.logits, F32_LOGITS).passed
    assert nmse(case.chosen(logits), case.logits) > 1e-6


@pytest.mark.slow
@pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("torch", "transformers", "compressed_tensors", "accelerate"))),
    reason="torch, transformers, compressed-tensors and accelerate are not installed (the oracles extra)",
)
@pytest.mark.filterwarnings("ignore")
def test_logits_are_those_of_the_compressed_tensors_that_is_installed(tmp_path: Path) -> None:
    from tools.oracles.transformers_run import load_compressed, logits_of

    case = CASES["gqa"]
    directory = directory_of(case, tmp_path)
    theirs = logits_of(load_compressed(directory), case.about["prompt"])
    with opened(directory) as model:
        ours, _ = logits_and_greedy(model, case.about["prompt"])
    assert compare(ours, theirs, F32_LOGITS).passed
