from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from llorch.formats.gguf.file import GGUFFile
from llorch.text.tokenizer import load_tokenizer
from llorch.text.vocab import TokenType, Vocabulary, byte_value
from tests.support.vocabularies import llama2_tokenizer, spm_metadata


def test_llama2_vocabulary_is_read_as_the_file_says() -> None:
    vocab = llama2_tokenizer().vocab
    assert vocab.n_vocab == 32_000
    assert vocab.tokens[15043] == "▁Hello".encode()
    assert (vocab.unk_id, vocab.bos_id, vocab.eos_id) == (0, 1, 2)
    assert (vocab.add_bos, vocab.add_eos, vocab.add_space_prefix) == (True, False, True)
    assert vocab.eog_ids == {2}
    assert vocab.types[13] == TokenType.BYTE
    assert vocab.scores.dtype == np.float32


def test_absent_keys_mean_what_the_llama_tokenizer_means_by_them() -> None:
    vocab = Vocabulary.from_metadata(spm_metadata(["a"]))
    assert (vocab.unk_id, vocab.bos_id, vocab.eos_id) == (0, 1, 2)
    assert (vocab.add_bos, vocab.add_eos, vocab.add_space_prefix) == (True, False, True)


def test_keys_win_over_defaults() -> None:
    overrides = {
        "bos_token_id": 4, "eos_token_id": 5, "unknown_token_id": 6,
        "add_bos_token": False, "add_eos_token": True, "add_space_prefix": False,
    }  # fmt: skip
    vocab = Vocabulary.from_metadata(spm_metadata(["a"], overrides=overrides))
    assert (vocab.bos_id, vocab.eos_id, vocab.unk_id) == (4, 5, 6)
    assert (vocab.add_bos, vocab.add_eos, vocab.add_space_prefix) == (False, True, False)


def test_missing_scores_and_types_mean_zero_and_normal() -> None:
    metadata = spm_metadata(["a"], has_bytes=False, overrides={"scores": None, "token_type": None})
    vocab = Vocabulary.from_metadata(metadata)
    assert vocab.scores.tolist() == [0.0] * 4
    assert vocab.types[3] == TokenType.NORMAL


def test_integer_scores_are_taken_as_numbers() -> None:
    scores = np.arange(4, dtype=np.int32)
    vocab = Vocabulary.from_metadata(spm_metadata(["a"], has_bytes=False, overrides={"scores": scores}))
    assert vocab.scores.tolist() == [0.0, 1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    "text", ["<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|endoftext|>", "<|fim_pad|>"]
)
def test_tokens_that_end_a_turn_are_known_by_their_text(text: str) -> None:
    vocab = Vocabulary.from_metadata(spm_metadata(["a", text]))
    token_id = vocab.tokens.index(text.encode())
    assert vocab.eog_ids == {2, token_id}
    assert vocab.is_control(token_id), "whatever type the file gives it"


def test_end_of_turn_and_end_of_message_keys_end_a_generation() -> None:
    vocab = Vocabulary.from_metadata(
        spm_metadata(["a", "b"], overrides={"eot_token_id": 259, "eom_token_id": 260, "eos_token_id": 259})
    )
    assert {259, 260} <= vocab.eog_ids


@pytest.mark.parametrize("dtype", [np.int32, np.uint32])
def test_every_id_of_a_list_of_ends_ends_a_generation(dtype: type[np.generic]) -> None:
    ids = np.array([259, 260, 3, 261], dtype)
    vocab = Vocabulary.from_metadata(spm_metadata(["a", "b", "c"], overrides={"eos_token_ids": ids}))
    assert vocab.eog_ids == {2, 3, 259, 260, 261}
    assert vocab.eos_id == 2


def ends(*texts: str) -> set[str]:
    """Which of these tokens end a generation."""
    vocab = Vocabulary.from_metadata(spm_metadata(["a", *texts]))
    return {vocab.tokens[token_id].decode() for token_id in vocab.eog_ids}


@pytest.mark.parametrize("others", [("<|return|>", "<|call|>"), ("<|flush|>", "<|calls|>")])
def test_the_end_of_a_message_is_no_end_where_a_call_or_a_return_is_one(others: tuple[str, ...]) -> None:
    assert ends("<|end|>", others[0]) == {"</s>", "<|end|>", others[0]}
    assert ends("<|end|>", *others) == {"</s>", *others}
    vocab = Vocabulary.from_metadata(spm_metadata(["<|end|>", *others]))
    assert vocab.types[vocab.tokens.index(b"<|end|>")] == TokenType.USER_DEFINED


def test_the_old_end_of_a_text_is_ordinary_where_a_tool_response_ends_it() -> None:
    assert ends("<|tool_response>") == {"<|tool_response>"}
    assert Vocabulary.from_metadata(spm_metadata(["<|tool_response>"])).types[2] == TokenType.NORMAL


def test_special_tokens_of_phi3_swallow_the_white_space_behind_them() -> None:
    metadata = spm_metadata(["▁", "a"], special=[("<|user|>", TokenType.CONTROL)])
    text = "<|user|> \n a<s> a<|user|>\u00a0a"
    plain = load_tokenizer(metadata).encode(text, parse_special=True)
    swallowed = load_tokenizer(metadata | {"general.name": "Phi-3 mini"}).encode(text, parse_special=True)
    without = load_tokenizer(metadata).encode(text.replace("> \n a", ">a"), parse_special=True)
    assert swallowed == without != plain


def test_types_of_the_future_are_kept_as_undefined() -> None:
    types = np.array([2, 3, 3, 99], np.int32)
    vocab = Vocabulary.from_metadata(spm_metadata(["a"], has_bytes=False, overrides={"token_type": types}))
    assert vocab.types[3] == TokenType.UNDEFINED


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"<0x0A>", 10),
        (b"<0xff>", 255),
        (b"<0x00>", 0),
        (b"<0xG0>", None),
        (b"<0x 1>", None),
        (b"<0x1>", None),
        (b"<0x\xe2\x96>", None),
        (b"", None),
    ],
)
def test_byte_value_reads_byte_tokens_only(text: bytes, value: int | None) -> None:
    assert byte_value(text) == value


def test_a_vocabulary_opens_fast(model_path: Callable[[str], Path]) -> None:
    metadata = GGUFFile(model_path("ggml-vocab-llama-spm.gguf")).metadata
    start = time.thread_time()
    load_tokenizer(metadata)
    assert time.thread_time() - start < 0.5, "takes about 0.03 s"
