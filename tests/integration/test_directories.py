"""A Hugging Face directory computes the same bits as the GGUF file with the same weights, wherever they live."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from llorch.cli.main import main
from llorch.model.kv_cache import KVCache
from tests.support.directory_twins import write_twins
from tests.support.hf_directories import write_directory
from tests.support.logits import token_ids_of
from tests.support.safetensors_writer import safetensors_bytes
from tests.support.small_models import Run, open_model

RESIDENCES = ("packed", "mapped")
TOKENS = token_ids_of(40)


def logits(path: Path, residence: str, tokens: list[int] = TOKENS) -> NDArray[np.int32]:
    """The bits of the logits of all rows."""
    with open_model(path, residence=residence) as model:
        return Run(model.llama, n_sequences=1).prefill(tokens).view(np.int32)


@pytest.mark.parametrize("residence", RESIDENCES)
@pytest.mark.parametrize(
    "options",
    [
        {"type": "F32"},
        {"type": "BF16"},
        {"type": "F16"},
        {"type": "BF16", "types": {"attn_k.weight": "F32", "ffn_up.weight": "F16", "output.weight": "F16"}},
        {"type": "BF16", "tied": True},
        {"type": "F32", "biases": True},
        {"type": "BF16", "biases": True, "shards": 3},
    ],
    ids=lambda options: "-".join(str(value) for value in options.values()),
)
def test_logits_are_those_of_the_gguf_bit_for_bit(
    tmp_path: Path, residence: str, options: dict[str, Any]
) -> None:
    file, directory = write_twins(tmp_path, **options)
    assert np.array_equal(logits(directory, residence), logits(file, residence))


@pytest.mark.parametrize("remainder", [1, 2, 7])
@pytest.mark.parametrize("dtype", ["F32", "BF16", "F16"])
def test_weights_may_lie_at_any_address(tmp_path: Path, dtype: str, remainder: int) -> None:
    file, directory = write_twins(tmp_path, type=dtype)
    path = directory / "model.safetensors"
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + length].rstrip()
    header += b" " * ((remainder - len(header)) % 8)
    path.write_bytes(safetensors_bytes(header, content[8 + length :], alignment=1))
    for residence in RESIDENCES:
        assert np.array_equal(logits(directory, residence), logits(file, residence))


@pytest.mark.parametrize("residence", RESIDENCES)
def test_the_real_directory_computes_what_its_gguf_computes(
    model_path: Callable[[str], Path], residence: str
) -> None:
    file = model_path("tinystories-656k-f32.gguf")
    tokens = token_ids_of(60, 2048)
    assert np.array_equal(
        logits(file.parent / "tinystories-656k", residence, tokens), logits(file, residence, tokens)
    )


def test_the_real_directory_tells_the_story_of_its_gguf(
    model_path: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    file = model_path("tinystories-656k-f32.gguf")
    stories = []
    for path in (file, file.parent / "tinystories-656k"):
        assert main(["generate", "Once upon a time", "--temperature", "0", "-n", "100", "-m", str(path)]) == 0
        stories.append(capsys.readouterr().out)
    assert stories[0] == stories[1]
    assert len(stories[0]) > 100


def test_positions_beyond_the_first_are_turned_by_the_config_of_the_directory(tmp_path: Path) -> None:
    """Other frequencies give other logits: that those above agree is not for lack of turning."""
    _, directory = write_twins(tmp_path, config={"rope_theta": 500.0})
    (other := tmp_path / "other").mkdir()
    _, usual = write_twins(other)
    assert not np.array_equal(logits(directory, "mapped"), logits(usual, "mapped"))
    assert KVCache.blocks_for(len(TOKENS)) == 2


def test_inspect_lists_a_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_directory(tmp_path / "tiny", dtype={"": "BF16", "norm": "F32"})
    assert main(["inspect", "-m", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["problem"] is None
    assert found["metadata"]["general.name"] == "tiny"
    types = {tensor["name"]: tensor["type"] for tensor in found["tensors"]}
    assert (types["blk.0.attn_q.weight"], types["blk.0.attn_norm.weight"]) == ("BF16", "F32")


def test_no_trace_is_written_over_a_file_of_the_directory(tmp_path: Path) -> None:
    _, directory = write_twins(tmp_path)
    path = directory / "model.safetensors"
    before = path.read_bytes()
    assert main(["trace", "Once", "-m", str(directory), "-o", str(path)]) == 2
    assert path.read_bytes() == before


def test_a_loading_bundle_of_a_directory_is_refused_with_what_proves_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, directory = write_twins(tmp_path)
    assert main(["inspect", "-m", str(directory), "--proof", "--proof-dir", str(tmp_path)]) == 2
    assert "a loading bundle is about the header of a GGUF file" in capsys.readouterr().err
