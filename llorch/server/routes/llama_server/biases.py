"""llama-server's `logit_bias`: pairs in a list, or an object; tokens by id or as text; ``false`` forbids.

Source: llama.cpp 0.5.0-dev, `tools/server/server-schema.cpp`, field `logit_bias`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from llorch.errors import FieldError, InputError, RequestError
from llorch.fields.kinds import MAX_TOKEN_ID
from llorch.fields.table import FIELDS
from llorch.fields.token_kinds import TOKEN_ID_SCHEMA
from llorch.text.tokenizer import Tokenizer

MAX_PAIRS = 1024
MAX_CHARS = 100
"""Longest text that stands for tokens."""
LIMIT = 100
"""Largest bias, and below zero the smallest; only ``false`` is less."""

_RULE = (
    f"at most {MAX_PAIRS} pairs of an id (or a text of 1..{MAX_CHARS} characters) and a bias, "
    f"-{LIMIT} <= bias <= {LIMIT} or false: [[id, bias], ...] or an object"
)
_BIAS = {"anyOf": [{"type": "number", "minimum": -LIMIT, "maximum": LIMIT}, {"const": False}]}
_TOKEN = {
    "anyOf": [
        TOKEN_ID_SCHEMA,
        {"type": "string", "minLength": 1, "maxLength": MAX_CHARS},
    ]
}
BIASES_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {
            "type": "array",
            "maxItems": MAX_PAIRS,
            "items": {"type": "array", "prefixItems": [_TOKEN, _BIAS], "minItems": 2, "maxItems": 2},
        },
        {
            "type": "object",
            "maxProperties": MAX_PAIRS,
            "propertyNames": {"minLength": 1, "maxLength": MAX_CHARS},
            "additionalProperties": _BIAS,
        },
        {"type": "null"},
    ],
    "description": FIELDS["logit_bias"].words,
}
"""JSON schema of the field."""


def bias_faults(value: object) -> list[FieldError]:
    """What is wrong with `value`, as JSON has it; null is fine."""
    if value is None:
        return []
    if not isinstance(value, list | dict):
        return [_fault("another type")]
    if len(value) > MAX_PAIRS:
        return [_fault(f"{len(value)} pairs")]
    pairs: Iterable[Any] = value if isinstance(value, list) else value.items()
    n_bad = sum(not _is_pair(pair) for pair in pairs)
    return [_fault(f"{n_bad} of {len(value)} pairs wrong")] if n_bad else []


def biases_of(value: list[Any] | dict[str, Any], tokenizer: Tokenizer) -> dict[int, float]:
    """Biases by token id, of a value in which there is no fault; a text stands for each of its tokens.

    Raises:
        RequestError: a text is not valid Unicode.
    """
    biases: dict[int, float] = {}
    for token, bias in value if isinstance(value, list) else value.items():
        number = -math.inf if bias is False else float(bias)
        for token_id in _token_ids(token, tokenizer):
            biases[token_id] = number
    return biases


def _token_ids(token: int | str, tokenizer: Tokenizer) -> list[int]:
    if isinstance(token, int):
        return [token]
    if _is_number(token):
        return [int(token)]
    try:
        return tokenizer.encode(token, add_bos=False)
    except InputError as error:
        raise RequestError([FieldError("logit_bias", "valid Unicode", str(error))]) from None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 10


def _is_pair(pair: object) -> bool:
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        return False
    token, bias = pair
    if isinstance(token, str):
        is_token = 1 <= len(token) <= MAX_CHARS
    else:
        is_token = type(token) is int and 0 <= token <= MAX_TOKEN_ID
    return is_token and (bias is False or (type(bias) in (int, float) and -LIMIT <= bias <= LIMIT))


def _fault(got: str) -> FieldError:
    return FieldError("logit_bias", _RULE, f"logit_bias: expected {_RULE}; got {got}")
