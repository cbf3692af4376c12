"""The vocabulary of a GGUF file as Hugging Face's `tokenizer.json` and `tokenizer_config.json` would have it.

python tools/hf_tokenizer_json.py MODEL.gguf DIRECTORY
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from llorch.formats.gguf.file import GGUFFile
from llorch.text.vocab import SPECIAL_TYPES, TokenType, Vocabulary

Json: TypeAlias = dict[str, Any]

_END = r"\s*[\r\n]+|\s+(?!\S)|\s+"
PATTERNS = {
    "llama-bpe": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + _END,
    "tekken": r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|" + _END,
}  # fmt: skip
"""Expressions by the name of the pre-tokenizer, as the models' own files have them."""
PATTERNS["smaug-bpe"] = PATTERNS["llama-bpe"]


def byte_level(use_regex: bool) -> Json:
    """Bytes as visible characters, behind GPT-2's expression if `use_regex`."""
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}


def pre_tokenizer_of(name: str) -> Json:
    """What cuts words, by the name GGUF has for it.

    Raises:
        ValueError: the name is not known here.
    """
    if name == "gpt-2":
        return byte_level(use_regex=True)
    if name == "smollm":
        steps: list[Json] = [{"type": "Digits", "individual_digits": True}, byte_level(use_regex=True)]
    elif name in PATTERNS:
        split = {
            "type": "Split",
            "pattern": {"Regex": PATTERNS[name]},
            "behavior": "Isolated",
            "invert": False,
        }
        steps = [split, byte_level(use_regex=False)]
    else:
        raise ValueError(f"no pattern of the pre-tokenizer {name!r} is known")
    return {"type": "Sequence", "pretokenizers": steps}


def tokenizer_json_of(path: Path, *, merge_pairs: bool = False) -> Json:
    """`tokenizer.json`.

    Args:
        path: of a GGUF file.
        merge_pairs: write merges as pairs of strings, as transformers does since 4.45; else as "left right".
    """
    metadata: Any = GGUFFile(path).metadata
    vocab = Vocabulary.from_metadata(metadata)
    texts = [token.decode() for token in vocab.tokens]
    types = metadata["tokenizer.ggml.token_type"].tolist()
    is_byte_level = vocab.model == "gpt2"
    ids = _model_ids(types)
    merges = (
        [tuple(merge.decode().split(" ")) for merge in vocab.merges]
        if is_byte_level
        else _merges_of(texts, vocab.scores, [i for i in ids if types[i] == TokenType.NORMAL])
    )
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None if is_byte_level or vocab.unk_id is None else texts[vocab.unk_id],
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": not is_byte_level,
        "byte_fallback": not is_byte_level,
        "ignore_merges": vocab.pre is not None and vocab.pre.ignores_merges,
        "vocab": {texts[i]: i for i in ids},
        "merges": [list(pair) if merge_pairs else " ".join(pair) for pair in merges],
    }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            _added(i, texts[i], types[i]) for i in range(len(texts)) if types[i] in SPECIAL_TYPES
        ],
        "normalizer": None if is_byte_level else _space_normalizer(vocab),
        "pre_tokenizer": pre_tokenizer_of(metadata["tokenizer.ggml.pre"]) if is_byte_level else None,
        "post_processor": _post_processor(vocab, texts),
        "decoder": byte_level(use_regex=True) if is_byte_level else _space_decoder(vocab),
        "model": model,
    }


def tokenizer_config_of(path: Path) -> Json:
    """`tokenizer_config.json`, with the chat template of the file."""
    metadata: Any = GGUFFile(path).metadata
    vocab = Vocabulary.from_metadata(metadata)
    config: Json = {"add_bos_token": vocab.add_bos, "add_eos_token": vocab.add_eos}
    for name, key in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")):
        token_id = metadata.get(f"tokenizer.ggml.{key}_token_id")
        if token_id is not None:
            config[f"{name}_token"] = vocab.tokens[token_id].decode()
    if (has_prefix := metadata.get("tokenizer.ggml.add_space_prefix")) is not None:
        config["add_prefix_space"] = has_prefix
    if (template := metadata.get("tokenizer.chat_template")) is not None:
        config["chat_template"] = template
    config["clean_up_tokenization_spaces"] = False
    is_byte_level = vocab.model == "gpt2"
    config["tokenizer_class"] = "PreTrainedTokenizerFast" if is_byte_level else "LlamaTokenizerFast"
    return config


def _model_ids(types: list[int]) -> list[int]:
    """Ids of the tokens that the model's vocabulary lists: special ones at the end are added tokens only."""
    end = len(types)
    while end and types[end - 1] in (*SPECIAL_TYPES, TokenType.UNUSED):
        end -= 1
    return [i for i in range(end) if types[i] != TokenType.UNUSED]


def _merges_of(texts: list[str], scores: np.ndarray[Any, Any], token_ids: list[int]) -> list[tuple[str, str]]:
    """All pairs of tokens that make a token, the token of the best score first."""
    ids = {texts[i]: i for i in token_ids}
    found = [
        (-float(scores[token_id]), token_id, ids[text[:cut]], ids[text[cut:]])
        for text, token_id in ids.items()
        for cut in range(1, len(text))
        if text[:cut] in ids and text[cut:] in ids
    ]
    return [(texts[left], texts[right]) for *_, left, right in sorted(found)]


def _added(token_id: int, text: str, token_type: int) -> Json:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": token_id, "content": text, **flags, "special": token_type != TokenType.USER_DEFINED}


def _space_normalizer(vocab: Vocabulary) -> Json:
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    if not vocab.add_space_prefix:
        return replace
    return {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, replace]}


def _space_decoder(vocab: Vocabulary) -> Json:
    decoders: list[Json] = [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if vocab.add_space_prefix:
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {"type": "Sequence", "decoders": decoders}


def _post_processor(vocab: Vocabulary, texts: list[str]) -> Json | None:
    """BOS in front, EOS behind, as the vocabulary says."""
    front = [vocab.bos_id] if vocab.add_bos and vocab.bos_id is not None else []
    back = [vocab.eos_id] if vocab.add_eos and vocab.eos_id is not None else []
    if not front + back:
        return None

    def around(name: str, type_id: int) -> list[Json]:
        return [
            *({"SpecialToken": {"id": texts[i], "type_id": type_id}} for i in front),
            {"Sequence": {"id": name, "type_id": type_id}},
            *({"SpecialToken": {"id": texts[i], "type_id": type_id}} for i in back),
        ]

    special = {
        texts[i]: {"id": texts[i], "ids": [i], "tokens": [texts[i]]} for i in dict.fromkeys(front + back)
    }
    template = {"single": around("A", 0), "pair": around("A", 0) + around("B", 1), "special_tokens": special}
    processor = {"type": "TemplateProcessing", **template}
    if vocab.model != "gpt2":
        return processor
    offsets = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}
    return {"type": "Sequence", "processors": [offsets, processor]}


def main(arguments: list[str] | None = None) -> int:
    """Write both files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("gguf", type=Path)
    parser.add_argument("directory", type=Path)
    options = parser.parse_args(arguments)
    options.directory.mkdir(parents=True, exist_ok=True)
    for name, content in (
        ("tokenizer.json", tokenizer_json_of(options.gguf)),
        ("tokenizer_config.json", tokenizer_config_of(options.gguf)),
    ):
        text = json.dumps(content, ensure_ascii=False, indent=2) + "\n"
        (options.directory / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
