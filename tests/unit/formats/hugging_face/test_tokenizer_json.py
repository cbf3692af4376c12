"""`tokenizer.json`: tokens, kinds, merges and scores of both kinds of BPE; what is not one of them is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llorch.errors import ModelError
from llorch.text.tokenizer import load_tokenizer
from tests.support.directory_vocabularies import as_bytes, changed, read, sequence
from tests.support.hf_tokenizers import byte_level, sentencepiece_like

PREFIX = "tokenizer.ggml."
METASPACE = {"type": "Metaspace", "replacement": "▁", "split": False}
TO_SPACE = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}


def added(token_id: int, content: str, *, special: bool) -> dict[str, Any]:
    return {"id": token_id, "content": content, "special": special}


def test_a_byte_level_vocabulary_has_merges_and_a_pre_tokenizer_but_no_scores(tmp_path: Path) -> None:
    content = byte_level()
    keys = read(tmp_path, len(content["model"]["vocab"]), tokenizer_json=content)
    assert keys[PREFIX + "model"] == "gpt2"
    assert keys[PREFIX + "pre"] == "smaug-bpe"
    assert keys[PREFIX + "tokens"] == [text.encode() for text in content["model"]["vocab"]]
    assert keys[PREFIX + "merges"] == [merge.encode() for merge in content["model"]["merges"]]
    assert PREFIX + "scores" not in keys
    assert keys[PREFIX + "token_type"].tolist() == [3, 3, 3] + [1] * (len(content["model"]["vocab"]) - 3)


def test_merges_spelled_as_pairs_are_those_spelled_as_text(tmp_path: Path) -> None:
    content = byte_level()
    as_text = read(tmp_path, tokenizer_json=content)
    content["model"]["merges"] = [merge.split(" ") for merge in content["model"]["merges"]]
    assert read(tmp_path, tokenizer_json=content)[PREFIX + "merges"] == as_text[PREFIX + "merges"]
    content["model"]["merges"] = ["#version: 0.2", "Ġ t"]
    assert read(tmp_path, tokenizer_json=content)[PREFIX + "merges"] == ["Ġ t".encode()]


def test_words_that_are_tokens_are_taken_whole_where_the_file_says_so(tmp_path: Path) -> None:
    keys = read(tmp_path, tokenizer_json=changed("bytes", model_ignore_merges=True))
    assert keys[PREFIX + "pre"] == "llama-bpe"


def test_scores_are_the_ranks_of_the_first_merge_that_makes_a_token(tmp_path: Path) -> None:
    content = sentencepiece_like()
    content["model"]["merges"].append("t he")  # makes no token of its own
    content["model"]["merges"].append("a nd")
    vocabulary = content["model"]["vocab"]
    keys = read(tmp_path, len(vocabulary), tokenizer_json=content)
    assert keys[PREFIX + "model"] == "llama"
    scores, types = keys[PREFIX + "scores"], keys[PREFIX + "token_type"]
    assert [scores[vocabulary[text]] for text in ("▁t", "he", "▁the")] == [0, -1, -2]
    assert scores[vocabulary["x"]] == -len(vocabulary)
    assert types[vocabulary["<unk>"]] == 2
    assert types[vocabulary["<s>"]] == 3
    assert types[vocabulary["<0x41>"]] == 6
    assert types[vocabulary["x"]] == 1
    assert scores.dtype == "float32"
    assert types.dtype == "int32"
    assert not scores.flags.writeable
    assert not types.flags.writeable


@pytest.mark.parametrize(
    ("normalizer", "pre_tokenizer", "has_prefix"),
    [
        (sequence({"type": "Prepend", "prepend": "▁"}, TO_SPACE, inner="normalizers"), None, True),
        (TO_SPACE, None, False),
        (None, METASPACE | {"prepend_scheme": "first"}, True),
        (None, METASPACE | {"prepend_scheme": "always"}, True),
        (None, METASPACE | {"prepend_scheme": "never"}, False),
        (None, METASPACE | {"add_prefix_space": True}, True),
        (None, METASPACE | {"add_prefix_space": False}, False),
        (None, {"type": "Metaspace", "replacement": "▁"}, True),
    ],
)
def test_the_space_in_front_of_a_text_is_what_normalizer_and_pre_tokenizer_say(
    normalizer: Any, pre_tokenizer: Any, has_prefix: bool, tmp_path: Path
) -> None:
    content = changed("spaces", normalizer=normalizer, pre_tokenizer=pre_tokenizer)
    assert read(tmp_path, tokenizer_json=content)[PREFIX + "add_space_prefix"] is has_prefix


@pytest.mark.parametrize("base", ["bytes", "spaces"])
def test_added_tokens_are_control_tokens_or_defined_by_the_user(base: str, tmp_path: Path) -> None:
    content = changed(base)
    n = len(content["model"]["vocab"])
    content["added_tokens"] += [
        added(n, "<tool>", special=False),
        added(n + 1, "<|im_end|>", special=False),
        added(n + 2, "▁▁", special=False),
        added(n + 3, "[END]", special=True),
    ]
    keys = read(tmp_path, n + 6, tokenizer_json=content)
    assert keys[PREFIX + "token_type"][n:].tolist() == [4, 3, 4, 3, 5, 5]
    assert keys[PREFIX + "tokens"][n:] == [
        b"<tool>", b"<|im_end|>", b"  ", b"[END]", b"[PAD%d]" % (n + 4), b"[PAD%d]" % (n + 5),
    ]  # fmt: skip
    assert load_tokenizer(keys).encode("<tool>", add_bos=False) == [n]


def test_more_tokens_than_rows_are_refused_with_both_numbers(tmp_path: Path) -> None:
    content = byte_level()
    n = len(content["model"]["vocab"])
    with pytest.raises(ModelError, match=f"tokenizer.json: has {n} tokens, but the embedding has 100 rows"):
        read(tmp_path, 100, tokenizer_json=content)
    content["added_tokens"].append(added(n, "<tool>", special=False))
    with pytest.raises(ModelError, match=f"has {n + 1} tokens, but the embedding has {n} rows"):
        read(tmp_path, n, tokenizer_json=content)


REFUSED = {
    "model.type: the tokenizer model 'Unigram' is not supported": changed("spaces", model_type="Unigram"),
    "model.dropout: expected 0 or null": changed("bytes", model_dropout=0.1),
    "model.end_of_word_suffix: expected '' or null": changed("bytes", model_end_of_word_suffix="</w>"),
    "model: expected an object, got nothing": changed("bytes", model=None),
    r"model.vocab\['x'\]: expected a token id, got str '1'": changed("bytes", model_vocab={"x": "1"}),
    r"model.vocab\['x'\]: expected a token id, got bool True": changed("bytes", model_vocab={"x": True}),
    r"model.vocab\['x'\]: expected a token id, got int -1": changed("bytes", model_vocab={"x": -1}),
    "token 0 is both 'x' and 'y'": changed("bytes", model_vocab={"x": 0, "y": 0}, added_tokens=[]),
    "model.vocab: expected an object, got list": changed("bytes", model_vocab=[["x", 0.0]]),
    r'model.merges: expected "left right" or .*, got str \'abc\'': changed("bytes", model_merges=["abc"]),
    r"model.merges: .* got list \['a'\]": changed("bytes", model_merges=[["a"]]),
    r"model.merges: .* got int 1": changed("bytes", model_merges=[1]),
    "the normalizer 'NFC' of a byte-level tokenizer is not supported": changed(
        "bytes", normalizer={"type": "NFC"}
    ),
    "normalizer: .*Lowercase.* is not supported": changed("spaces", normalizer={"type": "Lowercase"}),
    "neither writes spaces as '▁'": changed("spaces", normalizer=None),
    "model.ignore_merges: expected false": changed("spaces", model_ignore_merges=True),
    "pre_tokenizer.split: expected false, as merges join words at '▁', got nothing": changed(
        "spaces",
        normalizer=None,
        pre_tokenizer={"type": "Metaspace", "replacement": "▁"},
        model_merges=["▁ ▁"],
    ),
    "model.byte_fallback: expected true": changed("spaces", model_byte_fallback=False),
    r"added_tokens\[0\].content: expected a string, got nothing": changed("bytes", added_tokens=[{"id": 0}]),
    r"added_tokens\[0\].id: expected a token id": changed("bytes", added_tokens=[{"content": "x"}]),
    r"added_tokens\[0\]: expected an object": changed("bytes", added_tokens=["x"]),
    "added_tokens: expected an array, got dict": changed("bytes", added_tokens={"x": 1}),
    "token 300, '<s>', has the id 1 in the vocabulary": changed(
        "bytes", added_tokens=[added(300, "<s>", special=True)]
    ),
    "token 1, '<new>', is '<s>' there": changed("bytes", added_tokens=[added(1, "<new>", special=True)]),
    "pre_tokenizer.type: expected a string": changed("bytes", pre_tokenizer={"type": 1}),
    "pre_tokenizer: has more than 64 steps": changed("bytes", pre_tokenizer=sequence(*[as_bytes()] * 65)),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_is_malformed_or_not_supported_is_refused_by_file_and_key(message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"tokenizer\.json: .*" + message) as caught:
        read(tmp_path, tokenizer_json=REFUSED[message])
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700
