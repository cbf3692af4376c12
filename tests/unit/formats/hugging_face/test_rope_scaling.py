"""RoPE turns as transformers says for every scaling; its frequencies are stored by tools/oracles/rope_scalings.py."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from llorch.errors import ModelError
from llorch.formats.hugging_face.config_values import ConfigValues
from llorch.formats.hugging_face.rope_scaling import RopeScaling, read_rope_scaling
from llorch.model.config import ModelConfig
from llorch.model.rope_table import rope_table
from tests.conftest import REPOSITORY

CASES = json.loads((REPOSITORY / "tests/golden/hugging_face/rope_scalings.json").read_text())["cases"]
IN_KEYS = {"rope_scaling": {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 4096}}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}


def read(entries: dict[str, Any], head_dim: int = 16, n_ctx: int = 32768) -> RopeScaling:
    return read_rope_scaling(ConfigValues(entries, "config.json"), head_dim, n_ctx)


def turned(rope: RopeScaling, head_dim: int) -> tuple[Any, Any]:
    """The angle of each pair at position 1, and the factor on cosines and sines, as the kernels compute them."""
    metadata = {
        "general.architecture": "llama",
        "llama.embedding_length": head_dim,
        "llama.block_count": 1,
        "llama.attention.head_count": 1,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.feed_forward_length": 8,
        "llama.context_length": 32768,
        "llama.vocab_size": 8,
        **rope.metadata,
    }
    cosines, sines = rope_table(ModelConfig.from_metadata(metadata), rope.divisors, 1, 2)[0].T.astype(
        np.float64
    )
    return np.arctan2(sines, cosines), np.hypot(sines, cosines)


@pytest.mark.parametrize("name", CASES)
def test_pairs_turn_as_in_transformers(name: str) -> None:
    case = CASES[name]
    head_dim = case["config"]["head_dim"]
    angles, magnitudes = turned(read(case["config"], head_dim), head_dim)
    # The kernels multiply the angles up from pair to pair, a rounding each, as llama.cpp does.
    np.testing.assert_allclose(angles, case["frequencies"], rtol=head_dim / 2 * 2**-24)
    np.testing.assert_allclose(magnitudes, case["magnitude"], rtol=1e-6)


def test_the_spelling_of_transformers_5_means_the_same() -> None:
    for case in CASES.values():
        old = case["config"]
        inside = {"rope_theta": old["rope_theta"], **(old["rope_scaling"] or {"rope_type": "default"})}
        new = {key: value for key, value in old.items() if key not in ("rope_scaling", "rope_theta")}
        one, other = read(old, old["head_dim"]), read(new | {"rope_parameters": inside}, old["head_dim"])
        assert one.metadata == other.metadata
        assert np.array_equal(one.divisors, other.divisors)  # type: ignore[arg-type]


def test_what_gguf_has_keys_for_is_said_in_keys() -> None:
    assert read({"rope_scaling": None}).metadata == {"llama.rope.freq_base": 10000.0}
    linear = read({"rope_scaling": {"type": "linear", "factor": 4.0}})
    assert linear.metadata["llama.rope.scaling.type"] == "linear"
    assert (linear.metadata["llama.rope.scaling.factor"], linear.divisors) == (4.0, None)
    yarn = read(IN_KEYS)
    assert yarn.metadata == {
        "llama.rope.freq_base": 10000.0,
        "llama.rope.scaling.type": "yarn",
        "llama.rope.scaling.factor": 8.0,
        "llama.rope.scaling.original_context_length": 4096,
    }
    assert yarn.divisors is None


def test_a_dynamic_scaling_is_none_within_the_trained_context() -> None:
    assert read({"rope_scaling": {"type": "dynamic", "factor": 3.0}}).metadata == {
        "llama.rope.freq_base": 10000.0
    }


def test_a_missing_or_null_yarn_factor_is_the_ratio_of_the_lengths() -> None:
    scaling = {"rope_type": "yarn", "factor": None, "original_max_position_embeddings": 4096}
    assert read({"rope_scaling": scaling}).metadata["llama.rope.scaling.factor"] == 8.0


@pytest.mark.parametrize(
    ("entries", "fault"),
    [
        (
            {"rope_scaling": {"rope_type": "longrope"}},
            "rope_scaling: rope_type: 'longrope' is not supported; llorch has",
        ),
        ({"rope_parameters": {"rope_type": "mrope"}}, "rope_parameters: rope_type: 'mrope' is not supported"),
        ({"rope_scaling": {"rope_type": ["yarn"]}}, "is not supported"),
        ({"rope_scaling": {"factor": 2.0}}, "rope_scaling: names no rope_type"),
        (
            {"rope_scaling": {"type": "linear", "rope_type": "yarn"}},
            "type: 'linear' contradicts rope_type 'yarn'",
        ),
        ({"rope_scaling": []}, "rope_scaling: expected an object or null"),
        ({"rope_scaling": {"type": "linear"}}, "rope_scaling: factor: expected a number, got nothing"),
        ({"rope_scaling": {"type": "linear", "factor": 0}}, "factor: 0 is out of range"),
        ({"rope_scaling": {"type": "linear", "factor": "2"}}, "factor: expected a number"),
        (
            {"rope_scaling": LLAMA3 | {"high_freq_factor": 1.0}},
            "low_freq_factor: 1 must be below high_freq_factor 1",
        ),
        (
            {"rope_scaling": {"type": "yarn", "factor": 2.0, "truncate": 1}},
            "truncate: expected true or false",
        ),
        ({"rope_scaling": {"type": "yarn", "factor": 2.0, "beta_fast": -1}}, "beta_fast: -1 is out of range"),
        ({"rope_scaling": {"type": "yarn", "factor": 2.0}, "rope_theta": 1.0}, "must be above 1 for YaRN"),
        ({"rope_theta": 0}, "rope_theta: 0 is out of range"),
        ({"rope_theta": 1e60}, "rope_theta: 1e+60 is out of range"),
        ({"rope_theta": 10**400}, "rope_theta: "),
        (
            {"rope_theta": 5.0, "rope_parameters": {"rope_theta": 6.0}},
            "rope_theta: 6.0 contradicts the one outside",
        ),
        (
            {"rope_scaling": {"type": "linear", "factor": 2.0}, "rope_parameters": {"rope_theta": 6.0}},
            "contradicts",
        ),
        (
            {"rope_parameters": {"full_attention": {"rope_type": "default"}}},
            "different frequencies for different",
        ),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor: 0.5 is not supported, expected 1"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor: 0.5 is not supported"),
    ],
)
def test_a_scaling_that_is_unknown_or_contradicts_itself_is_refused(
    entries: dict[str, Any], fault: str
) -> None:
    with pytest.raises(ModelError, match=r"^config\.json: ") as caught:
        read(entries)
    assert fault in str(caught.value)
