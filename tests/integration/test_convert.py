"""`llorch convert` as a user runs it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest

from llorch.cli.main import main
from llorch.formats.gguf.file import GGUFFile
from tests.support.commands import (
    assert_a_full_disk_leaves_nothing,
    refused_here,
    start,
    wait_for,
    writes_in,
)
from tests.support.hf_directories import write_directory
from tests.support.logits import token_ids_of
from tests.support.small_models import Run, open_model

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return write_directory(tmp_path / "in")


def convert(*words: object) -> None:
    assert main(["convert", *map(str, words)]) == 0


def refused(capsys: Captured, *words: object) -> str:
    return refused_here(capsys, "convert", *words)


def test_one_json_document_says_what_was_written(directory: Path, tmp_path: Path, capsys: Captured) -> None:
    out = tmp_path / "out.gguf"
    convert(directory, out, "--type", "q8_0", "--json", "-t", "2")
    document, log = capsys.readouterr()
    assert json.loads(document) == {"path": str(out), "type": "Q8_0", "bytes": out.stat().st_size}
    (said,) = log.splitlines()
    assert said.startswith(f"{directory}: ")
    assert "; as Q8_0: " in said, "the size is said before the work begins"


def test_a_line_says_type_size_and_speed(directory: Path, tmp_path: Path, capsys: Captured) -> None:
    convert(directory, tmp_path / "out.gguf")
    said = capsys.readouterr().out
    assert "out.gguf: F32, " in said
    assert said.rstrip().endswith("MB/s)")


def test_pure_gives_every_matrix_the_same_type(directory: Path, tmp_path: Path) -> None:
    convert(directory, tmp_path / "out.gguf", "--type", "Q4_0", "--pure")
    with GGUFFile(tmp_path / "out.gguf") as written:
        kinds = {info.type_name for info in written.tensor_infos.values() if len(info.shape) > 1}
    assert kinds == {"Q4_0"}


def test_bad_usage_is_one_line(directory: Path, tmp_path: Path, tiny_model: Path, capsys: Captured) -> None:
    out = tmp_path / "out.gguf"
    (tmp_path / "empty").mkdir()
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "pytorch_model.bin").write_bytes(b"PK")
    before = sorted(os.listdir(tmp_path))
    assert "choose one of F32" in refused(capsys, directory, out, "--type", "IQ1_S")
    assert "is no regular file" in refused(capsys, directory, tmp_path)
    assert "lies in the directory of the model" in refused(capsys, directory, directory / "model.safetensors")
    assert "there is no folder" in refused(capsys, directory, out / "x")
    assert "there is no model" in refused(capsys, tmp_path / "missing", out)
    assert "config.json" in refused(capsys, tmp_path / "empty", out)
    assert "is a pickle" in refused(capsys, tmp_path / "torch", out)
    assert "`llorch quantize`" in refused(capsys, tiny_model, out)
    assert "IN says which model" in refused(capsys, directory, out, "-m", "demo")
    assert sorted(os.listdir(tmp_path)) == before


def test_a_directory_without_a_tokenizer_is_converted_and_that_is_said(
    tmp_path: Path, capsys: Captured
) -> None:
    convert(write_directory(tmp_path / "in", tokenizer=False), tmp_path / "out.gguf")
    assert "has no tokenizer, nor will the file" in capsys.readouterr().err


def test_a_signal_leaves_nothing_and_the_old_file(tmp_path: Path) -> None:
    sizes = {"hidden_size": 256, "intermediate_size": 4096, "num_hidden_layers": 4}
    large = write_directory(tmp_path / "in", config=sizes, dtype="BF16")
    folder = tmp_path / "out"
    folder.mkdir()
    out = folder / "out.gguf"
    out.write_bytes(b"old")
    with start("convert", str(large), str(out), "--type", "Q5_K", "-t", "1") as process:
        wait_for(lambda: writes_in(process.pid, folder))
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
    assert os.listdir(folder) == ["out.gguf"]
    assert out.read_bytes() == b"old"


@pytest.mark.slow
def test_a_full_disk_leaves_nothing(directory: Path, tmp_path: Path) -> None:
    assert_a_full_disk_leaves_nothing(tmp_path / "disk", "convert", str(directory))


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_the_file_computes_the_same_bits_as_the_directory(tmp_path: Path, dtype: str) -> None:
    source = write_directory(tmp_path / "in", dtype=dtype, config={"attention_bias": True})
    convert(source, tmp_path / "out.gguf")
    ids = token_ids_of(12)
    logits = []
    for path in (source, tmp_path / "out.gguf"):
        with open_model(path) as model:
            logits.append(Run(model.llama).prefill(ids))
    np.testing.assert_array_equal(logits[0], logits[1])


def test_a_trained_model_goes_on_as_before(
    model_path: Callable[[str], Path], tmp_path: Path, capsys: Captured
) -> None:
    """The file, the directory, and the file that llama.cpp's converter once made of it say the same."""
    out = tmp_path / "out.gguf"
    convert(model_path("tinystories-656k"), out)
    texts = []
    for path in (out, model_path("tinystories-656k"), model_path("tinystories-656k-f32.gguf")):
        capsys.readouterr()
        words = ["generate", "Once upon a time", "-m", str(path), "-n", "40", "--temperature", "0"]
        assert main(words) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] == texts[2]
    assert len(texts[0]) > 100


@pytest.mark.parametrize("wanted", ["F32", "F16", "BF16", "Q8_0", "Q4_K_M"])
def test_the_gguf_package_reads_every_file(directory: Path, tmp_path: Path, wanted: str) -> None:
    convert(directory, tmp_path / "out.gguf", "--type", wanted)
    read = gguf.GGUFReader(tmp_path / "out.gguf")
    with GGUFFile(tmp_path / "out.gguf") as written:
        assert {t.name: t.tensor_type.name for t in read.tensors} == {
            name: info.type_name for name, info in written.tensor_infos.items()
        }
        for tensor in read.tensors:
            data = np.ascontiguousarray(tensor.data).view(np.uint8).ravel()
            np.testing.assert_array_equal(data, written.tensors[tensor.name].data)
        tokens = read.fields["tokenizer.ggml.tokens"].contents()
    assert len(tokens) == read.fields["llama.vocab_size"].contents()
