"""The layout table and the tensor view on it."""

from __future__ import annotations

import numpy as np
import pytest

from llorch.quant.tensor import Tensor
from llorch.quant.types import GGML_NAMES, Q8_0, SUPPORTED


def test_supported_types_are_found_by_their_ggml_number() -> None:
    for number, quant_type in SUPPORTED.items():
        assert quant_type.ggml_id == number
        assert GGML_NAMES[number] == quant_type.name


def test_a_q8_0_block_is_a_float16_and_32_int8() -> None:
    assert (Q8_0.block_size, Q8_0.block_bytes) == (32, 2 + 32)
    assert Q8_0.row_bytes(96) == 3 * 34


def test_rows_must_be_whole_blocks() -> None:
    with pytest.raises(ValueError, match="33 elements are not whole blocks of 32"):
        Q8_0.row_bytes(33)


def test_a_tensor_knows_its_sizes_and_its_address() -> None:
    data = np.zeros(4 * 68, np.uint8)
    tensor = Tensor("w", Q8_0, (4, 64), data)
    assert (tensor.n_bytes, tensor.n_elements, tensor.row_bytes) == (272, 256, 68)
    assert tensor.address == data.ctypes.data
