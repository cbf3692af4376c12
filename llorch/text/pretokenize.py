"""Pre-tokenizers: how byte-level BPE cuts a text into words, inside which it then merges.

Python's `re` knows no Unicode categories. So each character that is not ASCII is first replaced by a stand-in for all
characters that the patterns below treat alike; a word is then as long in the text as among the stand-ins. Which
category a character has depends on Python's version of Unicode; llama.cpp's tables are those of Unicode 15.1.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, pairwise

from llorch.errors import InputError, ModelError, described
from llorch.text.vocab_keys import PREFIX, VocabKeys

_CASED, _CJK, _MARK = 1, 2, 4
_SETS = (
    (
        _CASED,
        "\u00b5-\u02af\u0370-\u0556\u10a0-\u10c5\u13a0-\u13fd\u1c90-\u1cbf\u1d00-\u1d9a\u1e00-\u1ffc\u2102-\u2184"
        "\u2c00-\u2cf3\ua640-\ua78e\uab70-\uabbf\ufb00-\ufb17\uff21-\uff5a\U00010400-\U0001044f"
        "\U000104b0-\U000104fb\U00010c80-\U00010cf2\U000118a0-\U000118df\U0001e900-\U0001e943",
    ),
    (_CJK, "\u0800-\u9fa5\uac00-\ud7ff"),
    (_MARK, "\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002"),
)
"""Sets of characters that DeepSeek's patterns list one by one; of the first, only cased letters count."""

_CATEGORIES = "?LNP"  # any other, letter, number, punctuation
_STAND_INS = [chr(0xA0 + i) for i in range(len(_CATEGORIES) << len(_SETS))]


@lru_cache(maxsize=1 << 14)
def _stand_in(character: str) -> str:
    if character.isspace():
        return "\v"
    category = unicodedata.category(character)
    sets = sum(bit for bit, members in _SETS if re.match(f"[{members}]", character))
    if category not in ("Lu", "Ll", "Lt"):
        sets &= ~_CASED
    return _STAND_INS[len(_CATEGORIES) * sets + max(_CATEGORIES.find(category[0]), 0)]


def _all_of(category: str = "", bit: int = 0) -> str:
    """The stand-ins of all characters of a category, or in a set, to be put inside brackets."""
    return "".join(
        stand_in
        for i, stand_in in enumerate(_STAND_INS)
        if category in ("", _CATEGORIES[i % len(_CATEGORIES)]) and i // len(_CATEGORIES) & bit == bit
    )


_BEYOND_ASCII = _all_of("L")
_L = "A-Za-z" + _BEYOND_ASCII
_N = "0-9" + _all_of("N")
_P = r"!-#%-*,-/:;?@\[-\]_{}" + _all_of("P")

_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_GPT2 = rf"'(?:[stmd]|re|ve|ll)| ?[{_L}]+| ?[{_N}]+| ?[^\s{_L}{_N}]+|\s+(?!\S)|\s+"
_LLAMA3 = (
    rf"'(?:[sStTmMdD]|[rR][eE]|[vV][eE]|[lL][lL])|[^\r\n{_L}{_N}]?[{_L}]+|[{_N}]{{1,3}}"
    rf"| ?[^\s{_L}{_N}]+[\r\n]*|{_SPACES}"
)
_TEKKEN = (
    rf"[^\r\n{_L}{_N}]?(?:[A-Z{_BEYOND_ASCII}]*[a-z{_BEYOND_ASCII}]+|[A-Z{_BEYOND_ASCII}]+[a-z{_BEYOND_ASCII}]*)"
    rf"|[{_N}]| ?[^\s{_L}{_N}]+[\r\n/]*|{_SPACES}"
)
_DEEPSEEK_LLM = (
    r"[\r\n]",
    rf"\s?[A-Za-z{_all_of(bit=_CASED)}]+",
    rf"\s?[!-/:-~{_all_of(bit=_MARK)}]+",
    r"(?<!\s)\s+\Z",  # without the look behind, a run of spaces would be tried from each of them
    rf"[{_all_of(bit=_CJK)}]+",
    rf"[{_N}]+",
)
_DEEPSEEK_CODER = (r"[\r\n]", rf"\s?[{_L}]+", rf"\s?[{_P}]+", rf"[{_all_of(bit=_CJK)}]+", f"[{_N}]")


@dataclass(frozen=True, slots=True)
class PreTokenizer:
    """How a text is cut into words, and what else llama.cpp ties to the name.

    Attributes:
        patterns: each cuts what the one before it left: at its matches and between them.
        ignores_merges: a word that is a token is that token, whether merges lead to it or not.
        adds_bos: whether a text gets BOS where the file does not say.
    """

    patterns: tuple[str, ...]
    ignores_merges: bool = False
    adds_bos: bool = False

    def words(self, text: str) -> list[str]:
        """`text` in pieces; joined they are `text` again."""
        is_ascii = text.isascii()
        pieces = [text if is_ascii else re.sub(r"[^\0-\x7f]", lambda match: _stand_in(match[0]), text)]
        for pattern in self.patterns:
            cut = _compiled(pattern).split
            pieces = [part for piece in pieces for part in cut(piece) if part]
        if is_ascii:
            return pieces
        ends = accumulate(map(len, pieces), initial=0)
        return [text[begin:end] for begin, end in pairwise(ends)]


@lru_cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(f"({pattern})", re.ASCII)


_LIKE_LLAMA3 = PreTokenizer((_LLAMA3,), ignores_merges=True, adds_bos=True)
_LIKE_SMOLLM = PreTokenizer((f"[{_N}]", _GPT2))
_LIKE_GPT2 = PreTokenizer((_GPT2,))

PRE_TOKENIZERS = {
    "llama-bpe": _LIKE_LLAMA3,
    "llama3": _LIKE_LLAMA3,
    "llama-v3": _LIKE_LLAMA3,
    "falcon3": _LIKE_LLAMA3,
    "midm-2.0": _LIKE_LLAMA3,
    "pixtral": _LIKE_LLAMA3,
    "smaug-bpe": PreTokenizer((_LLAMA3,)),
    "smollm": _LIKE_SMOLLM,
    "minerva-7b": _LIKE_SMOLLM,
    "tekken": PreTokenizer((_TEKKEN,), ignores_merges=True, adds_bos=True),
    "deepseek-llm": PreTokenizer(_DEEPSEEK_LLM),
    "deepseek-coder": PreTokenizer(_DEEPSEEK_CODER),
    "gpt-2": _LIKE_GPT2,
    "trillion": _LIKE_GPT2,
    "default": PreTokenizer((rf"[{_P}$+<=>^~|]+", _GPT2, f"[{_N}]+", "[0-9][0-9][0-9]")),
}
"""By the names of `tokenizer.ggml.pre` that files of the Llama architecture have.

Source: llama.cpp `llm_tokenizer_bpe`, `llama_vocab::impl::load`, `unicode_regex_split`; the same words as there.
"""


def choose_pre_tokenizer(keys: VocabKeys, override: str | None) -> PreTokenizer:
    """The pre-tokenizer of a file, or the one named `override`.

    Raises:
        ModelError: the file names none, or one that llorch does not know.
        InputError: there is none named `override`.
    """
    key, name = PREFIX + "pre", keys.value("pre") if override is None else override
    if isinstance(name, str) and name in PRE_TOKENIZERS:
        return PRE_TOKENIZERS[name]
    known = f"(known: {', '.join(PRE_TOKENIZERS)})"
    if override is not None:
        raise InputError(f"override_pre: no pre-tokenizer is named {override[:40]!r} {known}")
    if name is not None and not isinstance(name, str):
        raise ModelError(f"{key}: expected a string, got {described(name)}")
    problem = (
        f"pre-tokenizer {name[:300]!r} is not known" if name else "missing, so how words are cut is unknown"
    )
    raise ModelError(f"{key}: {problem}; --override-pre NAME says which one to use {known}")
