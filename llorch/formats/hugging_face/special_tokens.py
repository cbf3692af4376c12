"""Which tokens begin and end a text, stand for what is unknown, and end a generation: five files say so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from llorch.errors import ModelError
from llorch.formats.hugging_face.json_section import MAX_TOKEN_ID, Section
from llorch.formats.hugging_face.pre_tokenizers import steps_of
from llorch.formats.hugging_face.token_table import TokenTable
from llorch.formats.printed import quote
from llorch.formats.protocol import MetadataValue

_NAMES = {
    "bos": "bos_token_id",
    "eos": "eos_token_id",
    "unk": "unknown_token_id",
    "sep": "seperator_token_id",
    "pad": "padding_token_id",
    "cls": "cls_token_id",
    "mask": "mask_token_id",
}
"""GGUF's keys by the names of Hugging Face (`seperator` is GGUF's spelling)."""


_NO_TOKEN = (1 << 32) - 1
"""Says that there is no such token, where a reader of GGUF would take an absent key for a certain id."""

_MAX_ENDS = 4096


@dataclass(frozen=True, slots=True)
class SpecialTokenFiles:
    """What the files say; empty where there is none.

    Attributes:
        tokenizer_config, special_tokens_map, tokenizer_json, generation_config, config: objects of these files.
        model_ids: of `tokenizer.model`, by the names of Hugging Face; negative for none.
    """

    tokenizer_config: Section
    special_tokens_map: Section
    tokenizer_json: Section
    generation_config: Section
    config: Section
    model_ids: Mapping[str, int]


def special_token_metadata(
    files: SpecialTokenFiles, table: TokenTable, *, needs_unknown: bool
) -> dict[str, MetadataValue]:
    """Ids of special tokens, all that end a generation if they are several, and what goes around a text.

    The token that `tokenizer_config.json` or `special_tokens_map.json` names comes first, then the one that
    `tokenizer.json` puts around a text, then the ids in `config.json`, `generation_config.json`, `tokenizer.model`.

    Args:
        files: of the directory.
        table: with all tokens.
        needs_unknown: whether readers of GGUF take an absent unknown token for token 0.

    Raises:
        ModelError: a file is malformed, or puts tokens around texts that GGUF cannot say.
    """
    front, back = _around_texts(files.tokenizer_json)
    around = {"bos": front, "eos": back}
    ids = {name: _id(name, files, table, around.get(name, [])) for name in _NAMES}
    for name, added in around.items():
        if added and added != [ids[name]]:
            raise ModelError(
                f"{files.tokenizer_json.label}: post_processor: puts the tokens {added} "
                f"{'in front of' if name == 'bos' else 'behind'} a text, which is supported of {name} only "
                f"({'none' if ids[name] is None else ids[name]})"
            )
    found: dict[str, MetadataValue] = {}
    for name, key in _NAMES.items():
        value = ids[name]
        if value is not None or name in ("bos", "eos") or (name == "unk" and needs_unknown):
            found[f"tokenizer.ggml.{key}"] = _NO_TOKEN if value is None else value
    ends = list(dict.fromkeys(end for end in [ids["eos"], *_listed_ends(files)] if end is not None))
    if len(ends) > 1:
        found["tokenizer.ggml.eos_token_ids"] = _read_only(ends)
    has_processor = "post_processor" in files.tokenizer_json
    is_llama = (files.tokenizer_config.text("tokenizer_class") or "").startswith(
        ("LlamaToken", "CodeLlamaToken")
    )
    adds_bos = is_llama or not files.tokenizer_json.values
    for name, added, default in (("bos", front, adds_bos), ("eos", back, False)):
        key = f"add_{name}_token"
        found[f"tokenizer.ggml.{key}"] = (
            bool(added) if has_processor else files.tokenizer_config.flag(key, default)
        )
    return found


def _id(name: str, files: SpecialTokenFiles, table: TokenTable, around: list[int]) -> int | None:
    """The id of the token with this role; `around` are those that go around a text where it does."""
    for section in (files.tokenizer_config, files.special_tokens_map):
        text = _token_text(section, f"{name}_token")
        if text is not None and text in table.ids:
            return table.ids[text]
    if around:
        return around[0]
    for section in (files.config, files.generation_config):
        listed = _ids_under(section, f"{name}_token_id")
        if listed:
            return listed[0]
    token_id = files.model_ids.get(name, -1)
    if name == "unk" and token_id < 0:
        model = files.tokenizer_json.section("model")
        text = None if model is None else model.text("unk_token")
        return None if text is None else table.ids.get(text)
    return token_id if token_id >= 0 else None


def _token_text(section: Section, name: str) -> str | None:
    """The text of a token, which stands there as such or in an object that says more of it."""
    if isinstance(section.values.get(name), dict):
        token = section.section(name)
        return None if token is None else token.text("content")
    return section.text(name)


def _listed_ends(files: SpecialTokenFiles) -> list[int]:
    return [
        token_id
        for section in (files.config, files.generation_config)
        for token_id in _ids_under(section, "eos_token_id")
    ]


def _ids_under(section: Section, name: str) -> list[int]:
    """The id under `name`, or the ids of a list; without negative ones, which say that there is no token."""
    if not isinstance(section.values.get(name), list):
        token_id = section.token_id(name)
        return [] if token_id is None else [token_id]
    items = section.items(name)
    if len(items) > _MAX_ENDS or not all(type(item) is int and item <= MAX_TOKEN_ID for item in items):
        raise section.fault(name, f"a token id, or a list of up to {_MAX_ENDS}")
    return [item for item in items if item >= 0]


def _around_texts(tokenizer_json: Section) -> tuple[list[int], list[int]]:
    """Ids that the post-processor puts in front of a text, and behind it."""
    front: list[int] = []
    back: list[int] = []
    for step in steps_of(tokenizer_json, "post_processor", "processors"):
        kind = step.needed("type")
        if kind == "TemplateProcessing":
            before, after = _template_ids(step)
            front, back = before + front, back + after
        elif kind != "ByteLevel":
            raise ModelError(
                f"{step.label}: {step.keys}type: the post-processor {quote(kind)} is not supported "
                "(supported: 'TemplateProcessing', 'ByteLevel')"
            )
    return front, back


def _template_ids(step: Section) -> tuple[list[int], list[int]]:
    special = step.section("special_tokens")
    sides: tuple[list[int], list[int]] = ([], [])
    n_texts = 0
    for piece in step.sections("single"):
        token = piece.section("SpecialToken")
        if token is None:
            n_texts += 1
            continue
        entry = None if special is None else special.section(token.needed("id"))
        ids = [] if entry is None else _ids_under(entry, "ids")
        if not ids:
            raise token.fault("id", "a token that has ids under special_tokens")
        sides[min(n_texts, 1)].extend(ids)
    if n_texts != 1:
        raise step.fault("single", "one text, with special tokens around it")
    return sides


def _read_only(ids: list[int]) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    array = np.array(ids, np.int32)
    array.flags.writeable = False
    return array
