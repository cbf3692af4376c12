"""Directories of Hugging Face give transformers' logits and greedy tokens, as `tools/oracles` stored them.

The stored values are of weights in float32, whatever their type: nothing but the order of float32 additions may lie
between them and ours where our weights are float32 too. Files in BF16 or F16 are computed in two ways: with their
weights expanded to float32, which shows that they are read right, and as they are, where activations are rounded.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from llorch.formats.gguf.file import GGUFFile
from llorch.validation.bounds import Tolerance
from llorch.validation.compare import compare
from llorch.validation.tolerances import F32_LOGITS, ROUNDED_LOGITS
from tests.support.hf_directories import sha256_of_weights, write_directory
from tests.support.oracle_values import OracleCase, logits_and_greedy, nmse, opened, stored_cases
from tools.make_hf_directory import make_directory

TINY = stored_cases("tiny")
IS_F32 = {name: "dtype" not in case.about["directory"] for name, case in TINY.items()}
N_GREEDY = 100


def directory_of(case: OracleCase, path: Path) -> Path:
    """The tiny directory that transformers ran, made again."""
    directory = write_directory(path / case.name, **case.about["directory"])
    assert sha256_of_weights(directory) == case.about["sha256"], "the values belong to other weights"
    return directory


def require_logits(case: OracleCase, logits: np.ndarray, tolerance: Tolerance) -> None:
    result = compare(case.chosen(logits), case.logits, tolerance)
    assert result.passed, result


@pytest.mark.parametrize("name", TINY)
def test_logits_and_100_greedy_tokens_are_those_of_transformers_in_float32(name: str, tmp_path: Path) -> None:
    case = TINY[name]
    assert len(case.about["greedy"]) == N_GREEDY
    with opened(directory_of(case, tmp_path), expanded=not IS_F32[name]) as model:
        logits, greedy = logits_and_greedy(model, case.about["prompt"], N_GREEDY)
    require_logits(case, logits, F32_LOGITS)
    assert greedy == case.about["greedy"]


@pytest.mark.parametrize("name", [name for name, is_f32 in IS_F32.items() if not is_f32])
def test_logits_of_half_precision_are_within_its_rounding(name: str, tmp_path: Path) -> None:
    case = TINY[name]
    with opened(directory_of(case, tmp_path)) as model:
        logits, _ = logits_and_greedy(model, case.about["prompt"])
    require_logits(case, logits, ROUNDED_LOGITS["F16" if name == "f16" else "BF16"])
    ours, theirs = nmse(case.chosen(logits), case.logits), case.about["in_bf16"]["nmse"]
    assert ours < theirs, "transformers' own computation in BF16 is nearer to exact arithmetic"


def test_scaling_is_read_in_both_of_its_spellings(tmp_path: Path) -> None:
    for name in ("linear", "llama3", "yarn", "dynamic_within_its_context"):
        case = TINY[name]
        config = dict(case.about["directory"]["config"])
        scaling = config.pop("rope_scaling")
        scaling = {"rope_type": scaling.get("rope_type") or scaling["type"], **scaling}
        config["rope_parameters"] = {"rope_theta": config.pop("rope_theta", 10000.0), **scaling}
        arguments = case.about["directory"] | {"config": config, "without": ["rope_scaling", "rope_theta"]}
        with opened(write_directory(tmp_path / name, **arguments)) as model:
            logits, _ = logits_and_greedy(model, case.about["prompt"])
        require_logits(case, logits, F32_LOGITS)


def test_a_trained_model_gives_transformers_logits_and_tokens(model_path: Callable[[str], Path]) -> None:
    directory, case = model_path("tinystories-656k"), stored_cases("tinystories-656k")["tinystories-656k"]
    assert sha256_of_weights(directory) == case.about["sha256"]
    with opened(directory) as model:
        logits, greedy = logits_and_greedy(model, case.about["prompt"], N_GREEDY)
    require_logits(case, logits, F32_LOGITS)
    assert greedy == case.about["greedy"]


def test_a_directory_made_from_a_gguf_file_gives_the_same_as_the_file(
    model_path: Callable[[str], Path], tmp_path: Path
) -> None:
    gguf, case = model_path("stories260K-f32.gguf"), stored_cases("stories260K-f32")["stories260K-f32"]
    with GGUFFile(gguf) as source:
        make_directory(source, tmp_path / "directory")
    assert sha256_of_weights(tmp_path / "directory") == case.about["sha256"]
    for path in (gguf, tmp_path / "directory"):
        with opened(path) as model:
            logits, greedy = logits_and_greedy(model, case.about["prompt"], N_GREEDY)
        require_logits(case, logits, F32_LOGITS)
        assert greedy == case.about["greedy"]


@pytest.mark.slow
@pytest.mark.smollm2
def test_smollm2_as_a_directory_gives_transformers_logits_and_tokens(smollm2: Path, tmp_path: Path) -> None:
    case = stored_cases("smollm2-135m-f32")["smollm2-135m-f32"]
    directory = tmp_path / "directory"
    with GGUFFile(smollm2) as source:
        make_directory(source, directory)
    assert sha256_of_weights(directory) == case.about["sha256"]
    with opened(directory) as model:
        logits, greedy = logits_and_greedy(model, case.about["prompt"], N_GREEDY)
    require_logits(case, logits, F32_LOGITS)
    assert greedy == case.about["greedy"]
