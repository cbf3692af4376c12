"""`tokenizer.model`: the pieces of a SentencePiece model, and what makes one that llorch cannot use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llorch.errors import ModelError
from llorch.text.tokenizer import load_tokenizer
from tests.support.directory_vocabularies import field, piece, read, small_model, trainer

PREFIX = "tokenizer.ggml."


def test_pieces_have_their_scores_and_kinds(tmp_path: Path) -> None:
    keys = read(tmp_path, 9, tokenizer_model=small_model())
    assert keys[PREFIX + "model"] == "llama"
    assert keys[PREFIX + "pre"] == "default"
    assert keys[PREFIX + "tokens"] == [
        b"<unk>", b"<s>", b"</s>", b"<0x41>", b"a", "▁".encode(), "▁a".encode(), b"[PAD7]", b"[PAD8]",
    ]  # fmt: skip
    assert keys[PREFIX + "scores"].tolist() == [0, 0, 0, 0, -2, -3, -1, -10_000, -10_000]
    assert keys[PREFIX + "token_type"].tolist() == [2, 3, 3, 6, 1, 1, 1, 5, 5]
    assert load_tokenizer(keys).encode("aA a") == [1, 6, 3, 6]


def test_a_piece_that_a_user_defined_is_found_in_any_text(tmp_path: Path) -> None:
    keys = read(tmp_path, 8, tokenizer_model=small_model(piece("▁▁x", 0.0, 4)))
    assert keys[PREFIX + "tokens"][7] == b"  x"
    assert keys[PREFIX + "token_type"][7] == 4


def test_ids_and_the_space_in_front_are_what_the_model_says(tmp_path: Path) -> None:
    ids = [field(number, value) for number, value in ((40, 0), (41, 2), (42, 1), (43, -1))]
    keys = read(tmp_path, 7, tokenizer_model=small_model(trainer(2, *ids), field(3, field(3, 0))))
    assert (keys[PREFIX + "bos_token_id"], keys[PREFIX + "eos_token_id"]) == (2, 1)
    assert PREFIX + "padding_token_id" not in keys
    assert keys[PREFIX + "add_space_prefix"] is False


def test_tokenizer_config_overrides_the_space_in_front(tmp_path: Path) -> None:
    keys = read(tmp_path, 7, tokenizer_model=small_model(), tokenizer_config_json={"add_prefix_space": False})
    assert keys[PREFIX + "add_space_prefix"] is False


def test_added_tokens_of_other_files_come_in_the_order_of_llama_cpps_converter(tmp_path: Path) -> None:
    decoder = {
        "7": {"content": "<|im_start|>", "special": False},
        "8": {"content": "[tool]", "special": True},
        "1": {"content": "<s>", "special": True},
    }
    keys = read(
        tmp_path,
        11,
        tokenizer_model=small_model(),
        added_tokens_json={"[first]": 7, "[second]": 9},
        tokenizer_config_json={"added_tokens_decoder": decoder},
        tokenizer_json={
            "added_tokens": [
                {"id": 8, "content": "[not this]"},
                {"id": 10, "content": "[third]", "special": True},
            ]
        },
    )
    assert keys[PREFIX + "tokens"][7:] == [b"<|im_start|>", b"[tool]", b"[second]", b"[third]"]
    assert keys[PREFIX + "token_type"][7:].tolist() == [3, 3, 4, 3]
    assert keys[PREFIX + "scores"][[1, 7, 8, 9, 10]].tolist() == [-1000.0] * 5


def test_a_token_that_takes_the_place_of_another_leaves_no_trace_of_it(tmp_path: Path) -> None:
    keys = read(
        tmp_path,
        7,
        {"eos_token_id": 1},
        tokenizer_model=small_model(),
        tokenizer_config_json={
            "added_tokens_decoder": {"2": {"content": "<|end|>", "special": True}},
            "eos_token": "</s>",
            "pad_token": "<|end|>",
        },
    )
    assert keys[PREFIX + "tokens"][2] == b"<|end|>"
    assert keys[PREFIX + "eos_token_id"] == 1  # by config.json, as no token is </s> any more
    assert keys[PREFIX + "padding_token_id"] == 2


@pytest.mark.parametrize("added", [{"added_tokens_json": {"x": 7}}, {}])
def test_more_tokens_than_rows_are_refused_with_both_numbers(added: Any, tmp_path: Path) -> None:
    n_vocab = 7 if added else 6
    message = rf"tokenizer\.model: has {n_vocab + 1} tokens, but the embedding has {n_vocab} rows"
    with pytest.raises(ModelError, match=message):
        read(tmp_path, n_vocab, tokenizer_model=small_model(), **added)


REFUSED = {
    "is a SentencePiece model of the type Unigram, which is not supported": small_model(trainer(1)),
    "of the type Word": small_model(trainer(3)),
    "of the type number 9": small_model(trainer(9)),
    "has no pieces, so it is no SentencePiece model": trainer(),
    "has no pieces": b"",
    "treats white space as suffix": small_model(field(2, field(24, 1))),
    r"normalises characters \(nmt_nfkc\), which is not": small_model(
        field(3, field(1, b"nmt_nfkc") + field(2, b"rules"))
    ),
    "leaves spaces as they are": small_model(field(3, field(5, 0))),
    "piece 7 is of the kind 9; kinds are 1 to 6": small_model(piece("x", 0.0, 9)),
    "the score of piece 7 is not a number": small_model(piece("x", float("nan"))),
    "field 1 is not valid UTF-8": small_model(field(1, field(1, b"\xff"))),
    "field 1 has wire type 0": small_model(field(1, 7)),
    "behind the end of its message": small_model()[:-1],
}


@pytest.mark.parametrize("message", REFUSED)
def test_a_model_that_cannot_be_used_is_refused_by_name(message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"tokenizer\.model: .*" + message):
        read(tmp_path, 20, tokenizer_model=REFUSED[message])


@pytest.mark.parametrize(
    ("message", "decoder"),
    [
        ("added_tokens_decoder: expected an object, got list", [1]),
        ("added_tokens_decoder: expected objects by token ids, got 'x'", {"x": {"content": "a"}}),
        ("added_tokens_decoder: expected objects by token ids", {"9" * 5000: {"content": "a"}}),
        ("added_tokens_decoder: expected objects by token ids", {"²": {"content": "a"}}),
        ("added_tokens_decoder.7: expected an object", {"7": "a"}),
        ("added_tokens_decoder.7.content: expected a string", {"7": {"content": None}}),
        ("added_tokens_decoder.7.special: expected true or false", {"7": {"content": "a", "special": 1}}),
    ],
)
def test_added_tokens_that_are_malformed_are_refused_by_key(
    message: str, decoder: Any, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=r"tokenizer_config\.json: " + message):
        read(
            tmp_path,
            20,
            tokenizer_model=small_model(),
            tokenizer_config_json={"added_tokens_decoder": decoder},
        )


def test_scores_are_float32(tmp_path: Path) -> None:
    scores = read(tmp_path, 7, tokenizer_model=small_model())[PREFIX + "scores"]
    assert scores.dtype == np.float32
    assert not scores.flags.writeable
