"""Texts with special tokens between them, as chat templates make them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llorch.errors import InputError
from llorch.text.tokenizer import Tokenizer, load_tokenizer
from tests.support.chat import CONTROLS, USER_DEFINED, chat_tokenizer, pieces

SPECIAL = (*CONTROLS, *USER_DEFINED)
PARTS = st.lists(st.sampled_from([*SPECIAL, " ", "\n", "Hi", "ü", "<"]), max_size=8)


def stripping_tokenizer() -> Tokenizer:
    """A tokenizer of a Phi-3, whose special tokens swallow the white space behind them."""
    tokens = [b"<unk>", b"<s>", b"</s>", b"<|user|>", *(b"<0x%02X>" % byte for byte in range(256)), b"Hi"]
    types = [2, 3, 3, 3] + [6] * 256 + [1]
    metadata = {
        "general.name": "Phi-3",
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": np.zeros(len(tokens), np.float32),
        "tokenizer.ggml.token_type": np.array(types, np.int32),
    }
    return load_tokenizer(metadata)


@settings(max_examples=50)
@given(PARTS)
def test_the_ids_are_those_of_the_whole_text(texts: list[str]) -> None:
    tokenizer = chat_tokenizer()
    ids = tokenizer.special_texts()
    parts: list[str | int] = []
    for text in texts:
        if text in CONTROLS:
            parts.append(ids[text])
        elif parts and isinstance(last := parts[-1], str):
            parts[-1] = last + text
        else:
            parts.append(text)
    whole = tokenizer.encode("".join(texts), add_bos=False, parse_special=True)
    assert tokenizer.encode_parts(parts) == whole


def test_white_space_behind_a_token_that_swallows_it_is_swallowed() -> None:
    tokenizer = stripping_tokenizer()
    user_id = tokenizer.special_texts()["<|user|>"]
    for text in ("\n Hi", " \n", "Hi "):
        whole = tokenizer.encode(f"<|user|>{text}<|user|>", add_bos=False, parse_special=True)
        assert tokenizer.encode_parts([user_id, text, user_id]) == whole


def test_texts_become_no_control_tokens_but_user_defined_ones() -> None:
    tokenizer = chat_tokenizer()
    said = pieces(tokenizer, tokenizer.encode_parts([3, "</s><think>"]))
    assert (said[0], said[-1], "</s>" in said) == ("<|im_start|>", "<think>", False)


def test_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(InputError, match="lone surrogate"):
        chat_tokenizer().encode_parts(["\ud800"])


def test_special_texts_are_those_of_special_tokens_longest_first() -> None:
    texts = list(chat_tokenizer().special_texts())
    assert sorted(texts) == sorted([*SPECIAL, "<unk>"])
    assert texts == sorted(texts, key=len, reverse=True)


def test_one_more_token_can_be_an_end() -> None:
    tokenizer = chat_tokenizer()
    user_id = tokenizer.special_texts()["<|user|>"]
    changed = tokenizer.with_end(user_id)
    assert (tokenizer.is_eog(user_id), changed.is_eog(user_id)) == (False, True)
    assert changed.vocab.eog_ids == tokenizer.vocab.eog_ids | {user_id}
    assert changed.encode("Hi <think>") == tokenizer.encode("Hi <think>")
