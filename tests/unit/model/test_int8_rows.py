"""Models in int8: both residences give the same bits, alone and in company; bytes are counted; bad scales are found."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from llorch.errors import ModelError
from llorch.formats.source import open_source
from llorch.observe.probe import Recorder
from llorch.trace.work import matrix_bytes
from tests.conftest import REPOSITORY
from tests.support.hf_directories import write_directory
from tests.support.naive import bits
from tests.support.small_models import Run, open_model
from tools.make_w8a8 import make_w8a8

TOKENS = [1, *range(20, 60)]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("int8")
    config = {"intermediate_size": 1056}  # three pieces that threads fill, if they need not see the whole row
    return make_w8a8(write_directory(path / "f32", config=config, seed=4), path / "w8a8")


@pytest.fixture(scope="module")
def alone(directory: Path) -> Iterator[np.ndarray]:
    """Logits of one token after the other, on one thread, with weights in the file."""
    with open_model(directory, residence="mapped") as model:
        run = Run(model.llama)
        yield np.concatenate([run.forward([(0, i, token)]) for i, token in enumerate(TOKENS)])


@pytest.mark.parametrize("residence", ["mapped", "packed"])
@pytest.mark.parametrize("n_threads", [1, 3])
def test_logits_have_the_same_bits_in_every_residence_batch_and_team(
    directory: Path, alone: np.ndarray, residence: str, n_threads: int
) -> None:
    with open_model(directory, residence=residence, n_threads=n_threads) as model:
        np.testing.assert_array_equal(bits(Run(model.llama).prefill(TOKENS)), bits(alone))


def test_the_observed_program_computes_the_same_bits(directory: Path, alone: np.ndarray) -> None:
    with open_model(directory, n_threads=2) as model:
        seen = Recorder()
        logits = Run(model.llama).prefill(TOKENS, probe=seen)
        np.testing.assert_array_equal(bits(logits), bits(alone))
        assert "ffn_swiglu-1" in seen.values


@pytest.mark.slow
def test_sums_in_llama_cpp_s_order_are_computed_too(directory: Path) -> None:
    """The products are the same; what is around them adds in another order."""
    code = (
        "from pathlib import Path; from tests.support.small_models import Run, open_model\n"
        f"with open_model(Path({str(directory)!r})) as model:\n"
        f"    print(Run(model.llama).prefill({TOKENS}).argmax(-1).tolist())"
    )
    found = []
    for order in ("", "llama.cpp"):
        environment = {"LLORCH_SUMS": order, "PATH": "/usr/bin:/bin", "HOME": str(Path.home())}
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=REPOSITORY, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        found.append(done.stdout.splitlines()[-1])
    assert found[0] == found[1]


def test_timelines_count_the_integers_and_the_scales(directory: Path) -> None:
    with open_model(directory, residence="mapped") as model:
        matrix = model.llama.residence.weights.layers[0].ffn_down
        assert matrix.format.quant.name == "I8"
        assert matrix_bytes(matrix) == 64 * 1056 + 64 * 4


@pytest.mark.parametrize("residence", ["mapped", "packed"])
def test_a_scale_that_is_no_number_is_found_when_weights_are_loaded(directory: Path, residence: str) -> None:
    source = open_source(directory)
    tensors = dict(source.tensors)
    scales = np.array(tensors["blk.1.ffn_up.weight"].row_scales)
    scales[77] = np.inf
    tensors["blk.1.ffn_up.weight"] = dataclasses.replace(tensors["blk.1.ffn_up.weight"], row_scales=scales)
    with pytest.raises(
        ModelError, match=r"'blk.1.ffn_up.weight': the scale of row 77 is not a finite number"
    ):
        open_model(source, residence=residence, tensors=tensors)  # type: ignore[arg-type]
