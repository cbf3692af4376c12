"""A small vocabulary with control tokens of many formats, for tests of chat templates."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

from llorch.text.tokenizer import Tokenizer, load_tokenizer

CONTROLS = (
    "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>",
    "<|user|>", "<|assistant|>", "<|system|>", "<|end|>",
)  # fmt: skip
USER_DEFINED = ("<think>", "</think>")


@cache
def chat_tokenizer(*, add_bos: bool = True, add_eos: bool = False) -> Tokenizer:
    """A tokenizer whose text tokens are single bytes and a few words."""
    words = ("▁", "Hi", "▁Hi", "user", "assistant", "system", "\n\n")
    tokens = ["<unk>", *CONTROLS, *USER_DEFINED, *(f"<0x{byte:02X}>" for byte in range(256)), *words]
    types = [2] + [3] * len(CONTROLS) + [4] * len(USER_DEFINED) + [6] * 256 + [1] * len(words)
    metadata = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [token.encode() for token in tokens],
        "tokenizer.ggml.scores": np.zeros(len(tokens), np.float32),
        "tokenizer.ggml.token_type": np.array(types, np.int32),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.add_bos_token": add_bos,
        "tokenizer.ggml.add_eos_token": add_eos,
    }
    return load_tokenizer(metadata)


def pieces(tokenizer: Tokenizer, token_ids: Sequence[int]) -> list[str]:
    """Tokens as the vocabulary spells them."""
    return [tokenizer.piece(token_id) for token_id in token_ids]


def controls(tokenizer: Tokenizer, token_ids: Sequence[int]) -> list[str]:
    """The control tokens among them."""
    return [tokenizer.piece(token_id) for token_id in token_ids if tokenizer.vocab.is_control(token_id)]
