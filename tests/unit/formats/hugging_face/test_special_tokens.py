"""Special tokens of a directory: which file counts, lists of ends, and what goes around a text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llorch.errors import ModelError
from llorch.text.tokenizer import load_tokenizer
from tests.support.directory_vocabularies import changed, read, small_model

PREFIX = "tokenizer.ggml."
NONE = (1 << 32) - 1
BYTES = changed("bytes", post_processor=None)


def around(*pieces: str) -> dict[str, Any]:
    """A post-processor; ``A`` is the text."""
    ids = {"<unk>": 0, "<s>": 1, "</s>": 2}
    single = [{"Sequence": {"id": "A"}} if name == "A" else {"SpecialToken": {"id": name}} for name in pieces]
    special = {name: {"id": name, "ids": [i], "tokens": [name]} for name, i in ids.items()}
    return {"type": "TemplateProcessing", "single": single, "special_tokens": special}


@pytest.mark.parametrize("token", ["</s>", {"content": "</s>", "lstrip": False}])
def test_the_token_that_tokenizer_config_names_comes_first(token: Any, tmp_path: Path) -> None:
    keys = read(
        tmp_path,
        config={"eos_token_id": 5, "bos_token_id": 1, "pad_token_id": 0},
        tokenizer_json=BYTES,
        tokenizer_config_json={"eos_token": token},
        generation_config_json={"bos_token_id": 6},
    )
    ids = {name: keys[f"{PREFIX}{name}_token_id"] for name in ("bos", "eos", "padding")}
    assert ids == {"bos": 1, "eos": 2, "padding": 0}


def test_special_tokens_map_counts_where_tokenizer_config_says_nothing(tmp_path: Path) -> None:
    keys = read(
        tmp_path,
        config={"eos_token_id": 5},
        tokenizer_json=BYTES,
        tokenizer_config_json={"eos_token": None, "bos_token": "<s>"},
        special_tokens_map_json={"eos_token": {"content": "</s>"}, "bos_token": "</s>"},
    )
    assert (keys[PREFIX + "bos_token_id"], keys[PREFIX + "eos_token_id"]) == (1, 2)


def test_generation_config_counts_where_config_says_nothing(tmp_path: Path) -> None:
    keys = read(tmp_path, tokenizer_json=BYTES, generation_config_json={"bos_token_id": 1, "eos_token_id": 2})
    assert (keys[PREFIX + "bos_token_id"], keys[PREFIX + "eos_token_id"]) == (1, 2)


def test_where_no_file_names_a_token_there_is_none_instead_of_a_default(tmp_path: Path) -> None:
    keys = read(tmp_path, tokenizer_json=BYTES, tokenizer_config_json={"eos_token": "not in the vocabulary"})
    assert keys[PREFIX + "bos_token_id"] == keys[PREFIX + "eos_token_id"] == NONE
    vocab = load_tokenizer(keys).vocab
    assert vocab.bos_id is None
    assert vocab.eos_id is None


@pytest.mark.parametrize(
    ("config", "generation", "ends"),
    [
        ({"eos_token_id": 5}, {}, {5}),
        ({"eos_token_id": [5, 6, 7, 8, 9, 10, 11, 12]}, {}, {5, 6, 7, 8, 9, 10, 11, 12}),
        ({"eos_token_id": 5}, {"eos_token_id": [6, 7]}, {5, 6, 7}),
        ({"eos_token_id": None}, {"eos_token_id": [6]}, {6}),
        ({"eos_token_id": [5, -1]}, {"eos_token_id": -1}, {5}),
        ({}, {"eos_token_id": []}, set()),
    ],
)
def test_every_id_that_a_file_lists_ends_a_generation(
    config: Any, generation: Any, ends: set[int], tmp_path: Path
) -> None:
    content = changed("bytes", post_processor=None)
    for text, other in (("<s>", "x1"), ("</s>", "x2")):  # known ends would end it anyway
        content["model"]["vocab"][other] = content["model"]["vocab"].pop(text)
    content["added_tokens"] = []
    keys = read(tmp_path, config=config, tokenizer_json=content, generation_config_json=generation)
    vocab = load_tokenizer(keys).vocab
    assert vocab.eog_ids == ends
    assert vocab.eos_id == next(iter(sorted(ends)), None)


def test_an_end_outside_the_vocabulary_is_left_out_with_a_note(tmp_path: Path) -> None:
    keys = read(tmp_path, tokenizer_json=BYTES, generation_config_json={"eos_token_id": [2, 70_000]})
    oddities: list[str] = []
    assert load_tokenizer(keys, oddities).vocab.eog_ids == {2}
    assert any("1 ids of tokenizer.ggml.eos_token_ids lie outside the vocabulary" in x for x in oddities)


@pytest.mark.parametrize(
    ("pieces", "adds_bos", "adds_eos"),
    [(("A",), False, False), (("<s>", "A"), True, False), (("<s>", "A", "</s>"), True, True)],
)
def test_what_the_post_processor_puts_around_a_text_counts_before_tokenizer_config(
    pieces: tuple[str, ...], adds_bos: bool, adds_eos: bool, tmp_path: Path
) -> None:
    processors = [{"type": "ByteLevel"}, around(*pieces)]
    content = changed("bytes", post_processor={"type": "Sequence", "processors": processors})
    config = {"add_bos_token": not adds_bos, "add_eos_token": not adds_eos, "bos_token": "<s>"}
    keys = read(tmp_path, tokenizer_json=content, tokenizer_config_json=config | {"eos_token": "</s>"})
    assert (keys[PREFIX + "add_bos_token"], keys[PREFIX + "add_eos_token"]) == (adds_bos, adds_eos)
    ids = load_tokenizer(keys).encode("the")
    assert (ids[0] == 1, ids[-1] == 2) == (adds_bos, adds_eos)


@pytest.mark.parametrize(
    ("config", "adds_bos"),
    [
        ({}, False),
        ({"tokenizer_class": "PreTrainedTokenizerFast"}, False),
        ({"tokenizer_class": "LlamaTokenizerFast"}, True),
        ({"tokenizer_class": "LlamaTokenizer", "add_bos_token": False}, False),
        ({"add_bos_token": True}, True),
    ],
)
def test_without_a_post_processor_tokenizer_config_says_whether_bos_goes_in_front(
    config: dict[str, Any], adds_bos: bool, tmp_path: Path
) -> None:
    keys = read(tmp_path, tokenizer_json=BYTES, tokenizer_config_json=config)
    assert keys[PREFIX + "add_bos_token"] is adds_bos
    assert keys[PREFIX + "add_eos_token"] is False


def test_the_token_in_front_of_a_text_is_bos_where_no_file_names_one_whatever_config_says(
    tmp_path: Path,
) -> None:
    content = changed("bytes", post_processor=around("<s>", "A"))
    assert read(tmp_path, tokenizer_json=content)[PREFIX + "bos_token_id"] == 1
    assert read(tmp_path, config={"bos_token_id": 7}, tokenizer_json=content)[PREFIX + "bos_token_id"] == 1


def test_tokenizer_model_names_special_tokens_where_no_other_file_does(tmp_path: Path) -> None:
    keys = read(tmp_path, 7, tokenizer_model=small_model())
    ids = {name: keys[f"{PREFIX}{name}_token_id"] for name in ("unknown", "bos", "eos")}
    assert ids == {"unknown": 0, "bos": 1, "eos": 2}
    assert keys[PREFIX + "add_bos_token"] is True
    assert keys[PREFIX + "add_eos_token"] is False


REFUSED: list[tuple[str, str, dict[str, Any]]] = [
    ("config.json: eos_token_id: expected a token id", "config", {"eos_token_id": "2"}),
    ("config.json: eos_token_id: expected a token id, or a list", "config", {"eos_token_id": [2, "x"]}),
    ("config.json: eos_token_id: expected a token id, or a list", "config", {"eos_token_id": [True]}),
    ("config.json: bos_token_id: expected a token id up to", "config", {"bos_token_id": True}),
    ("config.json: bos_token_id: expected a token id up to", "config", {"bos_token_id": 1 << 40}),
    ("config.json: eos_token_id: .* a list of up to 4096", "config", {"eos_token_id": [2] * 5000}),
    ("tokenizer_config.json: bos_token: expected a string", "tokenizer_config_json", {"bos_token": 3}),
    ("tokenizer_config.json: bos_token.content: exp", "tokenizer_config_json", {"bos_token": {"content": 3}}),
    ("tokenizer_config.json: add_bos_token: expected true", "tokenizer_config_json", {"add_bos_token": 1}),
    ("the post-processor 'BertProcessing' is not", "post", {"type": "BertProcessing", "sep": ["</s>", 2]}),
    (r"post_processor: puts the tokens \[1, 0\] in front of a text", "post", around("<s>", "<unk>", "A")),
    (
        r"puts the tokens \[2\] behind a text, which is supported of eos only \(1\)",
        "eos 1",
        around("A", "</s>"),
    ),
    ("post_processor.single: expected one text", "post", around("A", "A")),
    (r"single\[0\].SpecialToken.id: expected a token that has ids", "post", around("nobody", "A")),
]


@pytest.mark.parametrize(("message", "where", "content"), REFUSED)
def test_what_is_malformed_or_cannot_be_said_is_refused_by_file_and_key(
    message: str, where: str, content: dict[str, Any], tmp_path: Path
) -> None:
    files: dict[str, Any] = {"tokenizer_json": BYTES, "config": {"bos_token_id": 1, "eos_token_id": 1}}
    if where in ("post", "eos 1"):
        files["tokenizer_json"] = changed("bytes", post_processor=content)
        files["tokenizer_config_json"] = {"eos_token": "<s>"} if where == "eos 1" else {}
    else:
        files[where] = content
    with pytest.raises(ModelError, match=message):
        read(tmp_path, **files)
