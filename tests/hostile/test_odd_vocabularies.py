"""Vocabularies that are odd but usable: read as llama.cpp reads them, each oddity noted in one clause."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from llorch.errors import ModelError
from llorch.text.tokenizer import Tokenizer, load_tokenizer
from llorch.text.vocab import TokenType
from tests.support.vocabularies import SPECIAL, spm_metadata

N_VOCAB = 260  # three special tokens, 256 bytes, one piece
USED_IDS = {"bos_token_id": 1, "eos_token_id": 2, "unknown_token_id": 0}
"""Their defaults."""
END_IDS = ("eot_token_id", "eom_token_id", "fim_pad_token_id", "fim_rep_token_id", "fim_sep_token_id")
UNUSED_IDS = (
    "padding_token_id", "seperator_token_id", "cls_token_id", "mask_token_id", "fim_pre_token_id",
    "fim_suf_token_id", "fim_mid_token_id", "prefix_token_id", "suffix_token_id", "middle_token_id",
)  # fmt: skip
NONE_IDS = [-1, 2**32 - 1, 2**64 - 1]
OUTSIDE_IDS = [-2, -(2**31), N_VOCAB, 2**31 - 1, 2**32 - 2, 2**63]
FLAGS = {"add_bos_token": "add_bos", "add_eos_token": "add_eos", "add_space_prefix": "add_space_prefix"}


def read(overrides: dict[str, Any], pieces: tuple[str, ...] = ("a",)) -> tuple[Tokenizer, list[str]]:
    """The tokenizer, and what is odd about its file."""
    oddities: list[str] = []
    tokenizer = load_tokenizer(spm_metadata(pieces, overrides=overrides), oddities)
    assert all(oddity.isprintable() and len(oddity) < 200 for oddity in oddities)
    return tokenizer, oddities


def special_ids(tokenizer: Tokenizer) -> dict[str, int | None]:
    vocab = tokenizer.vocab
    return {"bos_token_id": vocab.bos_id, "eos_token_id": vocab.eos_id, "unknown_token_id": vocab.unk_id}


def test_a_vocabulary_without_oddities_is_not_talked_about() -> None:
    overrides = {"bos_token_id": 1, "padding_token_id": 0, "eot_token_id": 259, "add_bos_token": True}
    assert read(overrides)[1] == []
    assert read({})[1] == []


@pytest.mark.parametrize("name", [*END_IDS, *UNUSED_IDS])
@pytest.mark.parametrize("value", NONE_IDS + OUTSIDE_IDS)
def test_an_optional_id_outside_the_vocabulary_is_none(name: str, value: int) -> None:
    tokenizer, (oddity,) = read({name: value})
    assert f"tokenizer.ggml.{name} " in oddity
    assert str(value) in oddity
    assert ("means none" in oddity) is (value in NONE_IDS)
    assert tokenizer.vocab.eog_ids == {2}
    assert special_ids(tokenizer) == USED_IDS


@pytest.mark.parametrize("name", USED_IDS)
@pytest.mark.parametrize("value", NONE_IDS)
def test_minus_one_says_that_there_is_no_such_token(name: str, value: int) -> None:
    tokenizer, oddities = read({name: value, "add_bos_token": False})
    assert oddities == [f"tokenizer.ggml.{name} is {value}, which means none"]
    assert special_ids(tokenizer) == USED_IDS | {name: None}


@pytest.mark.parametrize("name", USED_IDS)
@pytest.mark.parametrize("value", OUTSIDE_IDS)
def test_in_place_of_an_id_outside_the_vocabulary_the_default_counts(name: str, value: int) -> None:
    tokenizer, (oddity,) = read({name: value})
    assert oddity == (
        f"tokenizer.ggml.{name} {value} lies outside the vocabulary of {N_VOCAB} tokens, "
        f"the default {USED_IDS[name]} counts"
    )
    assert special_ids(tokenizer) == USED_IDS


@pytest.mark.parametrize("n_vocab", [1, 2])
def test_a_default_outside_a_tiny_vocabulary_is_none(n_vocab: int) -> None:
    tokens = [text.encode() for text, _ in SPECIAL][:n_vocab]
    overrides: dict[str, Any] = {"tokens": tokens, "scores": None, "token_type": None}
    tokenizer, oddities = read(overrides)
    assert special_ids(tokenizer) == {
        name: token_id if token_id < n_vocab else None for name, token_id in USED_IDS.items()
    }
    outside = f"lies outside the vocabulary of {n_vocab} tokens"
    default = f"the default 2 of tokenizer.ggml.eos_token_id {outside}, so there is none"
    assert default in oddities
    tokenizer, oddities = read(overrides | {"eos_token_id": 7})
    assert tokenizer.vocab.eos_id is None
    assert f"tokenizer.ggml.eos_token_id 7 {outside}, ignored" in oddities
    assert default in oddities


def test_without_a_bos_no_text_gets_one_and_it_is_said() -> None:
    tokenizer, oddities = read({"bos_token_id": -1, "add_bos_token": True})
    assert tokenizer.encode("a", add_bos=True) == tokenizer.encode("a", add_bos=False)
    assert tokenizer.encode("a") == read({"add_bos_token": False})[0].encode("a")
    assert oddities[1:] == ["texts get no BOS, as there is none"]


def test_without_an_eos_no_text_gets_one_and_it_is_said() -> None:
    tokenizer, oddities = read({"eos_token_id": 2**32 - 1, "add_eos_token": True})
    assert tokenizer.encode("a", add_eos=True) == tokenizer.encode("a", add_eos=False)
    assert oddities[1:] == ["texts get no EOS, as there is none"]
    assert tokenizer.vocab.eog_ids == {2}, "</s> ends a text whatever the keys say"


def test_a_vocabulary_that_cannot_end_a_text_is_used_and_it_is_said() -> None:
    tokens = [b"<unk>", b"<begin>", b"<end>", b"a"]
    overrides = {"tokens": tokens, "scores": None, "token_type": np.array([2, 3, 3, 1], np.int32)}
    tokenizer, oddities = read(overrides | {"eos_token_id": -1})
    assert not any(tokenizer.is_eog(token_id) for token_id in range(4))
    assert oddities[-1] == "no token ends a text"


def test_an_unknown_token_is_needed_where_there_are_no_byte_tokens() -> None:
    metadata = spm_metadata(["a"], has_bytes=False, overrides={"unknown_token_id": -1})
    with pytest.raises(ModelError, match=r"^tokenizer\.ggml\.unknown_token_id: needed"):
        load_tokenizer(metadata)
    tokenizer = load_tokenizer(spm_metadata(["a"], has_bytes=False, overrides={"unknown_token_id": 99}))
    assert tokenizer.encode("日") == [1, 0], "the default is as good here as in llama.cpp"


@pytest.mark.parametrize("name", FLAGS)
@pytest.mark.parametrize("value", [0, 1])
def test_a_flag_as_an_integer_is_taken_as_one(name: str, value: int) -> None:
    tokenizer, (oddity,) = read({name: value})
    assert getattr(tokenizer.vocab, FLAGS[name]) is bool(value)
    assert oddity == f"tokenizer.ggml.{name} is the integer {value}, read as {('false', 'true')[value]}"
    assert tokenizer.encode("a a") == read({name: bool(value)})[0].encode("a a")


@pytest.mark.parametrize("n", [N_VOCAB + 1, 2 * N_VOCAB, 1_000_000])
def test_scores_and_types_beyond_the_tokens_are_ignored(n: int) -> None:
    metadata = spm_metadata(["a"])
    scores = np.full(n, np.nan, np.float32)
    scores[:N_VOCAB] = metadata["tokenizer.ggml.scores"]
    types = np.full(n, TokenType.BYTE, np.int32)
    types[:N_VOCAB] = metadata["tokenizer.ggml.token_type"]
    tokenizer, oddities = read({"scores": scores, "token_type": types})
    plain = read({})[0].vocab
    assert oddities == [
        f"tokenizer.ggml.{name} has {n} values for {N_VOCAB} tokens, the surplus is ignored"
        for name in ("token_type", "scores")
    ]
    assert tokenizer.vocab.types == plain.types
    assert tokenizer.vocab.scores.tolist() == plain.scores.tolist()
