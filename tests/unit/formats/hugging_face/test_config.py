"""A config.json becomes GGUF keys; what would compute something else is refused with its key."""

from __future__ import annotations

from typing import Any

import pytest

from llorch.errors import ModelError
from llorch.formats.hugging_face.config import read_config
from llorch.model.config import ModelConfig
from tests.support.hf_directories import SIZES

LLAMA: dict[str, Any] = {**SIZES, "max_position_embeddings": 8192}
MISTRAL = LLAMA | {"architectures": ["MistralForCausalLM"], "model_type": "mistral"}


def without(config: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in keys}


def test_the_keys_make_the_config_that_the_model_runs_with() -> None:
    config = ModelConfig.from_metadata(
        read_config(LLAMA | {"head_dim": 32, "rope_theta": 5e5}, "config.json").metadata()
    )
    assert config == ModelConfig(
        n_vocab=384,
        n_embd=64,
        n_layer=2,
        n_head=4,
        n_head_kv=2,
        head_dim=32,
        n_ff=96,
        n_ctx_train=8192,
        n_rot=32,
        rope_freq_base=5e5,
        rope_freq_scale=1.0,
        norm_eps=9.999999747378752e-06,
    )


def test_numbers_are_rounded_as_a_gguf_file_stores_them() -> None:
    assert (
        read_config(LLAMA, "x").metadata()["llama.attention.layer_norm_rms_epsilon"] == 9.999999747378752e-06
    )


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (without(LLAMA, "num_key_value_heads"), {"n_head_kv": 4}),
        (LLAMA | {"num_key_value_heads": None}, {"n_head_kv": 4}),
        (LLAMA | {"head_dim": None}, {"head_dim": 16}),
        (LLAMA | {"hidden_size": 66, "head_dim": 8}, {"head_dim": 8, "n_embd": 66}),
        (LLAMA, {"attention_bias": False, "mlp_bias": False, "is_tied": False}),
        (LLAMA | {"attention_bias": True, "mlp_bias": True}, {"attention_bias": True, "mlp_bias": True}),
        (LLAMA | {"tie_word_embeddings": True}, {"is_tied": True}),
        (without(LLAMA, "architectures"), {}),
        (without(LLAMA, "model_type", "hidden_act"), {}),
        (LLAMA | {"hidden_act": "swish", "pretraining_tp": 4}, {}),
        (without(MISTRAL, "num_key_value_heads") | {"num_attention_heads": 16}, {"n_head_kv": 8}),
        (MISTRAL | {"num_key_value_heads": None}, {"n_head_kv": 4}),
        (MISTRAL | {"attention_bias": True, "mlp_bias": True}, {"attention_bias": False, "mlp_bias": False}),
    ],
)
def test_keys_that_are_absent_mean_what_they_mean_to_transformers(
    config: dict[str, Any], expected: dict[str, Any]
) -> None:
    sizes = read_config(config, "config.json").sizes
    assert {key: getattr(sizes, key) for key in expected} == expected


@pytest.mark.parametrize(
    ("config", "n_ctx"),
    [
        (LLAMA, 8192),
        (LLAMA | {"sliding_window": 16}, 8192),  # which transformers ignores in a Llama
        (MISTRAL | {"sliding_window": None}, 8192),
        (MISTRAL | {"sliding_window": 1024}, 1024),
        (MISTRAL | {"sliding_window": 100_000}, 8192),
        (MISTRAL, 4096),
    ],
)
def test_a_sliding_window_ends_the_context_within_which_it_changes_nothing(
    config: dict[str, Any], n_ctx: int
) -> None:
    assert read_config(config, "config.json").metadata()["llama.context_length"] == n_ctx


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (
            {"architectures": ["Qwen2ForCausalLM"]},
            "architectures: ['Qwen2ForCausalLM'] is not supported: llorch runs",
        ),
        ({"architectures": ["LlamaForSequenceClassification"]}, "LlamaForCausalLM and MistralForCausalLM"),
        ({"architectures": [["LlamaForCausalLM"]]}, "is not supported"),
        ({"architectures": "LlamaForCausalLM"}, "architectures: 'LlamaForCausalLM' is not supported"),
        ({"architectures": ["LlamaForCausalLM", "X"]}, "is not supported"),
        ({"architectures": None, "model_type": "qwen2"}, "architectures: None is not supported"),
        ({"architectures": None, "model_type": []}, "architectures: None is not supported"),
        ({"model_type": "mixtral"}, "model_type: 'mixtral' contradicts architectures ['LlamaForCausalLM']"),
        ({"hidden_act": "gelu"}, "hidden_act: 'gelu' is not supported, expected 'silu'"),
        ({"hidden_act": ["silu"]}, "hidden_act: ['silu'] is not supported"),
        ({"hidden_size": None}, "hidden_size: expected a whole number, got nothing"),
        ({"hidden_size": "64"}, "hidden_size: expected a whole number, got str '64'"),
        ({"hidden_size": True}, "hidden_size: expected a whole number"),
        ({"hidden_size": 0}, "hidden_size: 0 is out of range"),
        ({"num_hidden_layers": 10**30}, "num_hidden_layers: 1000000000000000000000000000000 is out of range"),
        ({"num_attention_heads": 5}, "num_attention_heads: 5 do not share hidden_size 64 evenly"),
        ({"num_key_value_heads": 3}, "num_key_value_heads: 3 does not divide num_attention_heads 4"),
        ({"head_dim": 7}, "head_dim: 7 is odd"),
        ({"rms_norm_eps": 0}, "rms_norm_eps: 0 is out of range"),
        ({"attention_bias": "yes"}, "attention_bias: expected true or false, got str 'yes'"),
        ({"tie_word_embeddings": 1}, "tie_word_embeddings: expected true or false"),
        ({"rope_scaling": {"type": "longrope"}}, "rope_scaling: rope_type: 'longrope' is not supported"),
    ],
)
def test_a_model_that_llorch_cannot_run_is_refused_with_the_key(change: dict[str, Any], fault: str) -> None:
    with pytest.raises(ModelError, match=r"^config\.json: ") as caught:
        read_config(LLAMA | change, "config.json").metadata()
    assert fault in str(caught.value)


def test_a_window_of_no_size_is_refused() -> None:
    with pytest.raises(ModelError, match="sliding_window: 0 is out of range"):
        read_config(MISTRAL | {"sliding_window": 0}, "config.json").metadata()
