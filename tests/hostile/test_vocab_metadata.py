"""Malformed vocabularies: each raises one clear `ModelError` that names the key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from llorch.errors import ModelError
from llorch.formats.gguf.file import GGUFFile
from llorch.text.tokenizer import load_tokenizer
from tests.support.tiny_models import write_tiny_llama
from tests.support.vocabularies import SPECIAL, spm_metadata

N_VOCAB = 260  # three special tokens, 256 bytes, one piece
SPECIAL_IDS = (
    "bos_token_id", "eos_token_id", "unknown_token_id", "eot_token_id", "eom_token_id", "padding_token_id",
    "seperator_token_id", "cls_token_id", "mask_token_id", "fim_pre_token_id", "fim_suf_token_id",
    "fim_mid_token_id", "fim_pad_token_id", "fim_rep_token_id", "fim_sep_token_id", "prefix_token_id",
    "suffix_token_id", "middle_token_id",
)  # fmt: skip


def refused(overrides: dict[str, Any], key: str) -> str:
    with pytest.raises(ModelError) as caught:
        load_tokenizer(spm_metadata(["a"], overrides=overrides))
    message = str(caught.value)
    assert message.startswith(f"tokenizer.ggml.{key}: "), message
    assert "\n" not in message
    assert len(message) < 300
    return message


@pytest.mark.parametrize(
    "value", [2, True, "2", [b"2"], np.zeros(1, np.float32), np.zeros(1, np.int64), np.zeros(1, bool)]
)
def test_a_list_of_ends_that_is_no_array_of_ids_is_refused(value: object) -> None:
    refused({"eos_token_ids": value}, "eos_token_ids")


def test_ends_outside_the_vocabulary_are_left_out_with_a_note() -> None:
    oddities: list[str] = []
    ids = np.array([-1, 1, N_VOCAB, 2**31 - 1], np.int32)
    vocab = load_tokenizer(spm_metadata(["a"], overrides={"eos_token_ids": ids}), oddities).vocab
    assert vocab.eog_ids == {1, 2}
    assert oddities == [
        f"3 ids of tokenizer.ggml.eos_token_ids lie outside the vocabulary of {N_VOCAB} tokens, ignored"
    ]


@pytest.mark.parametrize(
    "value", [None, 7, True, [b"llama"], "", "gpt-2", "bert", "no_vocab", "x" * 100_000, "a\nb"]
)
def test_a_tokenizer_model_that_is_not_supported_is_refused(value: object) -> None:
    refused({"model": value}, "model")


def test_an_unknown_model_is_named_with_what_is_supported() -> None:
    assert "'t5' is not supported yet (supported: 'llama', 'gpt2')" in refused({"model": "t5"}, "model")


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        np.zeros(0, np.int32),
        np.zeros(N_VOCAB, np.int32),
        5,
        "abc",
        b"abc",
        ["<unk>", "<s>", "</s>"],
        [b"a", 3],
    ],
    ids=lambda value: type(value).__name__,
)
def test_tokens_must_be_a_full_array_of_strings(value: object) -> None:
    refused({"tokens": value}, "tokens")


@pytest.mark.parametrize("n", [0, 1, N_VOCAB - 1])
def test_scores_and_types_must_be_there_for_every_token(n: int) -> None:
    assert f"expected {N_VOCAB} values" in refused({"scores": np.zeros(n, np.float32)}, "scores")
    assert f"got {n}" in refused({"token_type": np.ones(n, np.int32)}, "token_type")


@pytest.mark.parametrize(
    "value",
    [
        np.zeros(N_VOCAB, np.float64),
        np.zeros(N_VOCAB, np.int64),
        np.zeros(N_VOCAB, bool),
        [b""] * N_VOCAB,
        1.0,
        "x",
    ],
    ids=lambda value: str(getattr(value, "dtype", type(value).__name__)),
)
def test_scores_must_be_float32_or_int32(value: object) -> None:
    assert "expected an array of float32 or int32" in refused({"scores": value}, "scores")


@pytest.mark.parametrize(
    "value",
    [
        np.ones(N_VOCAB, np.float32),
        np.ones(N_VOCAB, np.uint32),
        np.ones(N_VOCAB, np.int8),
        [b""] * N_VOCAB,
        1,
    ],
    ids=lambda value: str(getattr(value, "dtype", type(value).__name__)),
)
def test_types_must_be_int32(value: object) -> None:
    assert "expected an array of int32" in refused({"token_type": value}, "token_type")


def test_a_score_that_is_not_a_number_is_refused() -> None:
    scores = np.zeros(N_VOCAB, np.float32)
    scores[17] = np.nan
    assert "token 17" in refused({"scores": scores}, "scores")


def test_infinite_scores_are_in_order_and_therefore_fine() -> None:
    scores = np.linspace(-1, 1, N_VOCAB, dtype=np.float32)
    scores[[5, 6, 259]] = np.inf, -np.inf, np.inf
    assert load_tokenizer(spm_metadata(["a"], overrides={"scores": scores})).encode("a")[-1] == 259


@pytest.mark.parametrize("name", SPECIAL_IDS)
@pytest.mark.parametrize("value", [True, 1.0, "1", [b"1"], np.array([1, 2], np.int32)], ids=repr)
def test_special_ids_must_be_integers(name: str, value: object) -> None:
    assert "expected a token id" in refused({name: value}, name)


@pytest.mark.parametrize("name", ["add_bos_token", "add_eos_token", "add_space_prefix"])
@pytest.mark.parametrize(
    "value", [2, -1, 2**64 - 1, 1.0, "true", [b"true"], np.array([True]), np.array([1])], ids=repr
)
def test_flags_must_be_true_or_false(name: str, value: object) -> None:
    assert "expected true or false" in refused({name: value}, name)


@pytest.mark.parametrize("text", [b"", b"<0x", b"<0xZZ>", b"<0x123>", b"a", b"\xff" * 6])
def test_a_byte_token_that_spells_no_byte_is_refused(text: bytes) -> None:
    metadata = spm_metadata(["a"])
    tokens = metadata["tokenizer.ggml.tokens"]
    tokens[200] = text
    assert "token 200 is a byte token" in refused({"tokens": tokens}, "token_type")


def test_odd_tokens_are_no_danger() -> None:
    odd = [b"", b"\xff\xfe", b"\xe2\x96", b"\0", "▁".encode() * 1000, b"a" * 100_000]
    tokens = [text.encode() for text, _ in SPECIAL] + odd
    for token_type in (0, 1, 2, 3, 4, 5, -1, 2**31 - 1):
        types = np.array([2, 3, 3] + [token_type] * len(odd), np.int32)
        tokenizer = load_tokenizer(
            spm_metadata(overrides={"tokens": tokens, "scores": None, "token_type": types})
        )
        for parse_special in (False, True):
            token_ids = tokenizer.encode("a\0 ▁b\xff" + "a" * 1000, parse_special=parse_special)
            assert all(0 <= token_id < len(tokens) for token_id in token_ids)
        for token_id in range(len(tokens)):
            tokenizer.decode([token_id], special=True)
            tokenizer.piece(token_id)


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        ({"bos_token_id": (gguf.GGUFValueType.FLOAT32, 1.0)}, "bos_token_id"),
        ({"eos_token_id": (gguf.GGUFValueType.BOOL, True)}, "eos_token_id"),
        ({"scores": [0.0] * 319}, "scores"),
        ({"scores": [float("nan")] * 320}, "scores"),
        ({"token_type": [1] * 319}, "token_type"),
        ({"tokens": None}, "tokens"),
        ({"model": "rwkv"}, "model"),
        ({"add_bos_token": (gguf.GGUFValueType.UINT8, 2)}, "add_bos_token"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_files_on_disk_are_refused_alike(tmp_path: Path, overrides: dict[str, Any], key: str) -> None:
    path = tmp_path / "model.gguf"
    write_tiny_llama(path, overrides={f"tokenizer.ggml.{name}": value for name, value in overrides.items()})
    with pytest.raises(ModelError, match=rf"^tokenizer\.ggml\.{key}: "):
        load_tokenizer(GGUFFile(path).metadata)
