"""Errors as Ollama writes them, whole and as the last line of a stream: ``{"error": message}``."""

from __future__ import annotations

from starlette.responses import JSONResponse, Response

from llorch.server.errors import outline


def ollama_shape(error: Exception) -> Response:
    """The answer to a request that ended in `error`; the status and the headers are those of every API."""
    status, message, headers = outline(error)
    return JSONResponse({"error": message}, status, headers)
