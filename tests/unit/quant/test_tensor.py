"""Tensors whose rows lie elsewhere than row after row are the same tensors."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from llorch.quant import tensor as tensors
from llorch.quant.tensor import Placement, Tensor, dequantize, first_bad_scale
from llorch.quant.types import BF16, I8, SUPPORTED

ROWS = np.random.default_rng(0).integers(0, 255, (10, 6), np.uint8)
ORDER = np.random.default_rng(1).permutation(10).astype(np.int32)


def sha256(tensor: Tensor) -> str:
    digest = hashlib.sha256()
    tensor.hash_into(digest)
    return digest.hexdigest()


def test_the_hash_is_of_the_rows_in_their_order_wherever_they_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensors, "_ROWS_HASHED_AT_ONCE", 4)
    stored = np.empty_like(ROWS)
    stored[ORDER] = ROWS
    plain = Tensor("a", BF16, (10, 3), ROWS.reshape(-1))
    moved = Tensor("a", BF16, (10, 3), stored.reshape(-1), Placement(ORDER, 10))
    turned = Tensor(
        "a", BF16, (10, 3), stored.view("<u2").T.copy().view(np.uint8).reshape(-1), Placement(ORDER, 10, True)
    )
    assert sha256(plain) == hashlib.sha256(ROWS.tobytes()).hexdigest()
    assert sha256(moved) == sha256(turned) == sha256(plain)
    assert sha256(Tensor("a", BF16, (10, 3), stored.reshape(-1))) != sha256(plain)


def int8(scales: list[float]) -> Tensor:
    return Tensor("a", I8, (10, 6), ROWS.reshape(-1), row_scales=np.array(scales, np.float32))


def test_the_scales_of_rows_are_part_of_the_hash() -> None:
    assert sha256(int8([1.0] * 10)) != sha256(int8([1.0] * 9 + [2.0]))


def test_int8_rows_are_multiplied_with_their_scales() -> None:
    scales = [2.0**-i for i in range(10)]
    expected = ROWS.view(np.int8) * np.array(scales, np.float32)[:, None]
    np.testing.assert_array_equal(dequantize(int8(scales)), expected)
    assert dequantize(int8(scales)).dtype == np.float32


def test_a_scale_of_a_row_that_is_no_number_is_found() -> None:
    assert first_bad_scale(int8([1.0] * 10)) is None
    assert first_bad_scale(int8([1.0] * 7 + [np.inf, 1.0, np.nan])) == 7


def test_a_gguf_file_with_int8_tensors_stays_refused() -> None:
    assert I8.ggml_id == 24
    assert 24 not in SUPPORTED
