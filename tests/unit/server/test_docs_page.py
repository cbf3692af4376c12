"""`/docs`: every path and field of the description, as text, from this server alone."""

from __future__ import annotations

import asyncio
import re
from html import escape
from pathlib import Path
from typing import Any

import httpx

from llorch.engine.service import EngineService
from llorch.server.app import create_app
from llorch.server.routes.docs import docs_page
from llorch.settings import Settings


def test_every_path_and_every_field_is_listed_and_nothing_is_fetched(tiny_model: Path) -> None:
    app = create_app(EngineService(Settings(model=str(tiny_model), threads=1)))

    async def ask() -> tuple[httpx.Response, httpx.Response, dict[str, Any]]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            described = await client.get("/openapi.json")
            return await client.get("/docs"), await client.head("/docs"), described.json()

    answer, head, document = asyncio.run(ask())
    assert (answer.status_code, head.status_code, head.text) == (200, 200, "")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    page = answer.text
    assert not re.search(r"<script|<link|<img|src=|@import|url\(", page)
    assert re.findall(r'href="([^"]+)"', page) == ["openapi.json"]
    headings = re.findall(r"<h2>(.*?)</h2>", page)
    assert headings == [
        f"{method.upper()} {escape(path)}" for path, item in document["paths"].items() for method in item
    ]
    chat = page.split("<h2>POST /v1/chat/completions</h2>")[1].split("<h2>")[0]
    for field in ("messages", "temperature", "response_format", "tools", "logit_bias"):
        assert f"<code>{field}</code>" in chat
    native = page.split("<h2>POST /generate</h2>")[1].split("<h2>")[0]
    assert "<code>temperature</code><td>number ≥ 0, ≤ 2 or null<td>0 takes" in native


def test_texts_are_escaped_and_references_followed() -> None:
    body = {"$ref": "#/components/schemas/Body"}
    document = {
        "info": {"title": "<b>", "version": "1"},
        "components": {
            "schemas": {
                "Body": {"allOf": [{"properties": {"a": {"$ref": "#/components/schemas/A"}}}]},
                "A": {"enum": ["<x>", "y"], "description": "one & two"},
            }
        },
        "paths": {
            "/p": {
                "post": {
                    "summary": "<i>",
                    "requestBody": {"content": {"application/json": {"schema": body}}},
                    "responses": {"200": {"description": "<done>"}},
                }
            }
        },
    }
    page = docs_page(document)
    assert "<tr><td><code>a</code><td>&lt;x&gt; or y<td>one &amp; two" in page
    assert not re.search("<b>|<i>|<x>|<done>", page)
