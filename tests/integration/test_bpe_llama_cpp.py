"""Byte-level BPE against llama.cpp: every pre-tokenizer, WikiText and hostile Unicode, special tokens, SmolLM2."""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from llorch.formats.gguf.file import GGUFFile
from llorch.text.pretokenize import PRE_TOKENIZERS
from llorch.text.tokenizer import load_tokenizer

if importlib.util.find_spec("llama_cpp"):
    from tests.support.llama_cpp_vocab import llama_cpp_tokenizer, write_vocabulary

pytestmark = [
    pytest.mark.slow,
    pytest.mark.reference,
    pytest.mark.skipif(not importlib.util.find_spec("llama_cpp"), reason="llama-cpp-python is not installed"),
]

LLAMA3 = "ggml-vocab-llama-bpe.gguf"
YOUNGER = {0x0CF3, 0x0ECE, 0x31EF, *range(0x2FFC, 0x3000)}
"""Characters that the Unicode of Python 3.11 does not know yet."""
OLDER_THAN_LLAMA_CPP = {*range(0x1C89, 0x1C8B), *range(0xA7CB, 0xA7E0)}
"""Where later versions of Unicode have characters that llama.cpp does not know yet."""
CHARACTERS = [
    chr(code)
    for first, last in (
        (1, 0xD7FF), (0xE000, 0xFFFF), (0x10400, 0x1044F), (0x104B0, 0x104FB), (0x118A0, 0x118DF),
        (0x1D400, 0x1D7FF), (0x1E900, 0x1E943), (0x1F300, 0x1F6D7), (0x20000, 0x200FF),
    )
    for code in range(first, last + 1)
    if code not in YOUNGER | OLDER_THAN_LLAMA_CPP
]  # fmt: skip
COMMON = list(" \t\n\r\v\f\x1c\x1d\x85\u00a0\u3000'sStTreRElLdDvVmM019aZé日!?/.,-_$+<=>^`|~\u2018\uff01")


def hostile_texts() -> list[str]:
    """Every character once, and characters beside those that the patterns name; short, as `std::regex` recurses."""
    chance = random.Random(0)
    texts = ["".join(CHARACTERS[i : i + 200]) for i in range(0, len(CHARACTERS), 200)]
    texts += [" ".join(CHARACTERS[i : i + 100]) for i in range(0, len(CHARACTERS), 100)]
    for n in [3, 20, 80] * 130:
        texts.append(
            "".join(chance.choice(CHARACTERS if chance.random() < 0.4 else COMMON) for _ in range(n))
        )
    return texts


@pytest.mark.parametrize("name", PRE_TOKENIZERS)
def test_ids_are_the_same_with_every_pre_tokenizer(
    name: str, model_path: Callable[[str], Path], tmp_path: Path
) -> None:
    path = tmp_path / "vocabulary.gguf"
    write_vocabulary(path, model_path(LLAMA3), {"tokenizer.ggml.pre": name})
    tokenizer = load_tokenizer(GGUFFile(path).metadata)
    overridden = load_tokenizer(GGUFFile(model_path(LLAMA3)).metadata, override_pre=name)
    is_first_name = name == next(other for other, pre in PRE_TOKENIZERS.items() if pre is tokenizer.vocab.pre)
    text = model_path("wiki.test.raw").read_bytes().decode() if is_first_name else "I'LL 12345"
    with llama_cpp_tokenizer(path) as reference:
        assert tokenizer.encode(text) == reference.encode(text) == overridden.encode(text)
        for sample in hostile_texts():
            assert tokenizer.encode(sample) == reference.encode(sample), ascii(sample)


SPECIAL_TEXTS = [
    "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>",
    "  <|eot_id|>  \n\u00a0x<|eot_id|> <|eot_id|>",
    "<|eot_id|><|eot_id", "a<|end_of_text|>\t b", "<|reserved_special_token_10|> <|reserved_special_token_1|>",
]  # fmt: skip


@pytest.mark.parametrize("model_name", ["llama", "Phi-3 mini", "my-phi3"])
def test_special_tokens_are_found_alike_and_swallow_white_space_where_llama_cpp_lets_them(
    model_name: str, model_path: Callable[[str], Path], tmp_path: Path
) -> None:
    path = tmp_path / "vocabulary.gguf"
    wanted = ("</s>", "<unk>", "<s>", "<|endoftext|>")  # llama.cpp needs them in a Phi-3
    tokens = {f"<|reserved_special_token_{100 + i}|>": text for i, text in enumerate(wanted)}
    write_vocabulary(path, model_path(LLAMA3), {"general.name": model_name}, tokens)
    tokenizer = load_tokenizer(GGUFFile(path).metadata)
    assert bool(tokenizer.vocab.stripping_ids) == (model_name != "llama")
    texts = [*SPECIAL_TEXTS, "a<unk> b<s> c</s> d<|endoftext|> e"]
    with llama_cpp_tokenizer(path) as reference:
        for text in texts:
            for parse_special in (False, True):
                ours = tokenizer.encode(text, parse_special=parse_special, add_bos=False)
                theirs = reference.encode(text, parse_special=parse_special, add_special=False)
                assert ours == theirs, text


@pytest.mark.parametrize("which", ["llama3", "smollm2"])
def test_bytes_and_ends_of_all_tokens_are_the_same(
    which: str, model_path: Callable[[str], Path], request: pytest.FixtureRequest
) -> None:
    path = model_path(LLAMA3) if which == "llama3" else request.getfixturevalue("smollm2")
    tokenizer = load_tokenizer(GGUFFile(path).metadata)
    with llama_cpp_tokenizer(path) as reference:
        for token_id in range(tokenizer.vocab.n_vocab):
            assert tokenizer.token_bytes(token_id) == reference.token_bytes(token_id)
            assert tokenizer.is_eog(token_id) == reference.is_eog(token_id)


def test_smollm2_encodes_alike(smollm2: Path, model_path: Callable[[str], Path]) -> None:
    tokenizer = load_tokenizer(GGUFFile(smollm2).metadata)
    text = model_path("wiki.test.raw").read_bytes().decode()
    chat = "<|im_start|>user\nHi there<|im_end|>\n<|im_start|>assistant\n"
    with llama_cpp_tokenizer(smollm2) as reference:
        assert tokenizer.encode(text) == reference.encode(text)
        assert tokenizer.encode(chat, parse_special=True) == reference.encode(chat, parse_special=True)
        for sample in [*hostile_texts(), "\4\6\x13", ""]:  # it has no tokens for these bytes
            assert tokenizer.encode(sample) == reference.encode(sample), ascii(sample)
