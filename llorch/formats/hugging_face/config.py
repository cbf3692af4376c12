"""`config.json` of a Llama model: what transformers makes of it, under GGUF keys.

Source: transformers, `LlamaConfig`, `MistralConfig` and the modules that they configure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llorch.errors import shown
from llorch.formats.hugging_face.config_values import ConfigValues
from llorch.formats.hugging_face.rope_scaling import RopeScaling, read_rope_scaling
from llorch.formats.protocol import MetadataValue

ARCHITECTURES = {"llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM"}
"""By `model_type`. Mistral is Llama with a sliding window."""
_ACTIVATIONS = ("silu", "swish")
"""Two names of the same function."""
_MISTRAL_WINDOW, _MISTRAL_KV_HEADS = 4096, 8
"""What a Mistral config that lacks the keys means."""


@dataclass(frozen=True, slots=True)
class LlamaSizes:
    """What a `config.json` says of the weights.

    Attributes:
        n_vocab: rows of the embedding.
        n_embd: width of the residual stream.
        n_layer: transformer blocks.
        n_head, n_head_kv: query heads, and key/value heads they share.
        head_dim: width of one head.
        n_ff: width of the feed-forward network.
        attention_bias: whether the four matrices of attention have biases.
        mlp_bias: whether the three of the feed-forward network have.
        is_tied: whether the head is the embedding.
    """

    n_vocab: int
    n_embd: int
    n_layer: int
    n_head: int
    n_head_kv: int
    head_dim: int
    n_ff: int
    attention_bias: bool
    mlp_bias: bool
    is_tied: bool


@dataclass(frozen=True, slots=True)
class LlamaConfig:
    """A checked `config.json`.

    Attributes:
        sizes: of the weights.
        n_ctx: positions for which the model computes what transformers does.
        norm_eps: epsilon of RMSNorm.
        rope: frequencies of RoPE.
    """

    sizes: LlamaSizes
    n_ctx: int
    norm_eps: float
    rope: RopeScaling

    def metadata(self) -> dict[str, MetadataValue]:
        """The config under GGUF keys."""
        sizes = self.sizes
        return {
            "general.architecture": "llama",
            "llama.block_count": sizes.n_layer,
            "llama.context_length": self.n_ctx,
            "llama.embedding_length": sizes.n_embd,
            "llama.feed_forward_length": sizes.n_ff,
            "llama.attention.head_count": sizes.n_head,
            "llama.attention.head_count_kv": sizes.n_head_kv,
            "llama.attention.key_length": sizes.head_dim,
            "llama.attention.value_length": sizes.head_dim,
            "llama.attention.layer_norm_rms_epsilon": self.norm_eps,
            "llama.vocab_size": sizes.n_vocab,
            "llama.rope.dimension_count": sizes.head_dim,
            **self.rope.metadata,
        }


def read_config(config: Mapping[str, Any], label: str) -> LlamaConfig:
    """Read and check a parsed `config.json`.

    Args:
        config: the object in the file.
        label: its path, for errors.

    Raises:
        ModelError: the model is no Llama, or needs what llorch does not have; the message names the key.
    """
    values = ConfigValues(config, label)
    model_type = _model_type(values)
    activation = values.get("hidden_act") or _ACTIVATIONS[0]
    if activation not in _ACTIVATIONS:
        raise values.error("hidden_act", f"{shown(activation)} is not supported, expected 'silu'")
    sizes = _sizes(values, model_type)
    n_ctx = values.count("max_position_embeddings")
    rope = read_rope_scaling(values, sizes.head_dim, n_ctx)
    return LlamaConfig(
        sizes=sizes,
        n_ctx=min(n_ctx, _window(values, model_type, n_ctx)),
        norm_eps=values.positive("rms_norm_eps", 1e-6),
        rope=rope,
    )


def _model_type(values: ConfigValues) -> str:
    supported = f"llorch runs {' and '.join(ARCHITECTURES.values())}"
    named = values.get("architectures")
    model_type = values.get("model_type")
    if named is None and model_type in tuple(ARCHITECTURES):
        return str(model_type)
    by_name = {name: kind for kind, name in ARCHITECTURES.items()}
    if not isinstance(named, list) or len(named) != 1 or named[0] not in tuple(by_name):
        raise values.error("architectures", f"{shown(named)} is not supported: {supported}")
    kind = by_name[named[0]]
    if model_type not in (None, kind):
        raise values.error(
            "model_type", f"{shown(model_type)} contradicts architectures {shown(named)}: {supported}"
        )
    return kind


def _sizes(values: ConfigValues, model_type: str) -> LlamaSizes:
    n_embd, n_head = values.count("hidden_size"), values.count("num_attention_heads")
    if values.get("head_dim") is None and n_embd % n_head:
        raise values.error(
            "num_attention_heads",
            f"{n_head} do not share hidden_size {n_embd} evenly, and there is no head_dim",
        )
    is_llama = model_type == "llama"
    n_head_kv = values.count("num_key_value_heads", n_head)
    if not is_llama and "num_key_value_heads" not in values.values:
        n_head_kv = _MISTRAL_KV_HEADS
    if n_head % n_head_kv:
        raise values.error("num_key_value_heads", f"{n_head_kv} does not divide num_attention_heads {n_head}")
    head_dim = values.count("head_dim", n_embd // n_head)
    if head_dim % 2:
        raise values.error("head_dim", f"{head_dim} is odd; RoPE rotates pairs")
    return LlamaSizes(
        n_vocab=values.count("vocab_size"),
        n_embd=n_embd,
        n_layer=values.count("num_hidden_layers"),
        n_head=n_head,
        n_head_kv=n_head_kv,
        head_dim=head_dim,
        n_ff=values.count("intermediate_size"),
        attention_bias=is_llama and values.flag("attention_bias", False),
        mlp_bias=is_llama and values.flag("mlp_bias", False),
        is_tied=values.flag("tie_word_embeddings", False),
    )


def _window(values: ConfigValues, model_type: str, n_ctx: int) -> int:
    """Positions that attention sees; up to that many, a model with a sliding window is one without."""
    if model_type != "mistral":
        return n_ctx
    if "sliding_window" not in values.values:
        return _MISTRAL_WINDOW
    return n_ctx if values.get("sliding_window") is None else values.count("sliding_window")
