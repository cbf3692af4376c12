"""Hugging Face's names of tensors become GGUF's, and a config implies which there are and of what shape."""

from __future__ import annotations

import dataclasses

import pytest

from llorch.formats.hugging_face.config import LlamaSizes
from llorch.formats.hugging_face.names import (
    bias_key,
    gguf_name,
    implied_names,
    implied_shape,
    is_buffer,
    layer_of,
)
from llorch.model.config import ModelConfig
from llorch.model.weights import expected_shapes

SIZES = LlamaSizes(
    n_vocab=384,
    n_embd=64,
    n_layer=2,
    n_head=4,
    n_head_kv=2,
    head_dim=8,
    n_ff=96,
    attention_bias=True,
    mlp_bias=True,
    is_tied=False,
)


def test_names_and_shapes_are_those_of_the_model() -> None:
    config = ModelConfig(384, 64, 2, 4, 2, 8, 96, 256, 8, 1e4, 1.0, 1e-5)
    expected = expected_shapes(config)
    expected.pop("rope_freqs.weight")
    names = [gguf_name(name) for name in implied_names(SIZES)]
    assert {name: implied_shape(str(name), SIZES)[0] for name in names} == expected


@pytest.mark.parametrize(
    ("name", "gguf"),
    [
        ("model.embed_tokens.weight", "token_embd.weight"),
        ("model.norm.weight", "output_norm.weight"),
        ("lm_head.weight", "output.weight"),
        ("model.layers.0.input_layernorm.weight", "blk.0.attn_norm.weight"),
        ("model.layers.31.self_attn.q_proj.bias", "blk.31.attn_q.bias"),
        ("model.layers.1.self_attn.o_proj.weight", "blk.1.attn_output.weight"),
        ("model.layers.1.mlp.down_proj.weight", "blk.1.ffn_down.weight"),
        ("model.layers.1.input_layernorm.bias", None),
        ("model.layers.01.input_layernorm.weight", None),
        ("model.layers.-1.input_layernorm.weight", None),
        ("model.layers.99999999.input_layernorm.weight", None),
        ("model.layers.1.self_attn.q_norm.weight", None),
        ("model.layers.1.self_attn.q_proj.weight\n", None),
        ("layers.1.self_attn.q_proj.weight", None),
        ("lm_head.bias", None),
    ],
)
def test_a_name_becomes_ggufs_or_none(name: str, gguf: str | None) -> None:
    assert gguf_name(name) == gguf


def test_tables_of_old_versions_are_known() -> None:
    assert is_buffer("model.layers.3.self_attn.rotary_emb.inv_freq")
    assert is_buffer("model.rotary_emb.inv_freq")
    assert not is_buffer("model.layers.3.self_attn.q_proj.weight")


def test_biases_and_the_head_are_implied_only_where_the_config_says_so() -> None:
    plain = dataclasses.replace(SIZES, attention_bias=False, mlp_bias=False, is_tied=True)
    names = list(implied_names(plain))
    assert len(names) == 2 + 2 * 9
    assert not any("bias" in name or name == "lm_head.weight" for name in names)


def test_a_shape_names_the_keys_it_comes_from() -> None:
    assert implied_shape("blk.0.attn_k.weight", SIZES) == (
        (16, 64),
        "num_key_value_heads * head_dim × hidden_size",
    )
    assert implied_shape("blk.0.ffn_up.bias", SIZES) == ((96,), "intermediate_size")
    assert (layer_of("blk.12.ffn_up.bias"), layer_of("output.weight")) == (12, None)
    assert (bias_key("blk.0.ffn_up.bias"), bias_key("blk.0.attn_q.bias")) == ("mlp_bias", "attention_bias")
    assert bias_key("blk.0.attn_q.weight") is None
