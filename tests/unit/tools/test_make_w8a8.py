"""Directories quantised to int8 hold what compressed-tensors would have written, and run."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from llorch.formats.safetensors.file import SafetensorsFile
from llorch.formats.source import open_source
from llorch.quant.tensor import dequantize
from tests.support.hf_directories import sha256_of_weights, write_directory
from tools import make_w8a8


def test_weights_are_the_nearest_integers_times_a_scale_a_row(tmp_path: Path) -> None:
    source = write_directory(tmp_path / "f32", shards=2, seed=2)
    made = make_w8a8.make_w8a8(source, tmp_path / "w8a8")
    before, after = open_source(source).tensors, open_source(made).tensors
    assert set(before) == set(after)
    for name, tensor in after.items():
        is_quantized = name.startswith("blk.") and "norm" not in name
        assert tensor.type.name == ("I8" if is_quantized else "F32")
        wanted, got = dequantize(before[name]), dequantize(tensor)
        if not is_quantized:
            np.testing.assert_array_equal(got, wanted)
            continue
        step = np.abs(wanted).max(axis=1, keepdims=True) / 127.5
        assert (np.abs(got - wanted) <= 0.5001 * step).all()


def test_files_are_named_and_typed_as_compressed_tensors_does(tmp_path: Path) -> None:
    source = write_directory(tmp_path / "bf16", dtype="BF16")
    made = make_w8a8.make_w8a8(source, tmp_path / "w8a8")
    infos = SafetensorsFile(made / "model.safetensors").infos
    name = "model.layers.1.self_attn.k_proj.weight"
    assert (infos[name].dtype, infos[name].shape) == ("I8", (32, 64))
    assert (infos[f"{name}_scale"].dtype, infos[f"{name}_scale"].shape) == ("BF16", (32, 1))
    assert infos["lm_head.weight"].dtype == "BF16"
    config = json.loads((made / "config.json").read_text())
    assert config["quantization_config"]["ignore"] == ["lm_head"]
    assert (made / "tokenizer.json").read_bytes() == (source / "tokenizer.json").read_bytes()


def test_the_tiny_directory_is_made_from_its_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seed in (("a", "3"), ("b", "3"), ("c", "4")):
        monkeypatch.setattr(sys, "argv", ["make_w8a8", "tiny", str(tmp_path / name), "--seed", seed])
        assert make_w8a8.main() == 0
    hashes = [sha256_of_weights(tmp_path / name) for name in "abc"]
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_row_of_zeros_stays_one() -> None:
    integers, scales = make_w8a8.quantized(np.zeros((2, 32), np.float32), "F32")
    assert not integers.any()
    assert (scales > 0).all()
