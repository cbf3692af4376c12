"""Pre-tokenizers are recognised by their structure; one that is not known is shown, and can be overridden."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llorch.errors import ModelError
from llorch.formats.hugging_face.pre_tokenizers import CJK, DEEPSEEK_LLM
from llorch.text.pretokenize import PRE_TOKENIZERS
from llorch.text.tokenizer import load_tokenizer
from tests.support.directory_vocabularies import as_bytes, changed, read, sequence, split
from tools.hf_tokenizer_json import PATTERNS, pre_tokenizer_of

LLAMA3, TEKKEN = PATTERNS["llama-bpe"], PATTERNS["tekken"]
LLAMA_CPP_LLAMA3 = LLAMA3.replace(
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)", "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
)
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
DIGITS = {"type": "Digits", "individual_digits": True}
CODER = [split(pattern) for pattern in (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", CJK)]

KNOWN = [
    ("llama-bpe", sequence(split(LLAMA3), as_bytes()), True),
    ("llama-bpe", sequence(split(LLAMA3, "Removed", invert=True), as_bytes()), True),
    ("llama-bpe", sequence(split(LLAMA_CPP_LLAMA3), as_bytes()), True),
    ("llama-bpe", sequence(split(LLAMA3.replace(r"\r\n", "\r\n")), as_bytes()), True),
    ("smaug-bpe", sequence(split(LLAMA3), as_bytes()), False),
    ("tekken", sequence(split(TEKKEN), as_bytes()), True),
    ("gpt-2", as_bytes(use_regex=True), False),
    ("gpt-2", {"type": "ByteLevel", "add_prefix_space": False}, False),
    ("gpt-2", sequence(split(GPT2), as_bytes()), False),
    ("smollm", sequence(DIGITS, as_bytes(use_regex=True)), False),
    ("smollm", sequence(sequence(DIGITS), sequence(as_bytes(use_regex=True))), False),
    ("smollm", sequence(split(r"\p{N}"), as_bytes(use_regex=True)), False),
    ("deepseek-llm", sequence(*map(split, DEEPSEEK_LLM), DIGITS, as_bytes()), False),
    ("deepseek-llm", sequence(*map(split, (*DEEPSEEK_LLM, r"\p{N}+")), as_bytes()), False),
    ("deepseek-coder", sequence(*CODER, DIGITS, as_bytes()), False),
]


@pytest.mark.parametrize(("name", "step", "ignores_merges"), KNOWN)
def test_a_structure_has_the_name_that_gguf_has_for_it(
    name: str, step: dict[str, Any], ignores_merges: bool, tmp_path: Path
) -> None:
    content = changed("bytes", pre_tokenizer=step, model_ignore_merges=ignores_merges)
    assert read(tmp_path, tokenizer_json=content)["tokenizer.ggml.pre"] == name
    assert name in PRE_TOKENIZERS


@pytest.mark.parametrize("name", ["llama-bpe", "smaug-bpe", "tekken", "smollm", "gpt-2"])
def test_what_the_tool_writes_is_recognised(name: str, tmp_path: Path) -> None:
    content = changed(
        "bytes",
        pre_tokenizer=pre_tokenizer_of(name),
        model_ignore_merges=PRE_TOKENIZERS[name].ignores_merges,
    )
    assert read(tmp_path, tokenizer_json=content)["tokenizer.ggml.pre"] == name


QWEN2 = LLAMA3.replace("{1,3}", "")
UNKNOWN = [
    (QWEN2.replace("\\", "\\\\"), sequence(split(QWEN2), as_bytes()), False),
    ("words that are tokens taken whole", as_bytes(use_regex=True), True),
    ("ByteLevel that puts a space in front", {"type": "ByteLevel", "use_regex": True}, False),
    ("Punctuation", sequence({"type": "Punctuation"}, as_bytes()), False),
    ("MergedWithNext", sequence(split(LLAMA3, "MergedWithNext"), as_bytes()), True),
    ("Removed", sequence(split(r"\p{N}", "Removed", invert=True), as_bytes(use_regex=True)), False),
    ("", sequence(as_bytes(use_regex=True), split(GPT2)), False),
    ("Whitespace", sequence({"type": "Whitespace"}, as_bytes(), {"type": "x" * 10_000}), False),
]


@pytest.mark.parametrize(("shown", "step", "ignores_merges"), UNKNOWN)
def test_one_that_is_not_known_is_refused_with_its_pattern_and_the_flag_that_overrides_it(
    shown: str, step: dict[str, Any], ignores_merges: bool, tmp_path: Path
) -> None:
    content = changed("bytes", pre_tokenizer=step, model_ignore_merges=ignores_merges)
    keys = read(tmp_path, tokenizer_json=content)
    with pytest.raises(ModelError) as caught:
        load_tokenizer(keys)
    message = str(caught.value)
    assert "tokenizer.json: " in message
    assert shown in message
    assert "is not known; --override-pre NAME says which one to use" in message
    assert len(message) < 700
    assert load_tokenizer(keys, override_pre="llama-bpe").encode("the")
