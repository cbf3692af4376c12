"""``GET /docs``: the API as one page, made of its OpenAPI description; unlike Swagger UI it fetches nothing."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

Schema = Mapping[str, Any]

STYLE = """
:root { color-scheme: light dark; }
body { margin: 0 auto; max-width: 60rem; padding: 1.5rem; font: 15px/1.5 system-ui, sans-serif; }
h2 { margin: 2rem 0 0.2rem; font-size: 1.05rem; overflow-wrap: anywhere; }
code, h2 { font-family: ui-monospace, Menlo, Consolas, monospace; }
p { margin: 0.3rem 0; white-space: pre-line; }
table { border-collapse: collapse; width: 100%; font-size: 0.9rem; }
th, td { padding: 0.2rem 0.8rem 0.2rem 0; border-bottom: 1px solid #8884; text-align: left; vertical-align: top; }
td + td { overflow-wrap: anywhere; }
"""
_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_MAX_WORDS = 5
"""Kinds of one field that are named; more are only counted."""

router = APIRouter(include_in_schema=False)


@router.api_route("/docs", methods=["GET", "HEAD"])
async def docs(request: Request) -> HTMLResponse:
    """The page; while the model is loaded its token ids have no bound yet, as in `/openapi.json`."""
    return HTMLResponse(docs_page(request.app.openapi()), headers=HEADERS)


def docs_page(document: Schema) -> str:
    """HTML of an OpenAPI document: every path with its fields and its statuses."""
    title = escape(f"{document['info']['title']} {document['info']['version']}")
    parts = [
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>',
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style><body><h1>{title}</h1>',
        f"<p>{escape(document['info'].get('description', ''))}</p>",
        '<p>For programs: <a href="openapi.json">openapi.json</a></p>',
    ]
    for path, item in document["paths"].items():
        for method, about in item.items():
            parts += _operation(document, f"{method.upper()} {path}", about)
    return "\n".join(parts)


def _operation(document: Schema, name: str, about: Schema) -> Iterator[str]:
    words = [about.get("summary", ""), about.get("description", "")]
    yield f"<h2>{escape(name)}</h2>"
    yield from (f"<p>{escape(text)}</p>" for text in words if text)
    rows = [
        (
            f"{parameter['name']} ({parameter['in']})",
            parameter.get("schema", {}),
            parameter.get("description", ""),
        )
        for parameter in about.get("parameters", [])
    ]
    for content in about.get("requestBody", {}).get("content", {}).values():
        rows += [
            (field, schema, "") for field, schema in _fields(document, content.get("schema", {})).items()
        ]
    if rows:
        yield "<table><tr><th>field<th>takes<th>means"
        for field, schema, described in rows:
            text = described or schema.get("description", "")
            yield f"<tr><td><code>{escape(field)}</code><td>{escape(_kind(schema))}<td>{escape(text)}"
        yield "</table>"
    statuses = [f"{status}: {answer.get('description', '')}" for status, answer in about["responses"].items()]
    yield f"<p>{escape('. '.join(statuses))}</p>"


def _resolved(document: Schema, schema: Schema) -> Schema:
    """What `schema` refers to, inside the document."""
    found: Schema = schema
    for _ in range(8):  # references to references end somewhere
        if "$ref" not in found:
            break
        target: Any = document
        for step in found["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        found = target
    return found


def _fields(document: Schema, schema: Schema) -> dict[str, Schema]:
    """The properties of a body, of all parts that it is made of."""
    schema = _resolved(document, schema)
    fields = dict(schema.get("properties", {}))
    for word in ("allOf", "anyOf", "oneOf"):
        for part in schema.get(word, ()):
            fields = _fields(document, part) | fields
    return {name: _resolved(document, field) for name, field in fields.items()}


def _kind(schema: Schema) -> str:
    """What values a field takes, in a few words."""
    if "enum" in schema or "const" in schema:
        return " or ".join(str(value) for value in schema.get("enum", [schema.get("const")]))
    if parts := schema.get("anyOf") or schema.get("oneOf"):
        words = list(dict.fromkeys(_kind(part) for part in parts))
        return " or ".join(words) if len(words) <= _MAX_WORDS else f"one of {len(words)} kinds"
    kind = schema.get("$ref", "").rpartition("/")[2] or str(schema.get("type", "any value"))
    limits = [f"{sign} {schema[key]}" for key, sign in _SIGNS.items() if key in schema]
    default = f"; default {schema['default']}" if schema.get("default") is not None else ""
    return f"{kind} {', '.join(limits)}".rstrip() + default


_SIGNS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
