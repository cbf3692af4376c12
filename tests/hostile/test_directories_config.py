"""Hostile `config.json` files: each is refused with one line that names the key and what was expected."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.hostile_directories import ABSENT, edit, good, model, open_everything, refused

__all__ = ["good", "model"]

WHOLE = "expected a whole number"
RANGE = "out of range"


def test_the_directory_that_the_others_are_made_of_opens(model: Path) -> None:
    open_everything(model)


@pytest.mark.parametrize(
    ("content", "pattern"),
    [
        (b"", "config.json: is empty"),
        (b"{", "config.json: is not JSON"),
        (b"[]", "config.json: holds no JSON object"),
        (b"null", "config.json: holds no JSON object"),
        (b'"x"', "holds no JSON object"),
        (b"\xef\xbb\xbf{}", "is not JSON"),
        ("{}".encode("utf-16"), "is not JSON"),
        (b'{"a": \xff}', "is not JSON"),
        (b'{"hidden_size": 64, "hidden_size": 65}', "'hidden_size' stands twice"),
        (b'{"rms_norm_eps": NaN}', "NaN is no number"),
        (b'{"rms_norm_eps": Infinity}', "Infinity is no number"),
        (b'{"a": ' + b"[" * 200_000 + b"]" * 200_000 + b"}", "too deeply"),
        (b'{"a": ' * 200_000, "too deeply"),
        (b'{"vocab_size": ' + b"9" * 10_000 + b"}", "is not JSON"),
        (b" " * ((1 << 24) + 1), "bytes; at most"),
        (b"{}", "config.json: architectures: None is not supported: llorch runs LlamaForCausalLM"),
    ],
    ids=range(16),
)
def test_what_is_no_plain_object_is_refused(model: Path, content: bytes, pattern: str) -> None:
    (model / "config.json").write_bytes(content)
    refused(model, pattern)


CASES: list[tuple[str, Any, str]] = [
    ("architectures", ["Qwen2ForCausalLM"], r"architectures: \['Qwen2ForCausalLM'\] is not supported: llorch"),
    ("architectures", ["LlamaForCausalLM", "LlamaForCausalLM"], "architectures: .* is not supported"),
    ("architectures", [], "architectures: .* is not supported"),
    ("architectures", "LlamaForCausalLM", "architectures: .* is not supported"),
    ("architectures", [["LlamaForCausalLM"]], "architectures: .* is not supported"),
    ("architectures", ["x\x1b[2J" * 1000], "architectures: .* is not supported"),
    ("model_type", "qwen2", "model_type: 'qwen2' contradicts architectures"),
    ("model_type", 1, "model_type: 1 contradicts architectures"),
    ("hidden_act", "gelu", "hidden_act: 'gelu' is not supported, expected 'silu'"),
    ("hidden_act", ["silu"], "hidden_act: .* is not supported"),
    ("hidden_size", ABSENT, f"hidden_size: {WHOLE}"),
    ("hidden_size", None, f"hidden_size: {WHOLE}"),
    ("hidden_size", "64", f"hidden_size: {WHOLE}"),
    ("hidden_size", 64.0, f"hidden_size: {WHOLE}"),
    ("hidden_size", True, f"hidden_size: {WHOLE}"),
    ("hidden_size", [64], f"hidden_size: {WHOLE}"),
    ("hidden_size", 0, f"hidden_size: 0 is {RANGE}"),
    ("hidden_size", -64, f"hidden_size: -64 is {RANGE}"),
    ("hidden_size", 2**31, f"hidden_size: 2147483648 is {RANGE}"),
    ("hidden_size", 10**400, f"hidden_size: .* is {RANGE}"),
    ("hidden_size", 65, "num_attention_heads: 4 do not share hidden_size 65 evenly"),
    ("hidden_size", 128, r"has shape .*64.*, but .*config\.json implies"),
    ("num_attention_heads", 0, f"num_attention_heads: 0 is {RANGE}"),
    ("num_attention_heads", 3, "num_attention_heads: 3 do not share hidden_size 64"),
    ("num_attention_heads", 64, "head_dim: 1 is odd"),
    ("num_attention_heads", 2**24, "num_attention_heads: 16777216 do not share"),
    ("num_attention_heads", 8, "has shape"),
    ("num_key_value_heads", 3, "num_key_value_heads: 3 does not divide num_attention_heads 4"),
    ("num_key_value_heads", 8, "num_key_value_heads: 8 does not divide"),
    ("num_key_value_heads", 0, f"num_key_value_heads: 0 is {RANGE}"),
    ("num_key_value_heads", 4, r"k_proj\.weight' has shape \(32, 64\), but .* implies \(64, 64\)"),
    ("num_key_value_heads", ABSENT, "k_proj.weight' has shape"),
    ("head_dim", 15, "head_dim: 15 is odd"),
    ("head_dim", 32, r"has shape"),
    ("head_dim", "16", f"head_dim: {WHOLE}"),
    ("head_dim", 2**25, f"head_dim: .* is {RANGE}"),
    ("intermediate_size", 65, "has shape"),
    ("intermediate_size", {}, f"intermediate_size: {WHOLE}"),
    ("num_hidden_layers", 0, f"num_hidden_layers: 0 is {RANGE}"),
    ("num_hidden_layers", 1, "is in a layer that .*config.json does not have: num_hidden_layers is 1"),
    ("num_hidden_layers", 3, r"'model\.layers\.2\..*' is missing, which .*config\.json implies"),
    ("num_hidden_layers", 2**24, "'model.layers.2.* is missing"),
    ("num_hidden_layers", 10**12, f"num_hidden_layers: .* is {RANGE}"),
    ("vocab_size", 383, r"embed_tokens\.weight' has shape \(384, 64\), but .* implies \(383, 64\)"),
    ("vocab_size", 2**24, "has shape"),
    ("vocab_size", None, f"vocab_size: {WHOLE}"),
    ("max_position_embeddings", ABSENT, f"max_position_embeddings: {WHOLE}"),
    ("max_position_embeddings", -1, f"max_position_embeddings: -1 is {RANGE}"),
    ("max_position_embeddings", 2**40, f"max_position_embeddings: .* is {RANGE}"),
    ("rms_norm_eps", 0, "rms_norm_eps: 0 is out of range"),
    ("rms_norm_eps", -1e-5, "rms_norm_eps: -1e-05 is out of range"),
    ("rms_norm_eps", "1e-5", "rms_norm_eps: expected a number"),
    ("rms_norm_eps", 1e-60, "rms_norm_eps: .* out of range"),
    ("rms_norm_eps", 1e300, "rms_norm_eps: .* out of range"),
    ("rms_norm_eps", 10**400, "rms_norm_eps: .* out of range"),
    ("rope_theta", 0, "rope_theta: 0 is out of range"),
    ("rope_theta", -1, "rope_theta: -1 is out of range"),
    ("rope_theta", "10000", "rope_theta: expected a number"),
    ("rope_theta", 1e39, "rope_theta: .* out of range"),
    ("rope_scaling", [], "rope_scaling: expected an object or null"),
    ("rope_scaling", "linear", "rope_scaling: expected an object or null"),
    ("rope_scaling", {"factor": 2}, "rope_scaling: names no rope_type"),
    ("rope_scaling", {"type": "longrope", "factor": 2}, "rope_scaling: rope_type: 'longrope' is not supported"),
    ("rope_scaling", {"type": "linear", "rope_type": "yarn"}, "type: 'linear' contradicts rope_type 'yarn'"),
    ("rope_scaling", {"type": ["linear"]}, "rope_type: .* is not supported"),
    ("rope_scaling", {"type": "linear"}, "rope_scaling: factor: expected a number"),
    ("rope_scaling", {"type": "linear", "factor": 0}, "rope_scaling: factor: 0 is out of range"),
    ("rope_scaling", {"type": "linear", "factor": True}, "factor: expected a number"),
    ("rope_scaling", {"type": "linear", "factor": 1e-50}, "factor: .* out of range"),
    ("rope_scaling", {"full_attention": {"rope_type": "default"}}, "different frequencies for different layers"),
    ("rope_scaling", {"rope_type": "llama3", "factor": 8}, "low_freq_factor: expected a number"),
    (
        "rope_scaling",
        {"rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 1},
        "low_freq_factor: 4 must be below high_freq_factor 1",
    ),
    (
        "rope_scaling",
        {
            "rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4,
            "original_max_position_embeddings": 1.5,
        },
        f"original_max_position_embeddings: {WHOLE}",
    ),
    ("rope_scaling", {"rope_type": "yarn", "factor": 4, "truncate": 1}, "truncate: expected true or false"),
    ("rope_scaling", {"rope_type": "yarn", "factor": 4, "attention_factor": -1}, "attention_factor: -1 is out of"),
    ("rope_scaling", {"rope_type": "yarn", "factor": 4, "rope_theta": 0.5}, "contradicts the one outside"),
    ("rope_parameters", {"rope_type": "linear"}, "rope_parameters: factor: expected a number"),
    ("partial_rotary_factor", 0.5, "partial_rotary_factor: 0.5 is not supported, expected 1"),
    ("attention_bias", "true", "attention_bias: expected true or false"),
    ("attention_bias", 1, "attention_bias: expected true or false"),
    ("attention_bias", True, r"_proj\.bias' is missing"),
    ("mlp_bias", True, r"_proj\.bias' is missing"),
    ("tie_word_embeddings", 0, "tie_word_embeddings: expected true or false"),
    ("quantization_config", [], "quantization_config"),
    ("quantization_config", {"quant_method": "gptq", "bits": 4}, "quantised with GPTQ.* runs int8"),
    ("quantization_config", {"quant_method": "awq", "bits": 4}, "quantised with AWQ.* runs int8"),
    ("quantization_config", {"quant_method": "bitsandbytes"}, "quantised with 'bitsandbytes'.* runs int8"),
    ("quantization_config", {"quant_method": "fp8"}, "quantised with 'fp8'.* runs int8"),
    ("quantization_config", {"quant_method": "compressed-tensors"}, "quantization_config"),
    ("quantization_config", {"quant_method": "compressed-tensors", "config_groups": {}}, "quantization_config"),
    ("quantization_config", {"quant_method": "compressed-tensors", "config_groups": {"a": 1}}, "quantization_config"),
    ("quantization_config", {"quant_method": 8}, "quantization_config"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value", "pattern"), CASES, ids=[f"{i}-{case[0]}" for i, case in enumerate(CASES)]
)
def test_a_value_that_cannot_be_is_refused(model: Path, key: str, value: Any, pattern: str) -> None:
    edit(model / "config.json", key, value=value)
    refused(model, pattern)


@pytest.mark.parametrize("value", [None, True, 0, -1, 1e400, "x", [], {}, [[]], {"a": {"b": 1}}])
def test_keys_that_say_nothing_about_the_model_may_hold_anything(model: Path, value: Any) -> None:
    config = json.loads((model / "config.json").read_bytes())
    config |= dict.fromkeys(("_name_or_path", "torch_dtype", "use_cache", "something_new"), value)
    (model / "config.json").write_text(json.dumps(config).replace("Infinity", "1e400"))
    open_everything(model)
