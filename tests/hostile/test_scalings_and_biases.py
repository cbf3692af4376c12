"""False metadata of RoPE scalings, and biases that do not fit: one clear error that names the key or tensor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.refusals import refusal


@pytest.mark.parametrize("key", ["factor", "attn_factor", "original_context_length"])
@pytest.mark.parametrize("value", [[1.0, 2.0], "4", True])
def test_a_scaling_of_the_wrong_type_is_refused(tmp_path: Path, key: str, value: Any) -> None:
    keys = {"llama.rope.scaling.type": "yarn", f"llama.rope.scaling.{key}": value}
    assert f"llama.rope.scaling.{key}: " in refusal(tmp_path / "bad.gguf", overrides=keys)


@pytest.mark.parametrize("value", [2**31 - 1, -1, 2.5, "4096"])
def test_an_original_context_that_cannot_be_is_refused(tmp_path: Path, value: Any) -> None:
    key = "llama.rope.scaling.original_context_length"
    assert key in refusal(tmp_path / "bad.gguf", overrides={"llama.rope.scaling.type": "yarn", key: value})


@pytest.mark.parametrize(
    "name", ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"]
)
def test_a_bias_of_another_size_or_of_no_number_is_named(tmp_path: Path, name: str) -> None:
    bias, size = (
        f"blk.0.{name}.bias",
        {"attn_k": 32, "attn_v": 32, "ffn_gate": 96, "ffn_up": 96}.get(name, 64),
    )
    for shape in ((size - 1,), (size, 1), (1, size)):
        message = refusal(
            tmp_path / "bad.gguf", type="F32", tensor_overrides={bias: np.zeros(shape, np.float32)}
        )
        assert f"tensor {bias!r}: shape {shape}, but the metadata implies ({size},)" in message
    values = np.zeros(size, np.float32)
    values[17] = np.nan
    assert f"tensor {bias!r}: value 17 is not" in refusal(
        tmp_path / "bad.gguf", tensor_overrides={bias: values}
    )
