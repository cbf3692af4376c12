"""Tiny random Llamas of transformers, the models that the exports are made of."""

from __future__ import annotations

from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "tied": {"tie_word_embeddings": True, "rope_theta": 500000.0},
    "biases": {"attention_bias": True, "mlp_bias": True, "rms_norm_eps": 1e-6},
    "llama3": {"rope_scaling": LLAMA3, "rope_theta": 500000.0},
    "linear": {"rope_scaling": {"rope_type": "linear", "factor": 2.0}},
    "yarn": {"rope_scaling": YARN},
    "wide_heads": {"head_dim": 16},
    # The builder of ONNX Runtime GenAI takes any product with as many outputs as the vocabulary has for the head.
    "more_words": {"head_dim": 16, "vocab_size": 96},
    "one_kv_head": {"num_key_value_heads": 1},
}
"""What the variants change of `SIZES`."""

SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 64,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def tiny_llama(variant: str, seed: int = 0, attention: str = "eager") -> LlamaForCausalLM:
    """A float32 model with random weights, the same for the same arguments.

    The weights are multiples of 1/32: half precision holds them, and files of them can be compressed.

    Args:
        variant: one of `VARIANTS`.
        seed: of the weights.
        attention: which implementation of transformers computes attention.
    """
    config = LlamaConfig(**(SIZES | VARIANTS[variant]), attn_implementation=attention)
    model = LlamaForCausalLM(config)
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, values in sorted(model.named_parameters()):
            spread = 0.5 if values.ndim == 1 else 0.2
            drawn = torch.round(torch.randn(values.shape, generator=random) * spread * 32) / 32
            values.copy_(1.0 + drawn / 2 if name.endswith("norm.weight") else drawn)
    return model.eval()
