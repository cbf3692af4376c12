#!/usr/bin/env python3
"""Write the token ids that `tokenizers` and `sentencepiece` give of hard texts as golden files for the tests.

    python -m tools.reference.extract_token_ids -m MODELS_DIRECTORY -s SMOLLM2.gguf -o tests/golden/token_ids

`small.json` holds small vocabularies of every kind, trained on `CORPUS`, so that it is all a test needs. `models.json`
holds the ids of real vocabularies: the directory TinyStories, Llama 2's `tokenizer.model`, and SmolLM2 and Llama 3 as
`tools/hf_tokenizer_json.py` writes them from their GGUF files; of WikiText the SHA-256 of the ids.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import io
import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sentencepiece
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from llorch.formats.hugging_face.pre_tokenizers import CJK, DEEPSEEK_LLM
from tools.hf_tokenizer_json import PATTERNS, tokenizer_json_of

Encode = Callable[[str], list[int]]

CORPUS = (
    "The cat sat on the mat, and the other cats were there, too. It's 1234 o'clock; don't we'll they've? "
    "Der Bär läuft über die Straße. 猫が好きです。 return f(x) == 42;\n\n\tfor i in range(100):\n        print(i)\n"
    "LOUD WORDS, camelCase, snake_case and CONSTANTS.   three spaces. The theatre, then the thistle. "
) * 4

TEXTS = (
    "", " ", "  ", "   ", "\n", "\n\n", "\t", "\r\n", " \n \n", "Hello world", " Hello world", "  Hello  world  ",
    "The cat sat on the mat.", "thethethe the", "don't DON'T we'LL they'Ve 'RE", "3 33 333 3333 33333 3.14 1,000",
    "Bär Straße über", "e\u0301 n\u0303 \u0301", "猫が好きです。 我想在apple工作1314151天～",
    "🦙🦙 🏳️‍🌈 👩‍👩‍👧 \U0001f1e9\U0001f1ea",
    "\u00a0\u2003\u3000x\u200b\ufeff", "\u0000\u0001\u007f\u0085", "\u2028\u2029", "नमस्ते កាន់តែពិសេស", "שָׁלוֹם مرحبا",
    "½ ² Ⅷ ٣ ๓", "ＡＢＣ１２３", "ﬁ ǅ ſ ß ẞ", "𝔘𝔫𝔦 𐐀𐐨 𠀀", "------=======___***", "a_b-c.d/e\\f@g", "x\n\n\n  y\t\tz ",
    "for i in range(100):\n        print(i)\n", "x<s>", "</s> text", "a</s>b<s>c", "▁under▁lined ▁",
    "<0x0A>", "Ġbyte Ċ",
    "\ud7ff\ue000\uffff\U0010ffff",
)  # fmt: skip
"""White space, digits, apostrophes, scripts, marks, emoji, controls, special tokens as text, and the alphabets' own."""


def hard_texts(seed: int = 0, n: int = 40) -> list[str]:
    """`TEXTS`, and random ones of all planes of Unicode."""
    chance = random.Random(seed)
    common = " \n\t'sStTdD019aZé日!?/._ ▁Ġ"
    found = list(TEXTS)
    for _ in range(n):
        codes = (chance.choice((0x250, 0x3000, 0xD7FF, 0x1FAFF)) for _ in range(chance.randrange(1, 24)))
        text = [chance.choice(common) if chance.random() < 0.6 else chr(chance.randrange(c)) for c in codes]
        found.append("".join("x" if 0xD800 <= ord(c) < 0xE000 else c for c in text))
    return found


def _split(pattern: str) -> Any:
    return pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated")


def _bytes(use_regex: bool) -> Any:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)


PRE_TOKENIZERS = {
    "llama-bpe": [_split(PATTERNS["llama-bpe"]), _bytes(False)],
    "tekken": [_split(PATTERNS["tekken"]), _bytes(False)],
    "smollm": [pre_tokenizers.Digits(individual_digits=True), _bytes(True)],
    "gpt-2": [_bytes(True)],
    "deepseek-coder": [
        *map(_split, (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", CJK)),
        pre_tokenizers.Digits(individual_digits=True), _bytes(False),
    ],
    "deepseek-llm": [
        *map(_split, DEEPSEEK_LLM), pre_tokenizers.Digits(individual_digits=True), _bytes(False),
    ],
}  # fmt: skip
"""By the name that GGUF has."""


def _trained_bytes(name: str) -> Any:
    """A byte-level BPE of 340 tokens with BOS in front."""
    ignores_merges = name in ("llama-bpe", "tekken")
    tokenizer = tokenizers.Tokenizer(models.BPE(ignore_merges=ignores_merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(PRE_TOKENIZERS[name])
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=340,
        special_tokens=special,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator([CORPUS], trainer)
    tokenizer.add_tokens(["<tool>"])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return tokenizer


def _trained_spaces(has_bytes: bool, metaspace: bool) -> Any:
    """A BPE with ``▁`` for a space."""
    tokenizer = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=has_bytes))
    if metaspace:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    else:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256) if has_bytes)]
    trainer = trainers.BpeTrainer(vocab_size=len(special) + 140, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(CORPUS.split("\n"), trainer)
    content = json.loads(tokenizer.to_str())
    content["added_tokens"] = content["added_tokens"][:3]
    return tokenizers.Tokenizer.from_str(json.dumps(content))


def _trained_sentencepiece() -> bytes:
    found = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS.split("\n")), model_writer=found, vocab_size=380, model_type="bpe",
        byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
        character_coverage=1.0, split_digits=True, allow_whitespace_only_pieces=True, minloglevel=2,
    )  # fmt: skip
    return found.getvalue()


def small_vocabularies(texts: list[str]) -> dict[str, Any]:
    """Files and ids of every small vocabulary."""
    made = {f"bytes-{name}": _trained_bytes(name) for name in PRE_TOKENIZERS}
    made["spaces"] = _trained_spaces(has_bytes=True, metaspace=False)
    made["spaces-metaspace"] = _trained_spaces(has_bytes=True, metaspace=True)
    made["spaces-without-bytes"] = _trained_spaces(has_bytes=False, metaspace=False)
    found: dict[str, Any] = {
        name: {
            "n_vocab": tokenizer.get_vocab_size(),
            "tokenizer.json": json.loads(tokenizer.to_str()),
            "ids": [tokenizer.encode(text).ids for text in texts],
        }
        for name, tokenizer in made.items()
    }
    raw = _trained_sentencepiece()
    processor = sentencepiece.SentencePieceProcessor(model_proto=raw)
    found["sentencepiece"] = {
        "n_vocab": processor.vocab_size(),
        "tokenizer.model": base64.b64encode(raw).decode(),
        "ids": [[processor.bos_id(), *processor.encode(text)] for text in texts],
    }
    return found


def model_ids(models_directory: Path, smollm2: Path, texts: list[str]) -> dict[str, Any]:
    """Ids of the real vocabularies."""
    llama2 = sentencepiece.SentencePieceProcessor(str(models_directory / "tokenizer.model"))
    llama3 = models_directory / "ggml-vocab-llama-bpe.gguf"
    encoders: dict[str, Encode] = {
        "tinystories-656k": _encoder((models_directory / "tinystories-656k" / "tokenizer.json").read_text()),
        "tokenizer.model": lambda text: [llama2.bos_id(), *llama2.encode(text)],
        "SmolLM2": _encoder(json.dumps(tokenizer_json_of(smollm2))),
        "Llama 3": _encoder(json.dumps(tokenizer_json_of(llama3, merge_pairs=True))),
    }
    lines = wiki_lines(models_directory / "wiki.test.raw")
    return {
        name: {
            "ids": [encode(text) for text in texts],
            "wiki_sha256": ids_hash([encode(line) for line in lines]),
        }
        for name, encode in encoders.items()
    }


def wiki_lines(path: Path) -> list[str]:
    """Every 16th line that is not empty."""
    return [line for line in path.read_bytes().decode().split("\n") if line.strip()][::16]


def ids_hash(ids: list[list[int]]) -> str:
    """SHA-256 of lists of ids."""
    return hashlib.sha256(json.dumps(ids, separators=(",", ":")).encode()).hexdigest()


def _encoder(content: str) -> Encode:
    tokenizer = tokenizers.Tokenizer.from_str(content)
    return lambda text: list(tokenizer.encode(text).ids)


def main(arguments: list[str] | None = None) -> int:
    """Write both files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-m", "--models", type=Path, required=True)
    parser.add_argument("-s", "--smollm2", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args(arguments)
    made_by = {"tokenizers": tokenizers.__version__, "sentencepiece": sentencepiece.__version__}
    texts = hard_texts()
    for name, content in (
        ("small", small_vocabularies(texts)),
        ("models", model_ids(options.models, options.smollm2, texts)),
    ):
        document = {"made_by": made_by, "texts": texts, "vocabularies": content}
        text = json.dumps(document, separators=(",", ":")) + "\n"
        (options.output / f"{name}.json").write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
