"""What OpenAPI says about the answers of llama-server's paths."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llorch.server.openapi import ASKED, GENERATED, POSTED, properties, refusals

_ERROR = {
    "type": "object",
    "properties": {"error": properties(code="integer", message="string", type="string")},
    "required": ["error"],
}
NOT_READY = refusals(ASKED, {0: _ERROR})
"""Refusals of every path."""
REFUSALS = refusals(POSTED, {0: _ERROR})
"""Refusals of a path that reads a body."""
REFUSALS_OF_TEXTS = refusals(GENERATED, {0: _ERROR})
"""Refusals of a path that generates."""


def answer(schema: Mapping[str, Any]) -> dict[int | str, dict[str, Any]]:
    """An answer whose JSON body is of `schema`."""
    return {200: {"description": "The answer", "content": {"application/json": {"schema": schema}}}}
