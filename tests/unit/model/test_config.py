"""Sizes read from metadata: defaults, optional keys and derived widths (what is refused: `hostile/`)."""

from __future__ import annotations

from typing import Any

import pytest

from llorch.errors import ModelError
from llorch.model.config import ModelConfig

METADATA: dict[str, Any] = {
    "general.architecture": "llama",
    "llama.context_length": 2048,
    "llama.embedding_length": 256,
    "llama.block_count": 3,
    "llama.feed_forward_length": 688,
    "llama.attention.head_count": 8,
    "llama.attention.layer_norm_rms_epsilon": 1e-6,
    "llama.vocab_size": 1000,
}


def test_optional_keys_have_llamas_defaults() -> None:
    config = ModelConfig.from_metadata(METADATA)
    assert (config.n_vocab, config.n_embd, config.n_layer, config.n_ff, config.n_ctx_train) == (
        1000,
        256,
        3,
        688,
        2048,
    )
    assert (config.n_head, config.n_head_kv, config.head_dim, config.n_rot) == (8, 8, 32, 32)
    assert (config.rope_freq_base, config.rope_freq_scale, config.norm_eps) == (10000.0, 1.0, 1e-6)
    assert config.n_embd_q == config.n_embd_kv == 256


def test_every_optional_key_is_honoured() -> None:
    extra = {
        "llama.attention.head_count_kv": 2,
        "llama.attention.key_length": 48,
        "llama.attention.value_length": 48,
        "llama.rope.dimension_count": 24,
        "llama.rope.freq_base": 500000.0,
        "llama.rope.scaling.type": "linear",
        "llama.rope.scaling.factor": 4.0,
        "llama.expert_count": 0,
    }
    config = ModelConfig.from_metadata(METADATA | extra)
    assert (config.n_head_kv, config.head_dim, config.n_rot) == (2, 48, 24)
    assert (config.n_embd_q, config.n_embd_kv) == (384, 96)
    assert (config.rope_freq_base, config.rope_freq_scale) == (500000.0, 0.25)


def test_the_vocabulary_is_counted_whatever_its_size_is_said_to_be() -> None:
    metadata = {k: v for k, v in METADATA.items() if k != "llama.vocab_size"}
    assert ModelConfig.from_metadata(metadata | {"tokenizer.ggml.tokens": [b"a", b"b", b"c"]}).n_vocab == 3
    assert ModelConfig.from_metadata(METADATA | {"tokenizer.ggml.tokens": [b"a", b"b"]}).n_vocab == 2
    bad: list[Any] = [[], None, 7]
    for tokens in bad:
        with pytest.raises(ModelError, match=r"llama.vocab_size"):
            ModelConfig.from_metadata(metadata | {"tokenizer.ggml.tokens": tokens})
        assert ModelConfig.from_metadata(METADATA | {"tokenizer.ggml.tokens": tokens}).n_vocab == 1000


@pytest.mark.parametrize(
    ("extra", "scale"),
    [({"llama.rope.scaling.type": "none", "llama.rope.scaling.factor": 4.0}, 1.0),
     ({"llama.rope.scale_linear": 8.0}, 0.125), ({"llama.rope.scaling.factor": 0.0}, 1.0),
     ({"llama.rope.scaling.factor": 0.0, "llama.rope.scale_linear": 8.0}, 1.0),
     ({"llama.rope.scaling.factor": 2.0, "llama.rope.scale_linear": 8.0}, 0.5)],
)  # fmt: skip
def test_rope_scaling_as_llama_cpp_reads_it(extra: dict[str, Any], scale: float) -> None:
    assert ModelConfig.from_metadata(METADATA | extra).rope_freq_scale == scale


def _scaling(**keys: Any) -> dict[str, Any]:
    return {f"llama.rope.scaling.{key}": value for key, value in keys.items()}


@pytest.mark.parametrize(
    ("extra", "n_ctx_orig"),
    [(_scaling(type="yarn", original_context_length=512), 512), (_scaling(type="yarn"), 2048),
     (_scaling(type="yarn", original_context_length=0), 2048), (_scaling(original_context_length=512), 0),
     (_scaling(type="none", original_context_length=512), 0)],
)  # fmt: skip
def test_yarn_starts_from_the_original_context(extra: dict[str, Any], n_ctx_orig: int) -> None:
    config = ModelConfig.from_metadata(METADATA | extra | _scaling(factor=4.0, attn_factor=1.5))
    assert config.n_ctx_orig_yarn == n_ctx_orig
    assert config.rope_attn_factor == 1.5, "it counts whatever the type"


def test_keys_that_other_architectures_read_are_named_and_change_nothing() -> None:
    extra = _scaling(yarn_ext_factor=0.5, yarn_attn_factor=2.0, yarn_beta_fast=8.0, yarn_beta_slow=2.0,
                     yarn_log_multiplier=0.1) | {"llama.attention.sliding_window": 4096}  # fmt: skip
    oddities: list[str] = []
    config = ModelConfig.from_metadata(METADATA | _scaling(type="yarn") | extra, oddities)
    assert config == ModelConfig.from_metadata(METADATA | _scaling(type="yarn"))
    assert sorted(oddities) == sorted(f"{key} is not used for this architecture" for key in extra)


@pytest.mark.parametrize("architecture", ["qwen2", "mistral3", "phi3"])
def test_another_architecture_is_named_and_ours_is_listed_with_its_models(architecture: str) -> None:
    with pytest.raises(ModelError) as caught:
        ModelConfig.from_metadata(METADATA | {"general.architecture": architecture})
    message = str(caught.value)
    assert message.startswith(f"general.architecture: {architecture!r} is not supported, expected 'llama'")
    for family in ("Llama 1 to 3.3", "TinyLlama", "CodeLlama", "Vicuna", "Mistral 7B and Nemo", "SmolLM",
                   "DeepSeek-LLM", "DeepSeek-R1-Distill-Llama", "Yi"):  # fmt: skip
        assert family in message


@pytest.mark.parametrize("key", [k for k in METADATA if k != "llama.vocab_size"])
def test_a_missing_key_is_named(key: str) -> None:
    with pytest.raises(ModelError, match=key):
        ModelConfig.from_metadata({k: v for k, v in METADATA.items() if k != key})
