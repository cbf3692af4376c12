"""What OpenAPI says about these paths: their bodies, which the routes read by themselves, and their refusals."""

from __future__ import annotations

from typing import Any

_ERROR = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "code": {"type": "integer"},
                "message": {"type": "string"},
                "type": {"type": "string"},
                "n_prompt_tokens": {"type": "integer"},
                "n_ctx": {"type": "integer"},
            },
            "required": ["code", "message", "type"],
        }
    },
    "required": ["error"],
}


def _refusal(description: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": _ERROR}}}


NOT_READY: dict[int | str, dict[str, Any]] = {
    401: _refusal("The API key is missing or wrong"),
    403: _refusal("The Host header names another server"),
    503: _refusal("Not ready; Retry-After says when to come back"),
}
"""Refusals of every path."""

REFUSALS: dict[int | str, dict[str, Any]] = {
    **NOT_READY,
    400: _refusal("Every fault of the request, in one message"),
    408: _refusal("The body did not arrive"),
    413: _refusal("The body is too large"),
    415: _refusal("The body is not announced as JSON"),
    500: _refusal("The server failed"),
}
"""Refusals of a path that reads a body."""


def described_body(schema: dict[str, Any]) -> dict[str, Any]:
    """OpenAPI's description of a JSON body of `schema`."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}
