"""What fields take that hold token ids: lists of them, prompts, biases."""

from __future__ import annotations

import math
from typing import Annotated, Any

from llorch.fields.kinds import MAX_TOKEN_ID, Kind, at_most, bad_items, described
from llorch.fields.plain import plain_biases, plain_prompt, plain_token_ids

TOKEN_ID_SCHEMA = {"title": "token id", "type": "integer", "minimum": 0, "maximum": MAX_TOKEN_ID}
"""JSON schema of a token id of any model."""
TOKEN_ID_KEY_SCHEMA = {"title": "token id as text", "pattern": "^[0-9]+$", "maxLength": 9}
"""The same, where it is the key of an object."""


def token_ids(most: int | None = None) -> Kind:
    """A list of token ids: at least one, or at most `most`; the vocabulary of a model limits them further."""
    limits = {"min_length": 1} if most is None else {"max_length": most}

    def make() -> Any:
        from pydantic import BeforeValidator, WithJsonSchema

        bound = {"minItems": 1} if most is None else {"maxItems": most}
        schema = {"type": "array", "items": TOKEN_ID_SCHEMA, **bound}
        return Annotated[list[int], BeforeValidator(_check_token_ids), WithJsonSchema(schema)]

    of = "a list of integers" if most is None else f"a list of at most {most} integers"
    return Kind(make, f"{of}, 0 <= id < n_vocab", limits, plain_token_ids)


def prompt() -> Kind:
    """What Python callers may continue: text, also the empty one (BOS alone), or token ids."""

    def make() -> Any:
        from pydantic import BeforeValidator

        return Annotated[str | list[int], BeforeValidator(_check_token_ids)]

    return Kind(make, "a string, or a sequence of integers (token ids)", plain=plain_prompt)


def json_biases(low: int, high: int, max_pairs: int) -> Kind:
    """A JSON object of token ids, which are strings there, and what is added to their logits."""

    def make() -> Any:
        from pydantic import BeforeValidator, Field, WithJsonSchema

        biases = dict[str, Annotated[float, Field(ge=low, le=high)]]
        schema = {
            "type": "object",
            "propertyNames": TOKEN_ID_KEY_SCHEMA,
            "additionalProperties": {"type": "number", "minimum": low, "maximum": high},
            "maxProperties": max_pairs,
        }
        check = BeforeValidator(_check_keys)
        return Annotated[biases, check, BeforeValidator(at_most(max_pairs)), WithJsonSchema(schema)]

    rule = f'an object of at most {max_pairs} pairs "id": bias, {low} <= bias <= {high}'
    return Kind(make, rule)


def biases(low: int, high: int) -> Kind:
    """A mapping of token ids to what is added to their logits; ``-inf`` forbids a token."""

    def make() -> Any:
        from pydantic import BeforeValidator, Field

        bias = Annotated[float, Field(ge=low, le=high)]
        finite = BeforeValidator(lambda value: low if value == -math.inf else _check_number(value))
        token_id = Annotated[int, Field(ge=0, le=MAX_TOKEN_ID)]
        return dict[token_id, Annotated[bias, finite]]

    rule = f"a mapping of token ids to a bias, {low} <= bias <= {high} or -inf"
    return Kind(make, rule, plain=plain_biases)


def _check_token_ids(value: object) -> object:
    """Check the items in one pass and report them together: a list may hold hundreds of thousands."""
    if isinstance(value, list | tuple):
        if value and set(map(type, value)) == {int} and min(value) >= 0 and max(value) <= MAX_TOKEN_ID:
            return list(value)
        bad = [i for i, item in enumerate(value) if type(item) is not int or not 0 <= item <= MAX_TOKEN_ID]
        if bad:
            raise bad_items(f"got {len(bad)} of {len(value)} items wrong, first [{bad[0]}]")
        return list(value)
    return value


def _check_number(value: object) -> object:
    """Refuse objects that pydantic would ask for their `__float__`."""
    if not isinstance(value, int | float):
        raise bad_items(f"got {described(value)}")
    return value


def _check_keys(value: object) -> object:
    """Refuse keys that are no token ids."""
    if isinstance(value, dict):
        n_bad = sum(not (key.isascii() and key.isdecimal() and len(key) < 10) for key in value)
        if n_bad:
            raise bad_items(f"{n_bad} of its keys are no token ids")
    return value
