"""Every shape of model against llama.cpp, stage by stage: in its order of additions in every bit.

Needs llama-cpp-python (the `reference` extra); for equal bits built as `tools/setup/llama_cpp.sh` builds it.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llorch.model.config import ModelConfig
from llorch.validation.checkpoints import validate
from llorch.validation.dumps import Reference
from llorch.validation.tolerances import stage_key
from tests.conftest import REPOSITORY
from tests.support import faults, size_table
from tests.support.size_table import SIZES
from tests.support.size_worker import validated

pytestmark = [
    pytest.mark.slow,
    pytest.mark.reference,
    pytest.mark.skipif(not importlib.util.find_spec("llama_cpp"), reason="llama-cpp-python is not installed"),
]

PROMPT = "Once upon a time there was"
LONG = " ".join([PROMPT] * 12)
"""For YaRN: beyond the original context of most of these models."""


@pytest.fixture(scope="module")
def dumped(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The model files by name, in one folder; llama.cpp's dump lies beside each."""
    from tools.reference.extract_checkpoints import main

    folder = tmp_path_factory.mktemp("sizes")
    models = {name: size_table.write(name, folder) for name in SIZES}
    for name, path in models.items():
        prompt = LONG if "yarn" in name else PROMPT
        words = ["-m", str(path), "-p", prompt, "-o", str(path.with_suffix("")), "--n-decode", "6"]
        assert main(words) == 0, name
    return models


@pytest.fixture(scope="module")
def different(llama_cpp_in_known_order: None, dumped: dict[str, Path]) -> dict[str, list[str]]:
    """What differs from llama.cpp in its order of additions, by the stem of the file."""
    folder = next(iter(dumped.values())).parent
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.size_worker", str(folder)],
        cwd=REPOSITORY,
        env=os.environ | {"LLORCH_SUMS": "llama.cpp"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["sums"] == "llama.cpp"
    differences: dict[str, list[str]] = found["differences"]
    return differences


@pytest.mark.parametrize("name", SIZES)
def test_in_llama_cpps_order_every_stage_equals_its_dump_in_every_bit(
    name: str, dumped: dict[str, Path], different: dict[str, list[str]]
) -> None:
    assert different[dumped[name].stem] == []


@pytest.mark.parametrize("name", SIZES)
def test_in_our_order_every_stage_is_within_its_tolerance(name: str, dumped: dict[str, Path]) -> None:
    failed = [check for check in validated(dumped[name]).findings.results if check.verdict != "pass"]
    assert failed == []


def without(name: str) -> Callable[[faults.Tensors], faults.Tensors]:
    return lambda tensors: {key: tensor for key, tensor in tensors.items() if key != name}


def other(**changes: Any) -> Callable[[ModelConfig], ModelConfig]:
    return lambda config: dataclasses.replace(config, **changes)


FAULTS: dict[str, tuple[str, dict[str, Any], str]] = {
    "a bias of q forgotten": ("all biases", {"tensors": without("blk.1.attn_q.bias")}, "Qcur-1"),
    "a bias of v forgotten": ("biases of q, k and v", {"tensors": without("blk.0.attn_v.bias")}, "Vcur-0"),
    "a bias of the output forgotten": (
        "a bias of the output", {"tensors": without("blk.0.attn_output.bias")}, "attn_out-0",
    ),
    "a bias of the gate forgotten": ("all biases", {"tensors": without("blk.1.ffn_gate.bias")}, "ffn_gate-1"),
    "a bias of ffn_down forgotten": ("all biases", {"tensors": without("blk.0.ffn_down.bias")}, "ffn_out-0"),
    "yarn read as linear": ("yarn 4", {"config": other(n_ctx_orig_yarn=0)}, "Qcur_rope-0"),
    "yarn of another context": ("yarn 16", {"config": other(n_ctx_orig_yarn=1024)}, "Qcur_rope-0"),
    "no attention factor": (
        "yarn 16 with an attention factor", {"config": other(rope_attn_factor=1.0)}, "Qcur_rope-0",
    ),
    "positions not scaled": ("rope scaling linear", {"config": other(rope_freq_scale=1.0)}, "Qcur_rope-0"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found_where_it_sits(fault: str, dumped: dict[str, Path]) -> None:
    name, changes, stage = FAULTS[fault]
    path = dumped[name]
    reference = Reference.load(path.with_suffix(""))
    with faults.faulty_subject(path, reference, **changes) as subject:
        failure = validate(subject, reference).findings.first_failure
    assert failure is not None
    assert (failure.way, stage_key(failure.stage, failure.layer)) == ("local", stage)
