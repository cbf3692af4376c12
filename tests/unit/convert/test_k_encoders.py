"""The encoders give the bytes of llama.cpp's quantiser, hard cases included."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from llorch.convert.k_encoders import K_ENCODERS
from llorch.convert.quantize import encoder_of
from llorch.errors import LlorchError
from llorch.quant import types
from tests.support.hard_values import hard_cases, spread

LLAMA_CPP = {
    "Q4_0": "dece649bfd3460b5",
    "Q4_1": "98cbff98125ae0be",
    "Q5_0": "8d7114d2e121d44c",
    "Q5_1": "284837dc3298d91e",
    "Q8_0": "ef58931ad58713d8",
    "F16": "c7a97c33a3c96400",
    "BF16": "f8d76e8ae417b8ba",
    "Q3_K": "57b559dcbc77c9bf",
    "Q4_K": "0f40a10e7d556a21",
    "Q5_K": "06bbf120202ddceb",
    "Q6_K": "49eca7c1c0bbc9b4",
}
"""Beginnings of the SHA-256 of what `ggml_quantize_chunk` of llama.cpp 0c1e570 makes of all hard cases."""


@pytest.mark.parametrize("name", LLAMA_CPP)
def test_hard_cases_give_the_bytes_of_llama_cpp(name: str) -> None:
    quant_type = getattr(types, name)
    digest = hashlib.sha256()
    for values in hard_cases().values():
        digest.update(encoder_of(quant_type)(values).tobytes())
    assert digest.hexdigest()[:16] == LLAMA_CPP[name]


@pytest.mark.parametrize("name", K_ENCODERS)
def test_a_super_block_does_not_depend_on_those_beside_it(name: str) -> None:
    values, quant_type = spread(), getattr(types, name)
    together = K_ENCODERS[name](values).reshape(-1, quant_type.block_bytes)
    for index in (0, 17, 63):
        alone = K_ENCODERS[name](values[index * 256 : (index + 1) * 256])
        np.testing.assert_array_equal(together[index], alone)


@pytest.mark.parametrize(("name", "step"), [("Q3_K", 0.3), ("Q4_K", 0.1), ("Q5_K", 0.06), ("Q6_K", 0.03)])
def test_values_come_back_within_a_step(name: str, step: float) -> None:
    values, quant_type = spread(), getattr(types, name)
    error = np.abs(quant_type.decode(K_ENCODERS[name](values)) - values)
    assert error.max() < step


def test_a_q6_k_block_by_hand() -> None:
    values = np.tile(np.arange(-32, 32, dtype=np.float32), 4)
    data = K_ENCODERS["Q6_K"](values)
    scales = data[192:208].view(np.int8).astype(np.float32) * data[208:].view("<f2").astype(np.float32)
    np.testing.assert_allclose(scales[[0, 4, 8, 12]], 1, rtol=0.02)
    np.testing.assert_allclose(types.Q6_K.decode(data), values, atol=0.4)


def test_a_type_without_an_encoder_is_named() -> None:
    with pytest.raises(LlorchError, match="IQ4_XS has no encoder"):
        encoder_of(types.IQ4_XS)
