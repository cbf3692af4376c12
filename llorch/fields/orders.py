"""A kind of values: some of the words there are, in an order."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from llorch.fields.kinds import Kind
from llorch.fields.plain import plain_strings


def ordered(*words: str) -> Kind:
    """A list of some of `words`, each at most once."""

    def make() -> Any:
        from pydantic import AfterValidator, BeforeValidator, WithJsonSchema

        one_word: Any = Literal[words]
        items = {"enum": list(words)}
        schema = {"type": "array", "items": items, "maxItems": len(words), "uniqueItems": True}
        return Annotated[
            list[one_word],
            AfterValidator(_check_unique),
            BeforeValidator(lambda value: list(value) if isinstance(value, tuple) else value),
            WithJsonSchema(schema),
        ]

    return Kind(make, f"a list of some of {', '.join(words)}, each at most once", plain=plain_strings)


def _check_unique(value: list[str]) -> list[str]:
    """Refuse a word that stands there twice."""
    if len(set(value)) < len(value):
        raise ValueError("a word stands there twice")
    return value
