"""What compressed-tensors says of a model: w8a8 is taken, all else is refused by name, with the next step."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from llorch.errors import ModelError
from llorch.formats.hugging_face.compressed import int8_tensor, quantization_of
from llorch.quant.tensor import Placement, dequantize
from tools.make_w8a8 import QUANTIZATION

OUTER, WEIGHTS, INPUTS = (), ("weights",), ("input_activations",)


def config_with(place: tuple[str, ...], **changes: Any) -> dict[str, Any]:
    """A w8a8 config.json with other entries at a place: of the whole, of a group, or of weights or activations."""
    made = copy.deepcopy(dict(QUANTIZATION))
    at = made
    if place:
        at = made["config_groups"]["group_0"]
        for name in place if place != ("group",) else ():
            at = at[name]
    at.update(changes)
    return {"quantization_config": made}


def test_a_w8a8_config_is_taken_and_names_the_scales() -> None:
    found = quantization_of({"quantization_config": dict(QUANTIZATION)}, "config.json")
    assert found is not None
    assert found.scale_name("a.q_proj.weight") == "a.q_proj.weight_scale"


def test_a_model_without_a_quantization_config_is_not_quantised() -> None:
    assert quantization_of({}, "config.json") is None
    assert quantization_of({"quantization_config": None}, "config.json") is None


@pytest.mark.parametrize("status", ["compressed", "frozen"])
def test_a_config_without_what_may_be_left_out_is_taken(status: str) -> None:
    config = config_with(OUTER, quantization_status=status)
    weights = config["quantization_config"]["config_groups"]["group_0"]["weights"]
    for key in ("type", "symmetric", "actorder", "group_size"):
        del weights[key]
    assert quantization_of(config, "config.json") is not None


@pytest.mark.parametrize(
    ("config", "named"),
    [
        (config_with(("group",), input_activations=None), "int8 weights alone .w8a16"),
        (config_with(WEIGHTS, type="float"), "FP8 weights"),
        (config_with(OUTER, quant_method="fp8"), "fp8"),
        (config_with(OUTER, quant_method="gptq"), "GPTQ"),
        (config_with(OUTER, quant_method="awq"), "AWQ"),
        (config_with(OUTER, quant_method="bitsandbytes"), "bitsandbytes"),
        (config_with(OUTER, quant_method=None), "no quant_method"),
        (config_with(WEIGHTS, num_bits=4, strategy="group", group_size=128), "int4 weights"),
        (config_with(WEIGHTS, symmetric=False), "asymmetric int8 weights"),
        (config_with(WEIGHTS, strategy="group", group_size=128), "'group' of 128"),
        (config_with(WEIGHTS, strategy="tensor"), "'tensor'"),
        (config_with(WEIGHTS, actorder="group"), "re-ordered columns"),
        (config_with(INPUTS, dynamic=False), "static"),
        (config_with(INPUTS, dynamic="local"), "static"),
        (config_with(INPUTS, strategy="tensor"), "activations with scales of strategy 'tensor'"),
        (config_with(INPUTS, symmetric=False), "asymmetric activations"),
        (config_with(INPUTS, type="float"), "FP8 activations"),
        (config_with(("group",), output_activations={"num_bits": 8}), "output_activations"),
        (config_with(OUTER, format="pack-quantized"), "pack-quantized"),
        (config_with(("group",), format="float-quantized"), "float-quantized"),
        (config_with(OUTER, kv_cache_scheme={"num_bits": 8}), "KV cache"),
        (config_with(OUTER, sparsity_config={"format": "sparse-24-bitmask"}), "sparse-24-bitmask"),
        (config_with(OUTER, transform_config={"config_groups": {}}), "transforms"),
        (config_with(OUTER, quantization_status="calibration"), "calibration"),
        (config_with(OUTER, config_groups={}), "no config_groups"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_another_scheme_is_refused_by_name_with_what_is_supported_and_the_next_step(
    config: dict[str, Any], named: str
) -> None:
    with pytest.raises(ModelError, match=named) as raised:
        quantization_of(config, "dir/config.json")
    message = str(raised.value)
    assert message.startswith("dir/config.json: quantization_config: ")
    assert "'int-quantized'" in message
    assert "llorch convert" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "value", [[], "int8", 8, {"quant_method": "compressed-tensors", "config_groups": [1]}]
)
def test_a_config_of_another_shape_is_refused(value: Any) -> None:
    with pytest.raises(ModelError, match="quantization_config"):
        quantization_of({"quantization_config": value}, "config.json")


@pytest.mark.parametrize("part", ["weights", "input_activations"])
@pytest.mark.parametrize("value", [3, [], "8", True])
def test_a_group_of_another_shape_is_refused(part: str, value: Any) -> None:
    with pytest.raises(ModelError, match=f"{part}.*expected an object"):
        quantization_of(config_with(("group",), **{part: value}), "config.json")


def stored(n_out: int, n_in: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, n_out * n_in, np.uint8)


def test_the_scales_follow_the_rows_into_their_order() -> None:
    data, order = stored(4, 32), np.array([2, 0, 3, 1], np.int32)
    scales = np.array([[1], [10], [100], [1000]], np.float32)
    tensor = int8_tensor("w", data, (4, 32), scales, Placement(order, 4))
    expected = (data.view(np.int8).reshape(4, 32) * scales)[order]
    np.testing.assert_array_equal(dequantize(tensor), expected)
    assert tensor.data is data
    np.testing.assert_array_equal(
        dequantize(int8_tensor("w", data, (4, 32), scales, None)), data.view(np.int8).reshape(4, 32) * scales
    )


@pytest.mark.parametrize(
    ("shape", "scales", "message"),
    [
        ((4, 32), np.ones((4, 2), np.float32), r"weight_scale has shape \(4, 2\), expected \(4, 1\)"),
        ((4, 32), np.ones((1, 1), np.float32), r"expected \(4, 1\)"),
        ((4, 32), np.array([1, 1, np.nan, 1], np.float32), "scale of row 2 is not a finite number"),
        ((4, 32), np.array([[np.inf], [1], [1], [1]], np.float32), "scale of row 0"),
        ((32,), np.ones(32, np.float32), "expected a matrix"),
        ((4, 40), np.ones(4, np.float32), "expected a multiple of 32"),
        ((4, 0), np.ones(4, np.float32), "expected a multiple of 32"),
        ((1, 131072), np.ones(1, np.float32), "at most 131040"),
    ],
)
def test_weights_that_cannot_be_multiplied_are_refused(
    shape: tuple[int, ...], scales: np.ndarray, message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        int8_tensor("w", np.zeros(int(np.prod(shape)), np.uint8), shape, scales, None)


def test_a_transposed_matrix_is_refused() -> None:
    order = np.arange(4, dtype=np.int32)
    with pytest.raises(ModelError, match="transposed"):
        int8_tensor(
            "w", stored(4, 32), (4, 32), np.ones(4, np.float32), Placement(order, 4, is_transposed=True)
        )
