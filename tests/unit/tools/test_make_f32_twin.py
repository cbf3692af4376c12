"""The F32 twin holds the same weights and the same metadata."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest

from tools.reference.make_f32_twin import TwinError, main, make_f32_twin, weight_types

ModelPath = Callable[[str], Path]


def test_weights_are_the_expanded_ones_and_metadata_is_kept(model_path: ModelPath, tmp_path: Path) -> None:
    source_path = model_path("stories260K-q8_0.gguf")
    twin = make_f32_twin(source_path, tmp_path / "twin.gguf")
    source, written = gguf.GGUFReader(source_path), gguf.GGUFReader(tmp_path / "twin.gguf")
    assert set(weight_types(tmp_path / "twin.gguf")) == {"F32"}
    assert [t.name for t in written.tensors] == [t.name for t in source.tensors]
    digest = hashlib.sha256()
    for ours, theirs in sorted(zip(written.tensors, source.tensors, strict=True), key=lambda p: p[0].name):
        expected = gguf.dequantize(theirs.data, theirs.tensor_type)
        assert np.array_equal(ours.data, expected.reshape(ours.data.shape))
        assert list(ours.shape) == list(theirs.shape)
        digest.update(ours.name.encode() + np.ascontiguousarray(ours.data).tobytes())
    assert twin.weights_sha256 == digest.hexdigest()
    for name, field in source.fields.items():
        if not name.startswith("GGUF."):
            expected = 0 if name == "general.file_type" else field.contents()
            assert written.fields[name].contents() == expected
            assert written.fields[name].types == field.types


def test_the_twin_of_an_f32_file_is_that_file(model_path: ModelPath, tmp_path: Path) -> None:
    source = model_path("stories260K-f32.gguf")
    twin = make_f32_twin(source, tmp_path / "twin.gguf")
    assert (tmp_path / "twin.gguf").read_bytes() == source.read_bytes()
    assert twin.sha256 == hashlib.sha256(source.read_bytes()).hexdigest()


def test_nothing_half_written_is_left_behind(tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"GGUF")
    with pytest.raises(TwinError, match=r"bad\.gguf"):
        make_f32_twin(tmp_path / "bad.gguf", tmp_path / "twin.gguf")
    assert [path.name for path in tmp_path.iterdir()] == ["bad.gguf"]


def test_a_bad_file_is_one_line_and_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "absent.gguf"), str(tmp_path / "twin.gguf")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
