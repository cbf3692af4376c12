"""What OpenAPI says about refusals of llama-server's paths."""

from __future__ import annotations

from llorch.server.openapi import ASKED, POSTED, properties, refusals

_ERROR = {
    "type": "object",
    "properties": {"error": properties(code="integer", message="string", type="string")},
    "required": ["error"],
}
NOT_READY = refusals(ASKED, {0: _ERROR})
"""Refusals of every path."""
REFUSALS = refusals(POSTED, {0: _ERROR})
"""Refusals of a path that reads a body."""
