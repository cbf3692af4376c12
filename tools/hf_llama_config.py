"""config.json and generation_config.json of Hugging Face, from a GGUF file of a Llama model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from llorch.formats.gguf.file import GGUFFile
from llorch.formats.protocol import MetadataValue
from llorch.model.config import ModelConfig
from llorch.quant.codecs.floats import Floats
from llorch.quant.tensor import dequantize

LLAMA3_CONTEXTS = (8192, 16384, 4096, 2048, 512, 256, 128, 64)
"""Contexts before stretching that are tried; 8192 is that of every Llama 3."""


def config_json(config: ModelConfig, source: GGUFFile, torch_dtype: str) -> dict[str, Any]:
    """The document of a model with the sizes in `config`."""
    if config.n_rot != config.head_dim:
        raise SystemExit(
            f"{config.n_rot} of {config.head_dim} components rotate; config.json cannot say that"
        )
    tensors = source.tensors
    document: dict[str, Any] = {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": any(".attn_" in name and name.endswith(".bias") for name in tensors),
        "attention_dropout": 0.0,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "hidden_size": config.n_embd,
        "initializer_range": 0.02,
        "intermediate_size": config.n_ff,
        "max_position_embeddings": config.n_ctx_train,
        "mlp_bias": any(".ffn_" in name and name.endswith(".bias") for name in tensors),
        "model_type": "llama",
        "num_attention_heads": config.n_head,
        "num_hidden_layers": config.n_layer,
        "num_key_value_heads": config.n_head_kv,
        "pretraining_tp": 1,
        "rms_norm_eps": _decimal(config.norm_eps),
        "rope_scaling": _rope_scaling(config, source),
        "rope_theta": _decimal(config.rope_freq_base),
        "tie_word_embeddings": "output.weight" not in tensors,
        "torch_dtype": torch_dtype,
        "use_cache": True,
        "vocab_size": tensors["token_embd.weight"].shape[0],
    }
    return document | _special_ids(source.metadata)


def generation_config_json(metadata: Mapping[str, MetadataValue]) -> dict[str, Any]:
    """The document that says which tokens begin and end."""
    return {"_from_model_config": True} | _special_ids(metadata)


def _special_ids(metadata: Mapping[str, MetadataValue]) -> dict[str, Any]:
    """Ids of the tokens that begin, fill and end; a list where several end."""
    ids: dict[str, Any] = {}
    for name, key in (("bos_token_id", "bos_token_id"), ("pad_token_id", "padding_token_id")):
        if (value := metadata.get(f"tokenizer.ggml.{key}")) is not None:
            ids[name] = value
    keys = (f"tokenizer.ggml.{name}_token_id" for name in ("eos", "eot", "eom"))
    ends = list(dict.fromkeys(metadata[key] for key in keys if key in metadata))  # type: ignore[arg-type]
    if ends:
        ids["eos_token_id"] = ends if len(ends) > 1 else ends[0]
    return ids


def _rope_scaling(config: ModelConfig, source: GGUFFile) -> dict[str, Any] | None:
    factor = _decimal(1 / config.rope_freq_scale)
    if config.n_ctx_orig_yarn:
        original = config.n_ctx_orig_yarn
        return {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original}
    if "rope_freqs.weight" in source.tensors:
        return _llama3(dequantize(source.tensors["rope_freqs.weight"]), config)
    return {"rope_type": "linear", "factor": factor} if factor != 1 else None


def _llama3(divisors: Floats, config: ModelConfig) -> dict[str, Any]:
    """The numbers of Llama 3's scaling that give these divisors of the frequencies."""
    factor = _decimal(float(divisors.max()))
    for context in dict.fromkeys((*LLAMA3_CONTEXTS, config.n_ctx_train)):
        found = {
            "rope_type": "llama3", "factor": factor, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": context,
        }  # fmt: skip
        if np.allclose(llama3_divisors(found, config), divisors, rtol=1e-6, atol=0):
            return found
    raise SystemExit(
        "rope_freqs.weight is not what Llama 3's scaling gives with low and high factors 1 and 4"
    )


def llama3_divisors(scaling: Mapping[str, Any], config: ModelConfig) -> Floats:
    """Divisors of RoPE's frequencies, float32 (head_dim / 2,).

    Source: `_compute_llama3_parameters` of transformers.
    """
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    divisors = []
    for i in range(config.head_dim // 2):
        turns = scaling["original_max_position_embeddings"] / (2 * math.pi)
        turns /= config.rope_freq_base ** (2 * i / config.head_dim)
        smooth = min(1.0, max(0.0, (turns - low) / (high - low)))
        divisors.append(1 / ((1 - smooth) / scaling["factor"] + smooth))
    return np.array(divisors, np.float32)


def _decimal(value: float) -> float:
    """The shortest number that rounds to the same float32."""
    return float(str(np.float32(value)))
