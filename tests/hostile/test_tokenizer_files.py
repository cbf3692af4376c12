"""Hostile tokenizer files of a directory: each is refused with one line that names the file and the key."""

from __future__ import annotations

import base64
import json
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest

from llorch.errors import InputError
from llorch.model_files import open_tokenizer
from tests.support.hf_directories import write_directory
from tests.support.hostile_directories import ABSENT, edit, open_everything, refused


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Good directories by the kind of their tokenizer."""
    root = tmp_path_factory.mktemp("good")
    return {
        kind: write_directory(root / kind, config={"num_hidden_layers": 1}, tokenizer=kind)
        for kind in ("spm", "bpe")
    }


@pytest.fixture
def spm(tmp_path: Path, originals: dict[str, Path]) -> Path:
    """A directory with SentencePiece's kind of tokenizer."""
    return shutil.copytree(originals["spm"], tmp_path / "spm")


@pytest.fixture
def bpe(tmp_path: Path, originals: dict[str, Path]) -> Path:
    """A directory with a tokenizer of bytes."""
    return shutil.copytree(originals["bpe"], tmp_path / "bpe")


def test_the_directories_that_the_others_are_made_of_open(spm: Path, bpe: Path) -> None:
    for path in (spm, bpe):
        open_everything(path)
        open_tokenizer(path)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "generation_config.json",
                                  "special_tokens_map.json", "chat_template.json"])  # fmt: skip
@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"\xff\xfe{}", b'{"a":1,"a":2}', b'{"a":NaN}', b"[" * 100_000, b"\xef\xbb\xbf{}"],
)  # fmt: skip
def test_a_file_that_is_no_plain_json_is_refused(spm: Path, name: str, content: bytes) -> None:
    (spm / name).write_bytes(content)
    refused(
        spm, f"{name}: (is empty|is not JSON|holds no JSON object|.* stands twice|is nested too deeply|NaN)"
    )


TOKENIZER_JSON: list[tuple[str, tuple[str | int, ...], Any, str]] = [
    ("spm", ("model",), ABSENT, "model: expected an object"),
    ("spm", ("model",), [], "model: expected an object, got list"),
    ("spm", ("model", "type"), "Unigram", "model.type: the tokenizer model 'Unigram' is not supported"),
    ("spm", ("model", "type"), "WordPiece", "'WordPiece' is not supported"),
    ("spm", ("model", "type"), 7, "model.type: expected a string"),
    ("spm", ("model", "dropout"), 0.1, "model.dropout: expected"),
    ("spm", ("model", "continuing_subword_prefix"), "##", "model.continuing_subword_prefix: expected"),
    ("spm", ("model", "vocab"), ABSENT, "model.vocab: expected an object"),
    ("spm", ("model", "vocab"), [["a", 0]], "model.vocab: expected an object"),
    ("spm", ("model", "vocab", "<s>"), -1, r"model.vocab\['<s>'\]: expected a token id, got int -1"),
    ("spm", ("model", "vocab", "<s>"), 1.0, "expected a token id, got float"),
    ("spm", ("model", "vocab", "<s>"), True, "expected a token id, got bool"),
    ("spm", ("model", "vocab", "<s>"), "1", "expected a token id, got str"),
    ("spm", ("model", "vocab", "<s>"), 2**40, "expected a token id"),
    ("spm", ("model", "vocab", "<s>"), 384, "has 385 tokens, but the embedding has 384 rows"),
    ("spm", ("model", "vocab", "<s>"), 2**30, "but the embedding has 384 rows; they belong to different models"),
    ("spm", ("model", "vocab", "<s>"), 2, "token 2 is both '<s>' and '</s>'"),
    ("spm", ("model", "vocab", "x\x1b[2J"), 5, r"is both .*x\\x1b\[2J"),
    ("spm", ("model", "byte_fallback"), False, "byte_fallback: expected true"),
    ("spm", ("model", "byte_fallback"), 1, "byte_fallback: expected true or false"),
    ("spm", ("model", "merges"), {}, "merges: expected an array"),
    ("spm", ("model", "merges", 0), 7, "merges: expected \"left right\" or .*, got int 7"),
    ("spm", ("model", "merges", 0), "abc", "merges: expected"),
    ("spm", ("model", "merges", 0), "a b c", "merges: expected"),
    ("spm", ("model", "merges", 0), ["a"], "merges: expected"),
    ("spm", ("model", "merges", 0), ["a", None], "merges: expected"),
    ("spm", ("added_tokens",), {}, "added_tokens: expected an array"),
    ("spm", ("added_tokens", 0), "x", r"added_tokens\[0\]: expected an object"),
    ("spm", ("added_tokens", 0, "id"), ABSENT, r"added_tokens\[0\].id: expected a token id"),
    ("spm", ("added_tokens", 0, "id"), -5, r"added_tokens\[0\].id: expected a token id"),
    ("spm", ("added_tokens", 0, "id"), 10**9, "but the embedding has 384 rows"),
    ("spm", ("added_tokens", 0, "id"), 7, "has the id 0 in the vocabulary"),
    ("spm", ("added_tokens", 0, "content"), ABSENT, "content: expected a string"),
    ("spm", ("added_tokens", 0, "content"), 1, "content: expected a string"),
    ("spm", ("added_tokens", 0, "special"), "yes", "special: expected true or false"),
    ("spm", ("normalizer",), None, "normalizer, pre_tokenizer: neither writes spaces"),
    ("spm", ("normalizer",), [], "normalizer: expected an object"),
    ("spm", ("normalizer",), {"type": "NFKC"}, "NFKC.* is not supported"),
    ("spm", ("normalizer",), {}, "type: expected a string"),
    ("spm", ("normalizer", "normalizers"), {"type": "Prepend"}, "normalizers: expected an array"),
    ("spm", ("normalizer", "normalizers"), [{"type": "Lowercase"}] * 100, "more than 64 steps"),
    ("spm", ("post_processor",), {"type": "BertProcessing"}, "the post-processor 'BertProcessing' is not supported"),
    ("spm", ("post_processor", "single"), [], "single: expected one text"),
    ("spm", ("post_processor", "special_tokens"), {}, "expected a token that has ids"),
    ("bpe", ("pre_tokenizer",), {"type": "Whitespace"}, "Whitespace"),
    ("bpe", ("pre_tokenizer",), None, "neither writes spaces"),
    ("bpe", ("pre_tokenizer", "pretokenizers", 0, "pattern"), {"Regex": "(a+)+$"}, "pre-tokenizer"),
    ("bpe", ("pre_tokenizer", "pretokenizers", 0, "pattern"), {"Regex": 5}, "Regex: expected a string"),
    ("bpe", ("pre_tokenizer", "pretokenizers", 0, "behavior"), "Removed", "pre-tokenizer"),
    ("bpe", ("pre_tokenizer", "pretokenizers", 0, "invert"), 0, "invert: expected true or false"),
    ("bpe", ("normalizer",), {"type": "NFC"}, "the normalizer 'NFC' of a byte-level tokenizer is not supported"),
    ("bpe", ("model", "vocab", "€uro"), 5, "token 5 is both"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "keys", "value", "pattern"),
    TOKENIZER_JSON,
    ids=[f"{i}-{case[0]}-{'.'.join(map(str, case[1]))}" for i, case in enumerate(TOKENIZER_JSON)],
)
def test_a_tokenizer_json_that_cannot_be_is_refused(
    request: pytest.FixtureRequest, kind: str, keys: tuple[str | int, ...], value: Any, pattern: str
) -> None:
    path: Path = request.getfixturevalue(kind)
    edit(path / "tokenizer.json", *keys, value=value)
    refused(path, pattern, names="")


SIDE: list[tuple[str, Any, str]] = [
    ("tokenizer_config.json", {"bos_token": 5}, "tokenizer_config.json: bos_token: expected a string"),
    ("tokenizer_config.json", {"bos_token": {"content": []}}, "bos_token.content: expected a string"),
    ("tokenizer_config.json", {"tokenizer_class": ["x"]}, "tokenizer_class: expected a string"),
    ("tokenizer_config.json", {"add_prefix_space": "no"}, "add_prefix_space: expected true or false"),
    ("tokenizer_config.json", {"chat_template": 5}, "chat_template: expected a string"),
    (
        "tokenizer_config.json",
        {"chat_template": [{"name": "default"}]},
        r"chat_template\[0\].template: expected",
    ),
    ("tokenizer_config.json", {"chat_template": [{"name": 1, "template": "x"}]}, "name: expected a string"),
    ("tokenizer_config.json", {"chat_template": {"default": 5}}, "chat_template: expected"),
    (
        "tokenizer_config.json",
        {"chat_template": [{"name": f"t{i}", "template": "x"} for i in range(100)]},
        "chat_template: expected up to 64 templates, got 100",
    ),
    (
        "generation_config.json",
        {"eos_token_id": "2"},
        "generation_config.json: eos_token_id: expected a token id",
    ),
    ("generation_config.json", {"eos_token_id": [2, "x"]}, "eos_token_id: expected a token id, or a list"),
    (
        "generation_config.json",
        {"eos_token_id": [2] * 5000},
        "eos_token_id: expected a token id, or a list of up to",
    ),
    ("generation_config.json", {"eos_token_id": 2.0}, "eos_token_id: expected a token id"),
    ("generation_config.json", {"eos_token_id": [2**40]}, "eos_token_id: expected a token id"),
]


@pytest.mark.parametrize(
    ("name", "value", "pattern"), SIDE, ids=[f"{i}-{case[0]}" for i, case in enumerate(SIDE)]
)
def test_a_side_file_that_cannot_be_is_refused(spm: Path, name: str, value: Any, pattern: str) -> None:
    (spm / name).write_text(json.dumps(value))
    refused(spm, pattern, names="")


@pytest.mark.parametrize(
    ("raw", "pattern"),
    [(b"\xff\xfe{{", "expected UTF-8"), (b"x" * (5 << 20), "bytes; at most")],
)
def test_a_chat_template_that_is_no_text_is_refused(spm: Path, raw: bytes, pattern: str) -> None:
    (spm / "chat_template.jinja").write_bytes(raw)
    refused(spm, f"chat_template.jinja: .*{pattern}")


# tokenizer.model


def field(number: int, wire: int, payload: bytes) -> bytes:
    return varint(number << 3 | wire) + payload


def varint(n: int) -> bytes:
    out = b""
    while n >= 128:
        out, n = out + bytes([n % 128 + 128]), n >> 7
    return out + bytes([n])


def sized(number: int, raw: bytes) -> bytes:
    return field(number, 2, varint(len(raw)) + raw)


def piece(text: bytes, score: float = 0.0, kind: int = 1) -> bytes:
    return sized(1, sized(1, text) + field(2, 5, struct.pack("<f", score)) + field(3, 0, varint(kind)))


PIECES = piece(b"<unk>", 0, 2) + piece(b"<s>", 0, 3) + piece(b"</s>", 0, 3)
PIECES += b"".join(piece(b"<0x%02X>" % byte, 0, 6) for byte in range(256))
IS_BPE = sized(2, field(3, 0, varint(2)))

MODELS = [
    (b"", "is empty"),
    (b"\0" * 100, "tokenizer.model"),
    (b"GGUF" + bytes(100), "tokenizer.model"),
    (b"\x80\2]q\0.", "tokenizer.model"),
    (IS_BPE, "has no pieces"),
    (PIECES, "type Unigram, which is not supported"),
    (PIECES + sized(2, field(3, 0, varint(3))), "type Word, which is not supported"),
    (PIECES + sized(2, field(3, 0, varint(99))), "type number 99"),
    (PIECES[:-3] + IS_BPE, "tokenizer.model"),
    ((PIECES + IS_BPE)[:-1], "tokenizer.model"),
    (PIECES + piece(b"x", 0, 9) + IS_BPE, "piece 259 is of the kind 9"),
    (PIECES + piece(b"x", float("nan")) + IS_BPE, "score of piece 259 is not a number"),
    (PIECES + piece(b"\xff\xfe") + IS_BPE, "UTF-8"),
    (PIECES + sized(1, field(1, 0, varint(5))) + IS_BPE, "tokenizer.model"),
    (PIECES + field(1, 0, varint(5)) + IS_BPE, "tokenizer.model"),
    (PIECES + field(1, 2, varint(2**62) + b"x"), "tokenizer.model"),
    (PIECES + field(1, 2, b"\xff" * 20), "tokenizer.model"),
    (PIECES + field(1, 3, b"") + IS_BPE, "tokenizer.model"),
    (PIECES + field(0, 2, b"\0") + IS_BPE, "tokenizer.model"),
    (PIECES + IS_BPE + sized(2, field(3, 0, varint(2)) + field(24, 0, varint(1))), "white space as suffix"),
    (
        PIECES + IS_BPE + sized(3, sized(1, b"nmt_nfkc") + sized(2, b"rules")),
        r"normalises characters \(nmt_nfkc\)",
    ),
    (PIECES + IS_BPE + sized(3, field(5, 0, varint(0))), "leaves spaces as they are"),
    (
        PIECES + b"".join(piece(b"t%d" % i) for i in range(200)) + IS_BPE,
        "has 459 tokens, but the embedding has 384",
    ),
]


@pytest.mark.parametrize(("raw", "pattern"), MODELS, ids=range(len(MODELS)))
def test_a_tokenizer_model_that_cannot_be_is_refused(spm: Path, raw: bytes, pattern: str) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (spm / name).unlink()
    (spm / "tokenizer.model").write_bytes(raw)
    refused(spm, pattern, names="")


def test_a_list_of_base64_tokens_says_what_to_write_instead(spm: Path) -> None:
    (spm / "tokenizer.json").unlink()
    lines = [base64.b64encode(bytes([byte])) + b" %d" % byte for byte in range(256)]
    (spm / "tokenizer.model").write_bytes(b"\n".join(lines))
    refused(
        spm, "is a vocabulary that llorch does not read, .* has no tokenizer.json; transformers writes one"
    )


@pytest.mark.parametrize("name", ["vocab.json", "tekken.json", "tiktoken.model", "spiece.model"])
def test_another_vocabulary_says_what_to_write_instead(spm: Path, name: str) -> None:
    (spm / "tokenizer.json").unlink()
    (spm / name).write_text("{}")
    refused(spm, f"{name}: is a vocabulary that llorch does not read")


def test_a_directory_without_a_tokenizer_says_which_files_it_lacks(spm: Path) -> None:
    (spm / "tokenizer.json").unlink()
    with pytest.raises(InputError, match="tokenizer"):
        open_tokenizer(spm)
