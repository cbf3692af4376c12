from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from llorch.errors import InputError
from llorch.quality.chunks import Chunks
from llorch.quality.logits_file import BaseFile, Layout, encode_rows, writing_base

N_VOCAB = 33
CHUNKS = Chunks(np.arange(24, dtype=np.int32).reshape(3, 8), None)


def write(path: Path) -> NDArray[np.float64]:
    """A base file of random predictions; returns their log-probabilities in float64."""
    logits = np.random.default_rng(2).normal(0, 5, (9, N_VOCAB)).astype(np.float32)
    with writing_base(path, CHUNKS, N_VOCAB) as writer:
        for first in (6, 0, 3):
            writer.take(first, logits[first : first + 3], np.array([1, 2, 3], np.int32))
    wide = logits.astype(np.float64)
    return np.asarray(wide - np.log(np.exp(wide).sum(axis=1, keepdims=True)))


def test_a_file_has_the_bytes_that_llama_perplexity_writes(tmp_path: Path) -> None:
    write(tmp_path / "base")
    data = (tmp_path / "base").read_bytes()
    row = 8 + 2 * 34  # an odd vocabulary is padded
    assert data[:20] == b"_logits_" + struct.pack("<3i", 8, N_VOCAB, 3)
    assert data[20 : 20 + 96] == np.arange(24, dtype="<i4").tobytes()
    assert len(data) == 20 + 96 + 9 * row == Layout(8, N_VOCAB, 3).n_bytes


def test_log_probabilities_come_back_within_half_a_step_and_no_lower_than_16_below_the_largest(
    tmp_path: Path,
) -> None:
    wanted = write(tmp_path / "base")
    with BaseFile.open(tmp_path / "base", N_VOCAB) as base:
        assert base.token_ids.tolist() == CHUNKS.token_ids.tolist()
        scales, minima, values = base.rows(0, 9)
    found = values * scales[:, None].astype(np.float64) + minima[:, None]
    floor = wanted.max(axis=1, keepdims=True) - 16
    assert np.abs(found - np.maximum(wanted, floor)).max() < 16 / 65535


def test_equal_logits_have_scale_0_and_are_all_the_minimum() -> None:
    rows, _ = encode_rows(np.full((1, 4), 2.5, np.float32))
    scale, minimum = rows[0, :4].view(np.float32)
    assert scale == 0
    assert minimum == pytest.approx(-np.log(4))
    assert not rows[0, 4:].any()


def test_a_failure_leaves_nothing_and_the_old_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "base"
    path.write_bytes(b"old")

    def fail() -> None:
        with writing_base(path, CHUNKS, N_VOCAB):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_larger_than_the_disk_is_refused_before_anything_is_computed(tmp_path: Path) -> None:
    huge = Chunks(np.zeros((2, 1 << 20), np.int32), None)
    with (
        pytest.raises(InputError, match="bytes cannot be written there"),
        writing_base(tmp_path / "base", huge, 1 << 29),
    ):
        pytest.fail("the body ran")
    assert list(tmp_path.iterdir()) == []


HEADER = b"_logits_" + struct.pack("<3i", 8, N_VOCAB, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: b"", "does not begin with _logits_"),
        (lambda data: b"GGUF" + data[4:], "does not begin with _logits_"),
        (lambda data: data[:15], "does not begin with _logits_"),
        (lambda data: data[:-1], "3 chunks of 8 tokens take"),
        (lambda data: data + b"x", "3 chunks of 8 tokens take"),
        (lambda data: b"_logits_" + struct.pack("<3i", -8, N_VOCAB, 3) + data[20:], "is damaged"),
        (lambda data: b"_logits_" + struct.pack("<3i", 8, N_VOCAB, 0) + data[20:], "is damaged"),
        (lambda data: b"_logits_" + struct.pack("<3i", 2**31 - 1, N_VOCAB, 2**31 - 1) + data[20:], "take"),
        (lambda data: b"_logits_" + struct.pack("<3i", 8, 34, 3) + data[20:], "vocabulary of 34; this model's has 33"),
        (lambda data: HEADER + struct.pack("<i", N_VOCAB) + data[24:], "token ids outside"),
        (lambda data: HEADER + struct.pack("<i", -1) + data[24:], "token ids outside"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_whole_or_not_of_this_vocabulary_is_refused_by_name(
    change: Callable[[bytes], bytes], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "base"
    write(path)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(InputError, match=message) as error:
        BaseFile.open(path, N_VOCAB)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("leading", [(np.nan, -1.0), (1.0, np.inf), (-1.0, -1.0), (1.0, 3.0)])
def test_rows_that_hold_no_log_probabilities_are_refused(
    leading: tuple[float, float], tmp_path: Path
) -> None:
    path = tmp_path / "base"
    write(path)
    data = bytearray(path.read_bytes())
    at = Layout(8, N_VOCAB, 3).offset(4)
    data[at : at + 8] = struct.pack("<2f", *leading)
    path.write_bytes(data)
    with BaseFile.open(path, N_VOCAB) as base:
        base.rows(0, 4)
        with pytest.raises(InputError, match="is damaged"):
            base.rows(3, 3)
