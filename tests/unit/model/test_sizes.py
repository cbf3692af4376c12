"""Every shape of model that `llama` files come in, against float64 NumPy; in every way of running it, the same bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llorch.observe.probe import Recorder
from tests.support import size_table
from tests.support.logits import F32_TOLERANCE, FLIP_TOLERANCE, token_ids_of, worst
from tests.support.naive import NaiveLlama, bits
from tests.support.size_table import BIASED, SIZES
from tests.support.small_models import Run, open_model
from tests.support.tiny_models import write_tiny_llama

WIDE = [name for name, sizes in SIZES.items() if sizes.get("n_embd", 0) > 4096]


def assert_equals_float64(path: Path, tolerance: float) -> None:
    with open_model(path) as model:
        token_ids = token_ids_of(37)
        logits = Run(model.llama).prefill(token_ids)
    assert worst(logits, NaiveLlama(path, rounds_activations=True).forward(token_ids)) < tolerance


@pytest.mark.parametrize("name", [name for name in SIZES if name not in WIDE])
def test_logits_of_every_size_equal_float64(name: str, tmp_path: Path) -> None:
    """In F32, where no rounding of activations hides a mistake."""
    assert_equals_float64(size_table.write(name, tmp_path, type="F32"), F32_TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize("name", WIDE)
def test_logits_of_wide_models_equal_float64(name: str, tmp_path: Path) -> None:
    assert_equals_float64(size_table.write(name, tmp_path), FLIP_TOLERANCE[SIZES[name].get("type", "Q8_0")])


BIASES_ALONE = {f"a bias of {name} alone": size_table.biased(name, type="F32") for name in BIASED}


@pytest.mark.parametrize("name", BIASES_ALONE)
def test_each_bias_counts(name: str, tmp_path: Path) -> None:
    path = tmp_path / "biased.gguf"
    write_tiny_llama(path, **BIASES_ALONE[name])
    assert_equals_float64(path, F32_TOLERANCE)


WAYS: dict[str, dict[str, Any]] = {
    "mapped": {"residence": "mapped"}, "three threads": {"n_threads": 3}, "rows one by one": {"n_batch": 1},
}  # fmt: skip


@pytest.mark.parametrize("name", ["all biases", "a bias of k alone, with yarn"])
def test_biases_and_yarn_give_the_same_bits_in_every_way_of_running(name: str, tmp_path: Path) -> None:
    path = size_table.write(name, tmp_path, type="Q8_0")
    token_ids = token_ids_of(20)
    with open_model(path) as model:
        expected = Run(model.llama).prefill(token_ids)
        observed = Run(model.llama).prefill(token_ids, probe=Recorder())
    np.testing.assert_array_equal(bits(observed), bits(expected))
    for options in WAYS.values():
        with open_model(path, **options) as model:
            np.testing.assert_array_equal(bits(Run(model.llama).prefill(token_ids)), bits(expected))


def test_a_probe_sees_what_is_rotated_and_added_with_its_bias(tmp_path: Path) -> None:
    path = size_table.write("all biases", tmp_path)
    with open_model(path) as model:
        with_bias, layer = Recorder(), model.weights.layers[0]
        Run(model.llama).prefill(token_ids_of(5), probe=with_bias)
    write_tiny_llama(path, n_layer=2, type=SIZES["all biases"]["type"])
    with open_model(path) as model:
        without = Recorder()
        Run(model.llama).prefill(token_ids_of(5), probe=without)
    for stage, name in (("Qcur", "attn_q"), ("Kcur", "attn_k"), ("Vcur", "attn_v")):
        product = without.values[f"{stage}-0"]
        expected = product + layer.biases[name].reshape(product.shape[1:])
        np.testing.assert_array_equal(bits(with_bias.values[f"{stage}-0"]), bits(expected))
