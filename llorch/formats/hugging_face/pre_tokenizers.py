"""What cuts a text into words in `tokenizer.json`, by the names that GGUF has for it.

A pre-tokenizer is compared as the expressions with which it cuts, one after the other: ``Digits`` and the expression
inside of ``ByteLevel`` are written as such, and different spellings of one expression as the first of them.
"""

from __future__ import annotations

from llorch.errors import ModelError, shown
from llorch.formats.hugging_face.json_section import Section

_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + _SPACES
_LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|" + _LLAMA3_WORDS
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_TEKKEN = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*"
    rf"|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}"
)
_GPT2_WORDS = r" ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
_GPT2 = rf"'s|'t|'re|'ve|'m|'ll|'d|{_GPT2_WORDS}|\s+"
_DIGIT, _DIGITS = r"\p{N}", r"\p{N}+"
CJK = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
_CASED = (
    r"\s?["
    "A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-\u0373"
    "\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f"
    "\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77"
    "\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-"
    "\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec"
    "\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-"
    "\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3"
    "\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17"
    "\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3\U000104d8-\U000104fb\U00010c80-"
    "\U00010cb2\U00010cc0-\U00010cf2\U000118a0-\U000118df\U0001e900-\U0001e943"
    "]+"
)
_MARKS = r"\s?[!-/:-~" "\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+"
DEEPSEEK_LLM = (r"[\r\n]", _CASED, _MARKS, r"\s+$", CJK)
_DEEPSEEK_CODER = (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", CJK)

_SPELLINGS = {
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|" + _LLAMA3_WORDS: _LLAMA3,
    r"'(?i:[sdmt]|ll|ve|re)|" + _LLAMA3_WORDS: _LLAMA3,
    rf"'(?:[sdmt]|ll|ve|re)|{_GPT2_WORDS}|\s+": _GPT2,
    rf"'s|'t|'re|'ve|'m|'ll|'d|{_GPT2_WORDS}": _GPT2,
}

_NAMES = {
    ((_LLAMA3,), True): "llama-bpe",
    ((_LLAMA3,), False): "smaug-bpe",
    ((_TEKKEN,), True): "tekken",
    ((_GPT2,), False): "gpt-2",
    ((_DIGIT, _GPT2), False): "smollm",
    ((*DEEPSEEK_LLM, _DIGIT), False): "deepseek-llm",
    ((*DEEPSEEK_LLM, _DIGITS), False): "deepseek-llm",
    ((*_DEEPSEEK_CODER, _DIGIT), False): "deepseek-coder",
}
"""By the expressions, and whether words that are tokens are taken whole (`ignore_merges`).

DeepSeek-LLM cuts numbers into digits, of which no merge of its vocabulary joins two, so both spellings are one.

Source: `tokenizer.json` of the models, llama.cpp `llm_tokenizer_bpe`.
"""

_COVERING = (_LLAMA3, _TEKKEN, _GPT2)
"""Expressions that match any text from end to end, so that to remove what they leave removes nothing."""

_MAX_SHOWN = 280
_MAX_STEPS = 64


def steps_of(root: Section, name: str, inner: str) -> list[Section]:
    """The steps under `name`: one, or those of sequences inside of each other; none where the value is null.

    Args:
        root: of `tokenizer.json`.
        name: ``pre_tokenizer`` or ``normalizer``.
        inner: the key under which a ``Sequence`` has its steps.

    Raises:
        ModelError: a step has no type, or there are too many.
    """
    first = root.section(name)
    waiting = [] if first is None else [first]
    steps: list[Section] = []
    while waiting:
        step = waiting.pop()
        if step.needed("type") == "Sequence":
            waiting += reversed(step.sections(inner))
        else:
            steps.append(step)
        if len(steps) + len(waiting) > _MAX_STEPS:
            raise ModelError(f"{root.label}: {root.keys}{name}: has more than {_MAX_STEPS} steps")
    return steps


def pre_tokenizer_name(steps: list[Section], ignores_merges: bool) -> str:
    """GGUF's name of a byte-level pre-tokenizer.

    One that is not known is shown instead of named. No vocabulary takes that for a name, so that it is refused unless
    the user says which one to use.

    Raises:
        ModelError: a step is malformed.
    """
    patterns = [pattern for step in steps for pattern in _patterns(step)]
    name = _NAMES.get((tuple(patterns), ignores_merges))
    if name is not None and steps[-1].text("type") == "ByteLevel":
        return name
    shown = " then ".join(patterns) + (", words that are tokens taken whole" if ignores_merges else "")
    return f"tokenizer.json: {shown if len(shown) <= _MAX_SHOWN else shown[:_MAX_SHOWN] + '...'}"


def _patterns(step: Section) -> list[str]:
    """The expressions with which a step cuts, in the first of their spellings."""
    kind = step.text("type")
    if kind == "Digits":
        return [_DIGIT if step.flag("individual_digits") else _DIGITS]
    if kind == "ByteLevel":
        if step.flag("add_prefix_space", True):
            return ["ByteLevel that puts a space in front"]
        return [_GPT2] if step.flag("use_regex", True) else []
    if kind == "Split":
        pattern = step.section("pattern")
        expression = None if pattern is None else pattern.text("Regex")
        if expression is not None:
            expression = expression.replace("\r", r"\r").replace("\n", r"\n")
            expression = _SPELLINGS.get(expression, expression)
            how = (step.text("behavior"), step.flag("invert"))
            if how == ("Isolated", False) or (how == ("Removed", True) and expression in _COVERING):
                return [expression]
    return [shown(dict(step.values), _MAX_SHOWN)]
