"""The tokens of `tokenizer.model`, and those that the files beside it add."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from llorch.errors import ModelError
from llorch.formats.hugging_face.json_section import MAX_TOKEN_ID, Section
from llorch.formats.hugging_face.sentencepiece_model import SentencePieceModel
from llorch.formats.hugging_face.token_table import ADDED_SCORE, USER_DEFINED, TokenTable
from llorch.formats.printed import quote


class _Added(NamedTuple):
    """A token that a file adds, or says more of."""

    token_id: int
    text: str
    is_special: bool


def put_pieces(model: SentencePieceModel, table: TokenTable) -> None:
    """Put the tokens of the model into the table, which is empty.

    Raises:
        ModelError: there are more than the embedding has rows.
    """
    table.check_size([len(model.pieces) - 1])
    for token_id, (text, score, kind) in enumerate(model.pieces):
        table.put(token_id, text.replace("▁", " ") if kind == USER_DEFINED else text, kind, score)


def put_added(
    table: TokenTable, added_tokens: Section, tokenizer_config: Section, tokenizer_json: Section
) -> None:
    """Put in what `added_tokens.json` and `tokenizer_config.json` add, the latter last, as llama.cpp's converter does.

    `tokenizer.json` counts only for ids that are still without a token.

    Raises:
        ModelError: a file is malformed, or adds tokens beyond the rows of the embedding.
    """
    added = [*_from_added_tokens(added_tokens), *_from_decoder(tokenizer_config)]
    others = list(_from_tokenizer_json(tokenizer_json))
    table.check_size(token.token_id for token in [*added, *others])
    for token in added:
        table.add(token.token_id, token.text, is_special=token.is_special, score=ADDED_SCORE)
    for token in others:
        if table.texts[token.token_id] is None:
            table.add(token.token_id, token.text, is_special=token.is_special, score=ADDED_SCORE)


def _from_added_tokens(section: Section) -> Iterator[_Added]:
    for text in section.values:
        yield _Added(_needed_id(section, text), text, is_special=False)


def _from_decoder(tokenizer_config: Section) -> Iterator[_Added]:
    decoder = tokenizer_config.section("added_tokens_decoder")
    for key in {} if decoder is None else decoder.values:
        token = None if decoder is None else decoder.section(key)
        if token is None or not (
            key.isascii() and key.isdigit() and len(key) <= 10 and int(key) <= MAX_TOKEN_ID
        ):
            raise ModelError(
                f"{tokenizer_config.label}: added_tokens_decoder: expected objects by token ids, got {quote(key)}"
            )
        yield _Added(int(key), token.needed("content"), token.flag("special"))


def _from_tokenizer_json(section: Section) -> Iterator[_Added]:
    for token in section.sections("added_tokens"):
        yield _Added(_needed_id(token, "id"), token.needed("content"), token.flag("special"))


def _needed_id(section: Section, name: str) -> int:
    token_id = section.token_id(name)
    if token_id is None:
        raise section.fault(name, "a token id")
    return token_id
