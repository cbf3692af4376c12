"""Matrices whose rows do not follow each other in the file: a model computes the same bits with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from llorch.formats.gguf.file import GGUFFile
from llorch.model.config import ModelConfig
from llorch.model.llama import Llama
from llorch.model.weights import Weights
from llorch.quant.tensor import Placement, Tensor, dequantize
from llorch.quant.types import F32
from tests.support.naive import bits
from tests.support.small_models import Run

ORDERS = np.random.default_rng(5)


def scattered(tensor: Tensor, *, is_transposed: bool) -> Tensor:
    """The same matrix, its rows shuffled among those of a larger one, at an odd address."""
    n_out, n_in = tensor.shape
    order = ORDERS.permutation(n_out + 3)[:n_out].astype(np.int32)
    rows = tensor.data.reshape(n_out, n_in, -1)
    stored = np.zeros((n_out + 3, n_in, rows.shape[2]), np.uint8)
    stored[order] = rows
    if is_transposed:
        stored = stored.transpose(1, 0, 2)
    memory = np.zeros(stored.size + 1, np.uint8)
    memory[1:] = stored.reshape(-1)
    return Tensor(
        tensor.name, tensor.type, tensor.shape, memory[1:], Placement(order, n_out + 3, is_transposed)
    )


@pytest.mark.parametrize("is_transposed", [False, True], ids=["in_another_order", "transposed"])
@pytest.mark.parametrize("precision", ["f32", "f16"])
@pytest.mark.parametrize("residence", ["mapped", "packed"])
def test_logits_have_the_bits_of_rows_that_follow_each_other(
    models_dir: Path, residence: str, precision: str, is_transposed: bool
) -> None:
    with GGUFFile(models_dir / f"tinystories-656k-{precision}.gguf") as file:
        config = ModelConfig.from_metadata(file.metadata)
        moved = {
            name: scattered(tensor, is_transposed=is_transposed) if len(tensor.shape) == 2 else tensor
            for name, tensor in file.tensors.items()
        }
        logits = [_logits(config, tensors, residence) for tensors in (dict(file.tensors), moved)]
    np.testing.assert_array_equal(bits(logits[0]), bits(logits[1]))


def _logits(config: ModelConfig, tensors: dict[str, Tensor], residence: str) -> np.ndarray:
    llama = Llama(config, Weights.from_tensors(config, tensors), n_threads=2, residence=residence)
    try:
        return Run(llama).prefill([1, 5, 9, 300]).copy()
    finally:
        llama.close()


def test_the_values_of_a_scattered_matrix_are_those_of_its_rows() -> None:
    values = np.arange(12, dtype=np.float32).reshape(4, 3)
    plain = Tensor("w", F32, (4, 3), values.reshape(-1).view(np.uint8))
    for is_transposed in (False, True):
        moved = scattered(plain, is_transposed=is_transposed)
        np.testing.assert_array_equal(dequantize(moved), values)
        np.testing.assert_array_equal(moved.rows(1, 3).view(np.float32), values[1:3].ravel())
        assert moved.n_bytes == plain.n_bytes
