"""A small `tokenizer.json` of either kind: SentencePiece's pieces with bytes to fall back on, or bytes as letters."""

from __future__ import annotations

from typing import Any

SPECIAL = ("<unk>", "<s>", "</s>")
BOS, EOS = 1, 2
_SPM_MERGES = (
    "▁ t", "h e", "▁t he", "▁ a", "i n", "▁ w", "▁ s", "o n", "e r", "n d", "▁ h", "r e", "▁a nd", "▁ b", "i t",
    "o u", "a t", "▁ o", "▁h e", "▁o n", "l e", "▁ c", "e n", "▁w a", "▁wa s", "in g", "o r", "▁ f", "▁t o",
)  # fmt: skip
_BPE_MERGES = (
    "Ġ t", "h e", "Ġt he", "Ġ a", "i n", "Ġ w", "Ġ s", "o n", "e r", "n d", "Ġ h", "r e", "Ġa nd", "Ġ b", "i t",
    "o u", "a t", "Ġ o", "Ġh e", "Ġo n", "l e", "Ġ c", "e n", "Ġw a", "Ġwa s", "in g", "o r", "Ġ f", "Ġt o",
)  # fmt: skip
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
    r"\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How Llama 3 takes text apart."""


def sentencepiece_like() -> dict[str, Any]:
    """As Llama 2 has it: 3 special tokens, 256 bytes, "▁" and the printable characters, and some merges."""
    letters = ["▁", *(chr(code) for code in range(0x21, 0x7F))]
    tokens = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *letters]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added_tokens(),
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            ],
        },
        "pre_tokenizer": None,
        "post_processor": _bos_first(),
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
        "model": _model(tokens, list(_SPM_MERGES), byte_fallback=True),
    }


def byte_level() -> dict[str, Any]:
    """As Llama 3 has it: 3 special tokens, 256 bytes as letters, and some merges."""
    tokens = [*SPECIAL, *_byte_letters()]
    pre_tokenizer = [
        {"type": "Split", "pattern": {"Regex": _SPLIT}, "behavior": "Isolated", "invert": False},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added_tokens(),
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": pre_tokenizer},
        "post_processor": _bos_first(),
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": _model(tokens, list(_BPE_MERGES), byte_fallback=False),
    }


def _model(tokens: list[str], merges: list[str], *, byte_fallback: bool) -> dict[str, Any]:
    tokens = [*tokens, *(merge.replace(" ", "") for merge in merges)]
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": SPECIAL[0] if byte_fallback else None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": byte_fallback,
        "byte_fallback": byte_fallback,
        "ignore_merges": False,
        "vocab": {token: i for i, token in enumerate(tokens)},
        "merges": merges,
    }


def _added_tokens() -> list[dict[str, Any]]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return [{"id": i, "content": token, **flags} for i, token in enumerate(SPECIAL)]


def _bos_first() -> dict[str, Any]:
    bos = {"SpecialToken": {"id": SPECIAL[BOS], "type_id": 0}}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    special = {SPECIAL[BOS]: {"id": SPECIAL[BOS], "ids": [BOS], "tokens": [SPECIAL[BOS]]}}
    return {
        "type": "TemplateProcessing",
        "single": [bos, text],
        "pair": [bos, text, text],
        "special_tokens": special,
    }


def _byte_letters() -> list[str]:
    """The letter that stands for each byte: itself where it prints, else one from U+0100 on."""
    prints = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in prints else next(others)) for byte in range(256)]
