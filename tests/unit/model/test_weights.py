"""One function says which tensors a configuration implies, and in which shapes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from llorch.errors import ModelError
from llorch.formats.source import open_source
from llorch.model.config import ModelConfig
from llorch.model.weights import BIAS, OPTIONAL_WEIGHTS, Weights, expected_shapes
from llorch.quant.tensor import Tensor
from tests.support.tiny_models import write_tiny_llama


@pytest.fixture
def model(tmp_path: Path) -> tuple[ModelConfig, dict[str, Tensor]]:
    path = tmp_path / "tiny.gguf"
    write_tiny_llama(path)
    source = open_source(path)
    found = ModelConfig.from_metadata(source.metadata), dict(source.tensors)
    source.close()
    return found


def test_a_file_holds_the_expected_tensors(model: tuple[ModelConfig, dict[str, Tensor]]) -> None:
    config, tensors = model
    expected = expected_shapes(config)
    assert {name: tensor.shape for name, tensor in tensors.items()}.items() <= expected.items()
    biases = {name for name in expected if name.endswith(BIAS)}
    assert expected.keys() - tensors.keys() <= {*OPTIONAL_WEIGHTS, *biases} <= expected.keys()
    assert len(expected) == 4 + (9 + 7) * config.n_layer
    assert len(biases) == 7 * config.n_layer


def test_every_expected_tensor_is_taken_and_its_shape_held(
    model: tuple[ModelConfig, dict[str, Tensor]],
) -> None:
    config, tensors = model
    Weights.from_tensors(config, tensors)
    for name in tensors:
        other = {**tensors, name: dataclasses.replace(tensors[name], shape=(1, *tensors[name].shape))}
        with pytest.raises(ModelError, match=f"{name}': shape"):
            Weights.from_tensors(config, other)
        del other[name]
        if name not in OPTIONAL_WEIGHTS:
            with pytest.raises(ModelError, match=f"{name}' is missing"):
                Weights.from_tensors(config, other)


def test_millions_of_layers_that_are_not_there_are_refused_at_once(
    model: tuple[ModelConfig, dict[str, Tensor]],
) -> None:
    config, tensors = model
    claimed = dataclasses.replace(config, n_layer=1 << 24)
    with pytest.raises(ModelError, match=rf"blk\.{config.n_layer}\.attn_norm\.weight' is missing"):
        Weights.from_tensors(claimed, tensors)
