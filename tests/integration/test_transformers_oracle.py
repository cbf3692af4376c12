"""Our logits against Hugging Face transformers, which shares nothing with llama.cpp.

Needs torch and transformers (the `dev` extra). The other independent oracle, float64 NumPy, is in
`tests/unit/model/test_llama.py`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from numpy.typing import NDArray

from llorch.conversation import Conversation
from llorch.open_model import OpenModel, open_model

TOLERANCE = 1e-4
"""Largest difference of a logit: two float32 computations through all layers of a small model."""

F32_MODELS = ["stories260K-f32.gguf", "tinystories-656k-f32.gguf"]
TEXT = "Once upon a time there was a little girl who liked to play in the garden. One day she found a"


@contextmanager
def opened(path: Path) -> Iterator[OpenModel]:
    model = open_model(path, n_threads=1, n_batch=64)
    try:
        yield model
    finally:
        model.close()


def our_logits(model: OpenModel, token_ids: list[int]) -> NDArray[np.float32]:
    return Conversation(model.llama, len(token_ids)).feed(tuple(token_ids), 0, all_rows=True)


pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(
        not (importlib.util.find_spec("torch") and importlib.util.find_spec("transformers")),
        reason="torch and transformers are not installed",
    ),
]


def transformers_model(path: Path) -> Any:
    """The weights of a GGUF file in Hugging Face's own implementation of Llama."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    reader = gguf.GGUFReader(path)
    weight = {
        t.name: torch.from_numpy(np.array(t.data, np.float32).reshape([int(n) for n in reversed(t.shape)]))
        for t in reader.tensors
    }

    def field(key: str) -> Any:
        return reader.fields[f"llama.{key}"].contents()

    n_head, n_head_kv = field("attention.head_count"), field("attention.head_count_kv")
    config = LlamaConfig(
        vocab_size=len(weight["token_embd.weight"]),
        hidden_size=field("embedding_length"),
        intermediate_size=field("feed_forward_length"),
        num_hidden_layers=field("block_count"),
        num_attention_heads=n_head,
        num_key_value_heads=n_head_kv,
        rms_norm_eps=field("attention.layer_norm_rms_epsilon"),
        rope_theta=field("rope.freq_base"),
        tie_word_embeddings="output.weight" not in weight,
        max_position_embeddings=field("context_length"),
        attn_implementation="eager",
    )
    model = LlamaForCausalLM(config)
    missing, unexpected = model.load_state_dict(_state(weight, n_head, n_head_kv), strict=False)
    assert not unexpected
    assert set(missing) <= {"lm_head.weight"}
    model.tie_weights()
    return model.eval()


def _state(weight: dict[str, Any], n_head: int, n_head_kv: int) -> dict[str, Any]:
    """Hugging Face's names; its RoPE is half-split, so the rows of Q and K go back to that order."""
    names = {
        "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
        "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj",
    }  # fmt: skip
    outer = {
        "token_embd.weight": "model.embed_tokens.weight",
        "output_norm.weight": "model.norm.weight",
        "output.weight": "lm_head.weight",
    }
    state = {}
    for name, values in weight.items():
        if name in outer:
            state[outer[name]] = values
            continue
        _, layer, part, _ = name.split(".")
        if part in ("attn_q", "attn_k"):
            heads = n_head if part == "attn_q" else n_head_kv
            n_out, n_in = values.shape
            values = values.reshape(heads, n_out // heads // 2, 2, n_in).transpose(1, 2).reshape(n_out, n_in)
        state[f"model.layers.{layer}.{names[part]}.weight"] = values
    return state


@pytest.mark.parametrize("name", F32_MODELS)
def test_logits_are_those_of_transformers(model_path: Callable[[str], Path], name: str) -> None:
    import torch

    path = model_path(name)
    with opened(path) as model:
        token_ids = model.tokenizer.encode(TEXT)
        ours = our_logits(model, token_ids)
    with torch.no_grad():
        theirs = transformers_model(path)(torch.tensor([token_ids])).logits[0].numpy()
    assert np.abs(ours - theirs).max() < TOLERANCE


def test_a_hugging_face_folder_gives_the_same_logits_as_its_gguf_file(
    model_path: Callable[[str], Path],
) -> None:
    import torch
    from transformers import LlamaForCausalLM

    with opened(model_path("tinystories-656k-f32.gguf")) as model:
        token_ids = model.tokenizer.encode(TEXT)
        ours = our_logits(model, token_ids)
    original = LlamaForCausalLM.from_pretrained(model_path("tinystories-656k"), dtype=torch.float32).eval()
    with torch.no_grad():
        theirs = original(torch.tensor([token_ids])).logits[0].numpy()
    assert np.abs(ours - theirs).max() < TOLERANCE
