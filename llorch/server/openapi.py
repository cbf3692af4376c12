"""What OpenAPI says about routes that read their bodies by themselves: the body, the answer, every refusal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp

from llorch.fields.token_kinds import TOKEN_ID_KEY_SCHEMA, TOKEN_ID_SCHEMA
from llorch.open_model import OpenModel
from llorch.server.cors import with_cors
from llorch.server.request_log import RequestLog

_WORDS = {
    400: "Everything that is wrong with the request",
    401: "The API key is missing or wrong",
    403: "The Host header names another server, or the key does not suffice",
    404: "There is nothing of this name",
    409: "An unfinished generation has this name; or a trace is being taken, or is not",
    408: "The body did not arrive in time",
    413: "The body is too large",
    415: "The body is not announced as JSON",
    500: "The server failed; its log says why",
    504: "The time of the request was over before its first token",
    503: "Not ready, or too many requests are waiting; Retry-After says when to come back",
}
WITHOUT_TOOLS: dict[str, Any] = {
    "title": "Without tools",
    "properties": {"tools": {"anyOf": [{"type": "null"}, {"type": "array", "maxItems": 0}]}},
}
"""A body that brings no tools, which is all that models without a form of calls take."""
VECTOR_SIZE_SCHEMA: dict[str, Any] = {"title": "size of vectors", "type": "integer", "minimum": 1}
"""The size of the model's vectors, which is known once it is loaded."""
ASKED = (401, 403, 500, 503)
"""Refusals of every request."""
POSTED = (400, *ASKED, 408, 413, 415)
"""Refusals of a request with a body."""
GENERATED = (*POSTED, 504)
"""Refusals of a request for a text."""


class DescribedApp(FastAPI):
    """An application whose description is exact: FastAPI makes float64 of bounds, and does not know the model."""

    _model: OpenModel | None = None

    def build_middleware_stack(self) -> ASGIApp:
        """The application as it is served: web pages of the settings' origins may read every answer, errors too."""
        stack = with_cors(super().build_middleware_stack(), self.state.service.settings.cors_origins)
        return RequestLog(stack, self.state.metrics.http, self.state.tracing)

    def openapi(self) -> dict[str, Any]:
        """The description; once the model is ready, token ids have its bound, and tools are there if it has them."""
        loaded = self.state.service.loaded
        if self.openapi_schema is None or loaded is not self._model:
            self._model, self.openapi_schema = loaded, None
            _make_exact(super().openapi(), loaded)
        assert self.openapi_schema is not None  # FastAPI keeps what it made
        return self.openapi_schema


def _make_exact(node: Any, loaded: OpenModel | None) -> None:
    """Make integers of the bounds in `node` that are some; 2^64 stands for 2^64 - 1, which is no float64.

    Once the model is loaded, token ids and sizes of vectors have its bounds. `WITHOUT_TOOLS` is made to hold always
    where it can call tools.
    """
    n_vocab = None if loaded is None else loaded.config.n_vocab
    items = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    for item in items:
        _make_exact(item, loaded)
    if isinstance(node, dict):
        for name in ("minimum", "maximum"):
            bound = node.get(name)
            if isinstance(bound, float) and bound.is_integer():
                node[name] = min(int(bound), 2**64 - 1)
        has_tools = loaded is None or loaded.structure.tool_format is not None
        if has_tools and node.get("title") == WITHOUT_TOOLS["title"]:
            del node["properties"]
        if loaded is not None and node.get("title") == VECTOR_SIZE_SCHEMA["title"]:
            node["minimum"] = node["maximum"] = loaded.config.n_embd
        if n_vocab is not None and node.get("title") == TOKEN_ID_SCHEMA["title"]:
            node["maximum"] = n_vocab - 1
        if n_vocab is not None and node.get("title") == TOKEN_ID_KEY_SCHEMA["title"]:
            node["pattern"] = f"^0*({numbers_to(n_vocab - 1)})$"


def numbers_to(largest: int) -> str:
    """A regular expression for the decimal numbers from 0 to `largest`, without zeros in front."""
    digits = str(largest)
    parts = [f"[1-9][0-9]{{{n}}}" for n in range(1, len(digits) - 1)]
    parts += ["[0-9]"] if len(digits) > 1 else []
    for i, digit in enumerate(digits):
        low = 1 if i == 0 and len(digits) > 1 else 0
        if int(digit) > low:
            parts.append(f"{digits[:i]}[{low}-{int(digit) - 1}][0-9]{{{len(digits) - i - 1}}}")
    return "|".join([*parts, digits])


def refusals(
    statuses: Iterable[int], schemas: Mapping[int, Mapping[str, Any]]
) -> dict[int | str, dict[str, Any]]:
    """Descriptions of answers that refuse.

    Args:
        statuses: which there are.
        schemas: of their JSON bodies; 0 stands for all other statuses.
    """
    return {
        status: {
            "description": _WORDS[status],
            "content": {"application/json": {"schema": schemas.get(status, schemas[0])}},
        }
        for status in sorted(statuses)
    }


def json_body(schema: Mapping[str, Any], *, required: bool = True) -> dict[str, Any]:
    """The description of a body of `schema`, as `openapi_extra` of a route."""
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}}


def stream_or_json(description: str, schema: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The description of an answer that is a stream of events, or one JSON body of `schema`."""
    whole = {} if schema is None else {"schema": schema}
    event = {"schema": properties(data="string")}
    return {"description": description, "content": {"application/json": whole, "text/event-stream": event}}


def properties(**types: str | list[str]) -> dict[str, Any]:
    """The schema of an object that has all of these properties, of these types, and maybe more."""
    return {
        "type": "object",
        "properties": {name: {"type": kind} for name, kind in types.items()},
        "required": list(types),
    }
