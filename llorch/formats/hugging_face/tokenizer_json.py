"""`tokenizer.json`: a BPE vocabulary of bytes, or of characters with ``▁`` for a space, as SentencePiece has them.

GGUF has two kinds of tokenizers for them: ``gpt2`` merges pairs in the order of a list, ``llama`` merges the pair whose
text has the best score. For the latter, the score of a token is the rank of the first pair that makes it.
"""

from __future__ import annotations

import re
from typing import Any

from llorch.errors import ModelError, described, shown
from llorch.formats.hugging_face.json_section import MAX_TOKEN_ID, Section
from llorch.formats.hugging_face.pre_tokenizers import pre_tokenizer_name, steps_of
from llorch.formats.hugging_face.token_table import ADDED_SCORE, BYTE, NORMAL, UNKNOWN, TokenTable
from llorch.formats.printed import quote
from llorch.formats.protocol import MetadataValue

_BYTE_TOKEN = re.compile(r"<0x[0-9A-F]{2}>")
_SPACE = "▁"

_NOT_READ = {"dropout": (None, 0), "continuing_subword_prefix": (None, ""), "end_of_word_suffix": (None, "")}
"""Settings of the model that change ids, and the values that do not."""


def read_tokenizer_json(root: Section, table: TokenTable) -> dict[str, MetadataValue]:
    """Put the tokens into the table; the keys besides those of the table.

    Args:
        root: of the file.
        table: empty.

    Raises:
        ModelError: the file is malformed, or holds another kind of tokenizer.
    """
    model = _model(root)
    vocabulary = _vocabulary(model)
    added = [(_added_id(token), token.needed("content"), token) for token in root.sections("added_tokens")]
    table.check_size(vocabulary.values())
    table.check_size(token_id for token_id, _, _ in added)
    merges = _merges(model)
    steps = steps_of(root, "pre_tokenizer", "pretokenizers")
    if any(step.text("type") == "ByteLevel" for step in steps):
        _refuse_normalizers(steps_of(root, "normalizer", "normalizers"))
        for text, token_id in vocabulary.items():
            table.put(token_id, text, NORMAL)
        found: dict[str, MetadataValue] = {
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.pre": pre_tokenizer_name(steps, model.flag("ignore_merges")),
            "tokenizer.ggml.merges": [f"{left} {right}".encode(errors="replace") for left, right in merges],
        }
    else:
        has_prefix = _has_space_prefix(root, steps)
        _check_words(steps, merges, model)
        _put_scored(table, vocabulary, merges, model)
        found = spm_keys(has_prefix)
    for token_id, text, token in added:
        _add(table, token_id, text, token, 0.0 if text in vocabulary else ADDED_SCORE)
    unknown = table.ids.get(model.text("unk_token") or "")
    if unknown is not None and found["tokenizer.ggml.model"] == "llama":
        table.types[unknown] = UNKNOWN
    return found


def spm_keys(has_space_prefix: bool) -> dict[str, MetadataValue]:
    """The keys of a vocabulary that is merged by scores, as SentencePiece does."""
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.add_space_prefix": has_space_prefix,
    }


def _model(root: Section) -> Section:
    model = root.section("model")
    if model is None:
        raise root.fault("model", "an object")
    kind = model.text("type") or ("BPE" if "merges" in model else "")
    if kind != "BPE":
        raise ModelError(
            f"{root.label}: model.type: the tokenizer model {quote(kind)} is not supported (supported: 'BPE')"
        )
    for name, harmless in _NOT_READ.items():
        if model.values.get(name) not in harmless:
            raise model.fault(name, f"{harmless[1]!r} or null, as nothing else is supported")
    return model


def _vocabulary(model: Section) -> dict[str, int]:
    section = model.section("vocab")
    if section is None:
        raise model.fault("vocab", "an object")
    for text, token_id in section.values.items():
        if type(token_id) is not int or not 0 <= token_id <= MAX_TOKEN_ID:
            raise ModelError(
                f"{model.label}: {section.keys[:-1]}[{quote(text)}]: expected a token id, got {described(token_id)}"
            )
    return dict(section.values)


def _added_id(token: Section) -> int:
    token_id = token.token_id("id")
    if token_id is None:
        raise token.fault("id", "a token id")
    return token_id


def _merges(model: Section) -> list[tuple[str, str]]:
    """Pairs in their order; both spellings, "left right" and ["left", "right"]."""
    items = model.items("merges")
    if items and isinstance(items[0], str) and items[0].startswith("#version"):
        items = items[1:]
    merges: list[tuple[str, str]] = []
    for item in items:
        pair: Any = item.split(" ") if type(item) is str else item
        if type(pair) is not list or len(pair) != 2 or type(pair[0]) is not str or type(pair[1]) is not str:
            raise ModelError(
                f'{model.label}: {model.keys}merges: expected "left right" or ["left", "right"], got {described(item)}'
            )
        merges.append((pair[0], pair[1]))
    return merges


def _check_words(steps: list[Section], merges: list[tuple[str, str]], model: Section) -> None:
    """Refuse what would cut a text before it is merged, where that makes a difference."""
    if model.flag("ignore_merges"):
        raise model.fault("ignore_merges", f"false, as the vocabulary has {_SPACE!r} for a space")
    joins_words = any(_SPACE in right for _, right in merges)
    for step in steps:
        if joins_words and step.flag("split", True):
            raise step.fault("split", f"false, as merges join words at {_SPACE!r}")


def _put_scored(
    table: TokenTable, vocabulary: dict[str, int], merges: list[tuple[str, str]], model: Section
) -> None:
    """Tokens with their scores: minus the rank of the merge, and below all of them what no merge makes."""
    ranks: dict[str, int] = {}
    for rank, (left, right) in enumerate(merges):
        ranks.setdefault(left + right, rank)
    has_bytes = model.flag("byte_fallback")
    lowest = float(-max(len(vocabulary), len(merges)))
    for text, token_id in vocabulary.items():
        if _BYTE_TOKEN.fullmatch(text):
            if not has_bytes:
                raise model.fault("byte_fallback", f"true, as the vocabulary has the byte token {text}")
            table.put(token_id, text, BYTE)
        else:
            table.put(token_id, text, NORMAL, float(-ranks[text]) if text in ranks else lowest)


def _add(table: TokenTable, token_id: int, text: str, token: Section, score: float) -> None:
    """Put in an added token, which the model's vocabulary may list, too, but not under another id."""
    there, listed = table.texts[token_id], table.ids.get(text, token_id)
    if listed != token_id or there not in (None, text):
        problem = (
            f"has the id {listed} in the vocabulary"
            if listed != token_id
            else f"is {quote(str(there))} there"
        )
        raise ModelError(f"{token.label}: {token.keys}id: token {token_id}, {quote(text)}, {problem}")
    table.add(token_id, text, is_special=token.flag("special"), score=score)


def _refuse_normalizers(steps: list[Section]) -> None:
    if steps:
        raise ModelError(
            f"{steps[0].label}: {steps[0].keys}type: the normalizer {quote(steps[0].needed('type'))} of a byte-level "
            "tokenizer is not supported (supported: none)"
        )


def _has_space_prefix(root: Section, pre_tokenizer: list[Section]) -> bool:
    """Whether a space goes in front of a text; spaces must become ``▁``, and nothing else may change.

    A prefix that is put in front of the first part of a text only is taken for one in front of each part, as GGUF has
    no word for it; the parts are what lies between special tokens.
    """
    has_prefix = replaces = False
    for step in [*steps_of(root, "normalizer", "normalizers"), *pre_tokenizer]:
        kind = step.needed("type")
        pattern = step.section("pattern") if kind == "Replace" else None
        if kind == "Prepend" and step.text("prepend") == _SPACE:
            has_prefix = True
        elif pattern is not None and pattern.text("String") == " " and step.text("content") == _SPACE:
            replaces = True
        elif kind == "Metaspace" and step.text("replacement") == _SPACE:
            replaces = True
            scheme = step.text("prepend_scheme")
            if scheme is None:  # written before there were schemes
                scheme = "always" if step.flag("add_prefix_space", True) else "never"
            has_prefix |= scheme != "never"
        else:
            raise ModelError(
                f"{root.label}: {step.keys[:-1]}: {shown(dict(step.values), 200)} is not supported (supported: "
                f"'Prepend' of {_SPACE!r}, 'Replace' of ' ' by {_SPACE!r}, 'Metaspace', 'ByteLevel')"
            )
    if not replaces:
        raise ModelError(
            f"{root.label}: normalizer, pre_tokenizer: neither writes spaces as {_SPACE!r}, and no 'ByteLevel' writes "
            "bytes as characters; no other vocabulary is supported"
        )
    return has_prefix
