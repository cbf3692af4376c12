"""Streams as Ollama sends them: one JSON object on each line."""

from __future__ import annotations

from datetime import UTC, datetime

from starlette.requests import Request

from llorch.server.body import read_json_object
from llorch.server.streaming import json_text

MEDIA_TYPE = "application/x-ndjson"


def line(payload: object) -> bytes:
    """`payload` as one line of a stream."""
    return f"{json_text(payload)}\n".encode()


def now() -> str:
    """The time, as every object of Ollama's says it."""
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


async def read_object(request: Request) -> dict[str, object]:
    """The JSON object a request carries, whatever it is announced as, unless a web page sends it.

    Ollama reads bodies without looking at their type, and `curl -d` announces a form. The type protects from web
    pages, which say where they come from.
    """
    is_web = "origin" in request.headers or "sec-fetch-site" in request.headers
    max_bytes = request.app.state.service.settings.max_body_bytes
    return await read_json_object(request, max_bytes, is_typed=is_web)
