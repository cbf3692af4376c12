"""Synthetic files are complete models: other readers open them, and llorch computes with them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import gguf
import numpy as np
import pytest

from llorch.bench.tests import BenchTest, run_bench
from llorch.formats.source import open_source
from llorch.open_model import open_model
from llorch.quant.tensor import dequantize
from tests.support.gguf_bytes import GGUFBytes
from tests.support.tiny_models import spm_vocabulary, write_tiny_llama
from tools.performance import make_synthetic
from tools.performance.gguf_keys import GGUFKeysError, read_keys
from tools.performance.make_synthetic import SyntheticError, main
from tools.performance.synthetic_shapes import SHAPES, Shape

MICRO = Shape("nothing", n_embd=64, n_layer=2, n_head=4, n_head_kv=2, n_ff=96, n_vocab=400, n_ctx_train=64)
N_REAL = 320


class Usage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.fixture
def vocabulary(tmp_path: Path) -> Path:
    path = tmp_path / "vocabulary.gguf"
    write_tiny_llama(path, n_vocab=N_REAL)
    return path


def make(shape: Shape, vocabulary: Path, out: Path, seed: int = 0) -> Path:
    make_synthetic.make_synthetic(shape, vocabulary, out, name="micro", seed=seed)
    return out


@pytest.mark.parametrize("tied", [False, True])
def test_a_micro_shape_loads_and_computes_finite_logits(tmp_path: Path, vocabulary: Path, tied: bool) -> None:
    out = make(dataclasses.replace(MICRO, tied=tied), vocabulary, tmp_path / "micro.gguf")
    (result,) = run_bench(out, [BenchTest("pp", 8)], n_threads=1, repetitions=1)
    assert result.tokens_per_s > 0
    loaded = open_model(out, n_threads=1)
    try:
        assert loaded.name == "micro"
        assert loaded.config.n_vocab == 400
        assert loaded.llama.weights.is_tied == tied
        assert loaded.tokenizer.decode(loaded.tokenizer.encode("Hello world")) == "Hello world"
    finally:
        loaded.close()


def test_the_gguf_package_reads_what_was_written(tmp_path: Path, vocabulary: Path) -> None:
    reader = gguf.GGUFReader(make(MICRO, vocabulary, tmp_path / "micro.gguf"))
    source = gguf.GGUFReader(vocabulary)
    assert {t.name: tuple(reversed(t.shape.tolist())) for t in reader.tensors} == dict(MICRO.tensors())
    for tensor in reader.tensors:
        values = gguf.dequantize(tensor.data, tensor.tensor_type)
        assert np.isfinite(values).all()
        if len(tensor.shape) > 1:
            assert tensor.tensor_type == gguf.GGMLQuantizationType.Q8_0
            assert 0.018 < values.std() < 0.022
            assert len(np.unique(values, axis=0)) == len(values)
        else:
            assert tensor.tensor_type == gguf.GGMLQuantizationType.F32
            assert abs(values.mean() - 1) < 0.1
    for name, field in source.fields.items():
        if name.startswith("tokenizer.") and name not in FILLED:
            assert reader.fields[name].contents() == field.contents()
            assert reader.fields[name].types == field.types


FILLED = {"tokenizer.ggml.tokens", "tokenizer.ggml.scores", "tokenizer.ggml.token_type"}


def test_a_small_vocabulary_is_filled_up_with_unused_tokens(tmp_path: Path, vocabulary: Path) -> None:
    fields = gguf.GGUFReader(make(MICRO, vocabulary, tmp_path / "micro.gguf")).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    real, scores, types = spm_vocabulary(N_REAL)
    assert [token.encode() for token in tokens[:N_REAL]] == real
    assert len(set(tokens)) == len(tokens) == MICRO.n_vocab
    assert fields["tokenizer.ggml.scores"].contents()[:N_REAL] == pytest.approx(scores)
    assert fields["tokenizer.ggml.token_type"].contents() == types + [5] * (MICRO.n_vocab - N_REAL)


def test_a_large_vocabulary_makes_the_model_larger(tmp_path: Path, vocabulary: Path) -> None:
    out = make(dataclasses.replace(MICRO, n_vocab=10), vocabulary, tmp_path / "micro.gguf")
    source = open_source(out)
    assert source.metadata["llama.vocab_size"] == N_REAL
    assert source.tensors["output.weight"].shape == (N_REAL, 64)
    source.close()


def test_the_seed_decides_the_weights(tmp_path: Path, vocabulary: Path) -> None:
    first, same, other = (
        make(MICRO, vocabulary, tmp_path / f"{name}.gguf", seed).read_bytes()
        for name, seed in (("first", 1), ("same", 1), ("other", 2))
    )
    assert first == same != other
    assert len(first) == len(other)


def test_rope_frequencies_of_llama_3_are_those_of_its_published_files(
    tmp_path: Path, vocabulary: Path
) -> None:
    scaling = SHAPES["llama-3.2-1B"].rope_scaling
    assert scaling is not None
    divisors = scaling.divisors(64, 500000.0)
    # The fast components turn as before, the slow ones 32 times slower; llama.cpp's converter gives these between.
    assert divisors[:15] == [1.0] * 15
    assert divisors[18:] == [32.0] * 14
    assert 1 < divisors[15] < divisors[16] < divisors[17] < 32
    shape = dataclasses.replace(MICRO, rope_scaling=scaling)
    source = open_source(make(shape, vocabulary, tmp_path / "micro.gguf"))
    expected = np.array(scaling.divisors(16, 10000.0), np.float32)
    assert np.array_equal(dequantize(source.tensors["rope_freqs.weight"]), expected)
    source.close()


@pytest.mark.parametrize(
    ("name", "n_parameters"),
    [
        ("24M", 24_407_712),
        ("134M", 134_515_008),
        ("1.1B", 1_100_048_384),
        ("7B", 6_738_415_616),
        ("llama-3.2-1B", 1_235_814_400 + 32),
    ],
)
def test_named_shapes_are_as_large_as_the_published_models(name: str, n_parameters: int) -> None:
    assert SHAPES[name].n_parameters == n_parameters
    assert len(list(SHAPES["7B"].tensors())) == 291


def test_the_small_shape_is_written_with_the_real_vocabulary(
    model_path: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vocabulary, out = model_path("ggml-vocab-llama-spm.gguf"), tmp_path / "24M.gguf"
    assert main(["24M", "--out", str(out), "--vocab", str(vocabulary)]) == 0
    assert "24.4 M random weights" in capsys.readouterr().out
    written, real = read_keys(out), read_keys(vocabulary)
    copied = {key: value for key, value in written.items() if key.startswith("tokenizer.")}
    assert copied == {key: value for key, value in real.items() if key.startswith("tokenizer.")}


def test_a_full_disk_is_seen_before_anything_is_written(
    tmp_path: Path, vocabulary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage(1 << 40, 1 << 40, 1000))
    with pytest.raises(SyntheticError, match="free"):
        make(MICRO, vocabulary, tmp_path / "micro.gguf")
    assert [path.name for path in tmp_path.iterdir()] == [vocabulary.name]


def test_nothing_half_written_is_left_behind(
    tmp_path: Path, vocabulary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "micro.gguf"
    out.write_bytes(b"precious")
    monkeypatch.setattr(make_synthetic, "_pieces", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        make(MICRO, vocabulary, out)
    assert out.read_bytes() == b"precious"
    assert {path.name for path in tmp_path.iterdir()} == {vocabulary.name, out.name}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no vocabulary at"),
        (b"", "is empty"),
        (b"GGUF", "malformed"),
        (b"GGML" + bytes(40), "not a GGUF file"),
        (GGUFBytes().header(), "holds no vocabulary"),
    ],
)
def test_an_unusable_vocabulary_is_one_line_and_exit_code_2(
    tmp_path: Path, content: bytes | None, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "vocabulary.gguf"
    if content is not None:
        path.write_bytes(content)
    assert main(["24M", "--out", str(tmp_path / "out.gguf"), "--vocab", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1


def test_every_cut_of_a_vocabulary_file_is_refused(tmp_path: Path, vocabulary: Path) -> None:
    whole = vocabulary.read_bytes()
    keys = read_keys(vocabulary)
    end = whole.index(keys["tokenizer.ggml.token_type"]) + 100
    cut = tmp_path / "cut.gguf"
    for length in range(1, end, 997):
        cut.write_bytes(whole[:length])
        with pytest.raises(GGUFKeysError, match=r"cut\.gguf"):
            read_keys(cut)
