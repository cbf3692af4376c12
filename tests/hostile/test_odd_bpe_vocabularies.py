"""Byte-level BPE vocabularies that are odd or malformed: used with a word about it, or refused by the key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from llorch.errors import ModelError
from llorch.formats.gguf.file import GGUFFile
from llorch.text.tokenizer import Tokenizer, load_tokenizer
from llorch.text.vocab import TokenType
from tests.support.tiny_models import write_tiny_llama
from tests.support.vocabularies import BYTE_CHARACTERS, bpe_metadata

EOS = (("<eos>", TokenType.CONTROL),)


def read(merges: tuple[str, ...] = (), **options: Any) -> tuple[Tokenizer, list[str]]:
    """The tokenizer, and what is odd about its file."""
    oddities: list[str] = []
    tokenizer = load_tokenizer(bpe_metadata(merges, **options), oddities)
    assert all(oddity.isprintable() and len(oddity) < 200 for oddity in oddities)
    return tokenizer, oddities


def pieces(tokenizer: Tokenizer, text: str) -> list[str]:
    return [tokenizer.piece(token_id) for token_id in tokenizer.encode(text, add_bos=False)]


def test_a_vocabulary_without_oddities_is_not_talked_about() -> None:
    for special in (EOS, (*EOS, ("two words", TokenType.USER_DEFINED), ("日", TokenType.CONTROL))):
        assert read(("a b", "ab c"), special=special)[1] == []


@pytest.mark.parametrize(
    "value",
    [None, 5, "a b", b"a b", ["a b"], [b"a b", 7], np.zeros(3, np.int32)],
    ids=lambda v: type(v).__name__,
)
def test_merges_must_be_an_array_of_strings(value: object) -> None:
    with pytest.raises(ModelError, match=r"^tokenizer\.ggml\.merges: (missing|expected an array of strings)"):
        load_tokenizer(bpe_metadata(overrides={"merges": value}))


def test_without_merges_every_byte_is_a_token() -> None:
    tokenizer, oddities = read(overrides={"merges": []})
    assert (pieces(tokenizer, "ab"), oddities) == (["a", "b"], [])


@pytest.mark.parametrize(
    "merge",
    [b"", b" ", b"a", b"ab", b" ab", b"ab ", b"a  b", b"a b c", b"a x", b"x y", b"\xff a", b"a\0 b", b"x" * 100_000],
    ids=lambda merge: ascii(merge[:10]),
)  # fmt: skip
def test_merges_that_are_no_pair_or_make_no_token_count_for_nothing(merge: bytes) -> None:
    tokenizer, (oddity,) = read(("a b",), overrides={"merges": [merge, b"a b"]})
    assert oddity == ("1 of 2 merges count for nothing: they are no pair, make no token, or come twice")
    assert pieces(tokenizer, "ab ax") == ["ab", *"Ġax"]


def test_of_equal_merges_the_first_counts() -> None:
    tokenizer, (oddity,) = read(("b c", "a b"), overrides={"merges": [b"b c", b"a b", b"b c"]})
    assert oddity.startswith("1 of 3 merges count for nothing")
    assert pieces(tokenizer, "abc") == ["a", "bc"]


def test_of_equal_tokens_the_last_is_used_and_each_can_be_decoded() -> None:
    tokens = [*BYTE_CHARACTERS, "ab", "ab"]
    overrides = {"tokens": [token.encode() for token in tokens], "token_type": None, "merges": [b"a b"]}
    tokenizer, oddities = read(overrides=overrides | {"eos_token_id": 0, "bos_token_id": 0})
    assert tokenizer.encode("ab") == [257]
    assert tokenizer.decode([256, 257]) == "abab"
    assert oddities == []


def test_tokens_that_are_not_byte_level_characters_are_taken_as_they_are() -> None:
    special = (*EOS, ("日本", TokenType.NORMAL), ("a b", TokenType.NORMAL))
    tokenizer, (oddity,) = read(special=special)
    assert oddity == "2 tokens are not spelled in byte-level characters, the first is 257"
    assert tokenizer.decode([257, 258]) == "日本a b"
    assert tokenizer.encode("日本", add_bos=False) == list("日本".encode()), "no merge leads to it"


def test_tokens_that_are_no_utf8_are_no_danger() -> None:
    tokens = [
        *(token.encode() for token in BYTE_CHARACTERS),
        b"",
        b"\xff\xfe",
        b"\xe2\x96",
        b"\0",
        b"a" * 100_000,
    ]
    for token_type in (0, 1, 2, 3, 4, 5, -1, 2**31 - 1):
        types = np.array([1] * 256 + [token_type] * 5, np.int32)
        tokenizer, _ = read(overrides={"tokens": tokens, "token_type": types, "eos_token_id": 0})
        for parse_special in (False, True):
            token_ids = tokenizer.encode("a\0 b\u2580" + "a" * 1000, parse_special=parse_special)
            assert all(0 <= token_id < len(tokens) for token_id in token_ids)
        for token_id in range(len(tokens)):
            tokenizer.decode([token_id], special=True)
            tokenizer.piece(token_id)


def test_bytes_without_a_token_are_left_out_and_it_is_said() -> None:
    tokens = [character.encode() for character in BYTE_CHARACTERS if character not in "xyĠ\u0104"]
    overrides = {"tokens": tokens, "token_type": None, "bos_token_id": 0, "eos_token_id": 0}
    tokenizer, (oddity,) = read(overrides=overrides)
    assert oddity == "3 bytes have no token, texts lose them; the first is 0x20", "nobody misses 0x04"
    assert pieces(tokenizer, "a xyz\4") == ["a", "z"]


@pytest.mark.parametrize("name", ["bos_token_id", "eos_token_id"])
def test_an_absent_id_is_the_default_of_llama_cpp_and_it_is_said(name: str) -> None:
    tokenizer, oddities = read(overrides={name: None})
    assert oddities == [f"tokenizer.ggml.{name} is missing, the default 11 counts"]
    assert 11 in (tokenizer.vocab.bos_id, tokenizer.vocab.eos_id)
    assert tokenizer.is_eog(11) is (name == "eos_token_id")


def test_ids_outside_the_vocabulary_are_named() -> None:
    tokenizer, oddities = read(overrides={"eot_token_id": 257, "unknown_token_id": 10**6})
    assert [oddity.split(" lies outside")[0] for oddity in oddities] == [
        "tokenizer.ggml.unknown_token_id 1000000", "tokenizer.ggml.eot_token_id 257",
    ]  # fmt: skip
    assert tokenizer.vocab.unk_id is None


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        ({"pre": None}, "pre"),
        ({"pre": "mystery"}, "pre"),
        ({"pre": (gguf.GGUFValueType.UINT32, 3)}, "pre"),
        ({"merges": None}, "merges"),
        ({"merges": [1, 2]}, "merges"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_files_on_disk_are_refused_alike(tmp_path: Path, overrides: dict[str, Any], key: str) -> None:
    path = tmp_path / "model.gguf"
    as_bpe = {"model": "gpt2", "pre": "gpt-2", "merges": ["a b"]} | overrides
    keys = {
        f"tokenizer.ggml.{name}": value
        for name, value in as_bpe.items()
        if value is not None or name == "pre"  # the only one of them that the writer adds by itself
    }
    write_tiny_llama(path, overrides=keys)
    with pytest.raises(ModelError, match=rf"^tokenizer\.ggml\.{key}: "):
        load_tokenizer(GGUFFile(path).metadata)
