"""`tokenizer.model`: a SentencePiece model of the BPE type.

Source: sentencepiece `sentencepiece_model.proto`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from llorch.errors import ModelError
from llorch.formats.hugging_face.token_table import BYTE, CONTROL, NORMAL, UNKNOWN, UNUSED, USER_DEFINED
from llorch.formats.json_file import read_bytes
from llorch.formats.printed import printable
from llorch.formats.protobuf import Message

_MAX_BYTES = 1 << 26
_MODEL_TYPES = {1: "Unigram", 2: "BPE", 3: "Word", 4: "Char"}
_BPE = 2
_KINDS = {NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE}
_ID_FIELDS = {40: "unk", 41: "bos", 42: "eos", 43: "pad"}


@dataclass(slots=True)
class SentencePieceModel:
    """What a file says.

    Attributes:
        pieces: text, score and kind of each token.
        ids: of special tokens, by ``bos``, ``eos``, ``unk`` and ``pad``; negative where there is none.
        has_space_prefix: whether a space goes in front of a text.
    """

    pieces: list[tuple[str, float, int]] = field(default_factory=list)
    ids: dict[str, int] = field(default_factory=lambda: {"unk": 0, "bos": 1, "eos": 2, "pad": -1})
    has_space_prefix: bool = True


def is_tiktoken(raw: bytes) -> bool:
    """Whether a file called `tokenizer.model` is a list of tokens in base64 with their ranks, as Meta's Llama 3 has."""
    token, separator, rank = raw[:200].partition(b"\n")[0].strip().partition(b" ")
    return bool(separator) and rank.isdigit() and token.isascii() and token[:1].isalnum()


def read_model_file(path: Path) -> bytes:
    """The bytes of `tokenizer.model`."""
    return read_bytes(path, _MAX_BYTES)


def parse_sentencepiece(raw: bytes, path: Path) -> SentencePieceModel:
    """The model in `raw`.

    Raises:
        ModelError: it is malformed, of another type than BPE, or changes texts in ways llorch does not know.
    """
    found, model_type = SentencePieceModel(), 1
    for message, number in _messages(Message(raw, 0, len(raw), printable(path), ModelError)):
        if number == 1:
            found.pieces.append(_piece(message, len(found.pieces)))
        elif number == 2:
            model_type = _read_trainer(message, found)
        else:
            _read_normalizer(message, found)
    if not found.pieces:
        raise ModelError(f"{printable(path)}: has no pieces, so it is no SentencePiece model")
    if model_type != _BPE:
        kind = _MODEL_TYPES.get(model_type, f"number {model_type}")
        raise ModelError(
            f"{printable(path)}: is a SentencePiece model of the type {kind}, which is not supported (supported: BPE)"
        )
    return found


def _messages(root: Message) -> Iterator[tuple[Message, int]]:
    """The pieces (1), the trainer's settings (2) and the normalizer's (3)."""
    for entry in root.fields():
        if entry.number in (1, 2, 3):
            yield root.message(entry), entry.number


def _piece(message: Message, token_id: int) -> tuple[str, float, int]:
    text, score, kind = "", 0.0, NORMAL
    for entry in message.fields():
        if entry.number == 1:
            text = message.text(entry)
        elif entry.number == 2:
            score = message.float32(entry)
        elif entry.number == 3:
            kind = message.signed(entry)
    if kind not in _KINDS:
        raise message.fault(f"piece {token_id} is of the kind {kind}; kinds are 1 to 6")
    if score != score:
        raise message.fault(f"the score of piece {token_id} is not a number")
    return text, score, kind


def _read_trainer(message: Message, found: SentencePieceModel) -> int:
    """Ids of special tokens; the type of the model."""
    model_type = 1
    for entry in message.fields():
        if entry.number == 3:
            model_type = message.signed(entry)
        elif entry.number == 24 and message.signed(entry):
            raise message.fault("treats white space as suffix, which is not supported")
        elif entry.number in _ID_FIELDS:
            found.ids[_ID_FIELDS[entry.number]] = message.signed(entry)
    return model_type


def _read_normalizer(message: Message, found: SentencePieceModel) -> None:
    name = ""
    for entry in message.fields():
        if entry.number == 1:
            name = message.text(entry)
        elif entry.number == 2 and entry.end > entry.value:
            raise message.fault(
                f"normalises characters ({name or 'rules without a name'}), which is not supported "
                "(supported: identity)"
            )
        elif entry.number == 3:
            found.has_space_prefix = bool(message.signed(entry))
        elif entry.number == 5 and not message.signed(entry):
            raise message.fault("leaves spaces as they are, which is not supported")
