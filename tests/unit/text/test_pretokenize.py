from __future__ import annotations

import time
from typing import Any

import pytest

from llorch.errors import InputError, ModelError
from llorch.text.pretokenize import PRE_TOKENIZERS
from llorch.text.tokenizer import load_tokenizer
from tests.support.vocabularies import bpe_metadata, spm_metadata

NAMES = ("llama-bpe", "smollm", "tekken", "deepseek-llm", "deepseek-coder", "gpt-2", "default")
LINEAR_RATIO = 8.0
"""Four times the text takes about 4 times as long; it would take 16 times if the time were quadratic."""


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("llama-bpe", "I'LL say 12345 é!\n\n x", ["I", "'LL", " say", " ", "123", "45", " é", "!\n\n", " x"]),
        ("llama-bpe", "a   b \n c  ", ["a", "  ", " b", " \n", " c", "  "]),
        ("llama-bpe", "(x)日本", ["(x", ")日本"]),
        ("smollm", "it's 12 é!\n\n  x", ["it", "'s", " ", "1", "2", " é", "!", "\n\n ", " x"]),
        ("smollm", "I'LL", ["I", "'", "LL"]),
        ("tekken", "HelloWorld ABCd 12", ["Hello", "World", " ABCd", " ", "1", "2"]),
        ("tekken", "a/b\n/", ["a", "/b", "\n", "/"]),
        ("deepseek-llm", "ab é12日本!x \n y ", ["ab", " é", "12", "日本", "!", "x", " ", "\n", " y", " "]),
        ("deepseek-llm", "  日 ", ["  ", "日", " "]),
        ("deepseek-coder", "ab 123 (x) 日é", ["ab", " ", "1", "2", "3", " (", "x", ")", " ", "日", "é"]),
        ("gpt-2", "it's 123é  x!?\n", ["it", "'s", " 123", "é", " ", " x", "!?", "\n"]),
        ("default", "a=b 1234 x--y", ["a", "=", "b", " ", "123", "4", " x", "--", "y"]),
    ],
)  # fmt: skip
def test_words_are_cut_as_the_pattern_says(name: str, text: str, words: list[str]) -> None:
    assert PRE_TOKENIZERS[name].words(text) == words


def test_other_names_of_the_same_pre_tokenizer() -> None:
    assert PRE_TOKENIZERS["llama3"] is PRE_TOKENIZERS["llama-v3"] is PRE_TOKENIZERS["llama-bpe"]


@pytest.mark.parametrize("space", ["\x85", "\xa0", "\u2003", "\u3000"])
def test_spaces_beyond_ascii_are_spaces_and_separators_of_ascii_are_not(space: str) -> None:
    words = PRE_TOKENIZERS["gpt-2"].words
    assert words(f"!{space}!") == ["!", space, "!"]
    assert words("!\x1c!") == ["!\x1c!"], "which is white space for Python, but not for Unicode"


@pytest.mark.parametrize("name", PRE_TOKENIZERS)
@pytest.mark.parametrize("text", ["a", "A", " ", "\n", "é", "日", "1", "'", "!", "\u0301", " \n"], ids=ascii)
def test_words_are_cut_in_linear_time(name: str, text: str) -> None:
    def words_s(n: int) -> float:
        pre, whole = PRE_TOKENIZERS[name], text * n + "日x"

        def once() -> float:
            start = time.thread_time()
            assert "".join(pre.words(whole)) == whole
            return time.thread_time() - start

        return min(once() for _ in range(3))

    # A quadratic one is too slow in every try; the processor itself may slow down in one.
    assert any(words_s(16_000) < LINEAR_RATIO * words_s(4_000) + 1e-3 for _ in range(4))


def missing(overrides: dict[str, Any]) -> str:
    with pytest.raises(ModelError, match=r"^tokenizer\.ggml\.pre: ") as caught:
        load_tokenizer(bpe_metadata(overrides=overrides))
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600
    return message


@pytest.mark.parametrize("pre", [None, "", "qwen2", "llama-bpe ", "LLAMA-BPE", "x" * 10_000, "a\nb"])
def test_a_missing_or_unknown_pre_tokenizer_is_refused_with_the_names_and_the_way_out(
    pre: str | None,
) -> None:
    message = missing({"pre": pre})
    assert "--override-pre NAME" in message
    assert all(f"{name}," in message or f"{name})" in message for name in NAMES)


@pytest.mark.parametrize("pre", [7, True, b"llama-bpe", [b"llama-bpe"]], ids=repr)
def test_a_pre_tokenizer_that_is_no_string_is_refused(pre: object) -> None:
    assert "expected a string" in missing({"pre": pre})


@pytest.mark.parametrize("pre", [None, "qwen2", "smollm", 7])
def test_the_override_decides_whatever_the_file_says(pre: object) -> None:
    tokenizer = load_tokenizer(bpe_metadata(overrides={"pre": pre}), override_pre="llama-bpe")
    assert tokenizer.vocab.pre is PRE_TOKENIZERS["llama-bpe"]
    assert tokenizer.vocab.add_bos


def test_an_unknown_override_is_refused_with_the_names() -> None:
    with pytest.raises(
        InputError, match=r"^override_pre: no pre-tokenizer is named 'qwen2' \(known: llama-bpe, "
    ):
        load_tokenizer(bpe_metadata(), override_pre="qwen2")


def test_a_sentencepiece_vocabulary_needs_none_and_says_that_it_ignores_an_override() -> None:
    oddities: list[str] = []
    tokenizer = load_tokenizer(spm_metadata(["▁", "a"]), oddities, "llama-bpe")
    assert oddities == ["override_pre is ignored, as only byte-level BPE has pre-tokenizers"]
    assert tokenizer.encode("a") == load_tokenizer(spm_metadata(["▁", "a"])).encode("a")
