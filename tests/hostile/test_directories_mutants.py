"""Mutants of every file of a directory: each opens or is refused with one line, at once, within a bound of memory."""

from __future__ import annotations

import json
import os
import shutil
import time
import tracemalloc
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest

from llorch.errors import InputError
from llorch.formats.safetensors.file import SafetensorsFile
from tests.support.hf_directories import write_directory
from tests.support.hostile_directories import open_everything
from tests.support.json_mutants import json_mutants
from tests.support.mutants import mutants, overwrite
from tests.support.safetensors_writer import safetensors_bytes, write_safetensors

MAX_SECONDS = 1.0
"""Of CPU time, which a busy machine does not stretch; what hangs meets the time limit of the run."""
MAX_BYTES = 32 << 20

slow = [pytest.mark.slow, pytest.mark.timeout(1200)]
N_EACH = pytest.mark.parametrize("n", [100, pytest.param(1000, marks=slow)])


def tally(path: Path, contents: Iterable[bytes], opens: Callable[[], object], names: str) -> tuple[int, int]:
    """How many contents of the file open, and how many are refused with one line that names the file."""
    counts = [0, 0]
    tracemalloc.start()
    try:
        for number, content in enumerate(contents):
            overwrite(path, content)
            tracemalloc.reset_peak()
            before, start = tracemalloc.get_traced_memory()[0], time.thread_time()
            try:
                opens()
                counts[0] += 1
            except InputError as error:
                message = str(error)
                counts[1] += message.isprintable() and len(message) < 1000 and names in message
            except BaseException as error:
                raise AssertionError(f"mutant {number}: {content[:400]!r}") from error
            assert time.thread_time() - start < MAX_SECONDS, number
            assert tracemalloc.get_traced_memory()[1] - before < MAX_BYTES, number
    finally:
        tracemalloc.stop()
    return counts[0], counts[1]


def read_safetensors(path: Path) -> None:
    """Open a file and read every byte of its tensors, which must lie inside and beside each other."""
    file = SafetensorsFile(path)
    try:
        end = 0
        for name, info in file.infos.items():
            assert end <= info.begin <= info.end <= file.n_bytes
            end = info.end
            assert file.raw(name).nbytes == info.n_bytes
            file.raw(name).sum()
    finally:
        file.close()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A small safetensors file."""
    path = tmp_path_factory.mktemp("weights") / "w"
    tensors = {f"t{n}": ("F32", np.ones((n + 1, 3), np.float32)) for n in range(5)} | {
        "b": ("BF16", np.ones(4, "<u2"))
    }
    return write_safetensors(path, tensors, metadata={"format": "pt"}).read_bytes()


@pytest.mark.parametrize("region", ["length", "header", "whole"])
def test_no_mutant_of_a_safetensors_file_crashes_hangs_or_fails_otherwise(
    tmp_path: Path, weights: bytes, region: str
) -> None:
    path = tmp_path / "mutant.safetensors"
    n_header = 8 + int.from_bytes(weights[:8], "little")
    reach = {"length": 24, "header": n_header, "whole": len(weights)}[region]
    contents = mutants(weights, 600, seed=reach, reach=reach)
    n_opened, n_refused = tally(path, contents, lambda: read_safetensors(path), "mutant.safetensors")
    assert n_refused > 100
    assert n_opened + n_refused == 600


def test_no_header_of_other_values_crashes_hangs_or_fails_otherwise(tmp_path: Path, weights: bytes) -> None:
    path = tmp_path / "mutant.safetensors"
    n_header = 8 + int.from_bytes(weights[:8], "little")
    contents = (
        safetensors_bytes(header, weights[n_header:])
        for header in json_mutants(json.loads(weights[8:n_header]), 700, seed=1)
    )
    n_opened, n_refused = tally(path, contents, lambda: read_safetensors(path), "mutant.safetensors")
    assert n_opened + n_refused == 700
    assert n_opened


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Directories by kind: one whose config says much, one in shards."""
    root = tmp_path_factory.mktemp("directories")
    rope = {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 64,
        "beta_fast": 16,
        "truncate": False,
    }
    config = {"rope_scaling": rope, "head_dim": 16, "attention_bias": True, "num_hidden_layers": 1}
    return {
        "plain": write_directory(root / "plain", config=config, tokenizer=False),
        "sharded": write_directory(
            root / "sharded", config={"num_hidden_layers": 1}, shards=3, tokenizer=False
        ),
        "spm": write_directory(root / "spm", config={"num_hidden_layers": 1}, tokenizer="spm"),
        "bpe": write_directory(root / "bpe", config={"num_hidden_layers": 1}, tokenizer="bpe"),
    }


@pytest.mark.parametrize(
    ("kind", "file"),
    [("plain", "config.json"), ("sharded", "model.safetensors.index.json"), ("spm", "generation_config.json"),
     ("spm", "tokenizer.json"), ("bpe", "tokenizer.json"), ("spm", "tokenizer_config.json")],
)  # fmt: skip
@N_EACH
def test_no_mutant_of_a_directory_crashes_hangs_or_fails_otherwise(
    tmp_path: Path, directories: dict[str, Path], kind: str, file: str, n: int
) -> None:
    model = shutil.copytree(directories[kind], tmp_path / "model", copy_function=os.link)
    original = (model / file).read_bytes()
    (model / file).unlink()
    contents = [*json_mutants(json.loads(original), n * 3 // 4, seed=len(original))]
    contents += mutants(original, n - len(contents), seed=7, reach=len(original))
    n_opened, n_refused = tally(model / file, contents, lambda: open_everything(model), "")
    assert n_opened + n_refused == n
    assert n_opened
