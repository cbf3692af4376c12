"""What a client is told when the replica that answers it is gone."""

from __future__ import annotations

import json

from llorch.engine.events import ErrorEvent
from llorch.server.errors import ErrorShape, GenerationFailedError
from llorch.server.routes.ollama.errors import ollama_shape
from llorch.server.routes.ollama.lines import line
from llorch.server.streaming import sse_frame

LOST = ErrorEvent(
    "replica_lost", "the replica that computed this answer is gone; send the request again", True
)

_NAMED = ("/generate", "/v1/messages", "/v1/responses")
"""Paths whose streams name their events."""


def lost_frame(path: str, shape: ErrorShape) -> bytes:
    """The last frame of a stream that broke off, as the API of `path` writes a failed generation.

    Args:
        path: of the request.
        shape: of the errors of that API.
    """
    payload = json.loads(bytes(shape(GenerationFailedError(LOST)).body))
    if shape is ollama_shape:
        return line(payload)
    return sse_frame(payload, "error" if path.startswith(_NAMED) else None)
