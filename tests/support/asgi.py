"""One request to an application, without a server: headers as they are given, none added."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI


def answer_of(
    app: FastAPI,
    method: str,
    path: str,
    headers: Sequence[tuple[bytes, bytes]],
    *,
    body: bytes = b"",
    version: str = "1.1",
    **scope: Any,
) -> tuple[int, dict[str, Any]]:
    """Status and JSON of the answer; `scope` are more entries of the ASGI scope. The application is not started."""
    whole = {
        "type": "http", "http_version": version, "method": method, "scheme": "http", "path": path,
        "raw_path": path.encode(), "query_string": b"", "root_path": "", "headers": list(headers), **scope,
    }  # fmt: skip
    sent: list[Any] = []

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app(whole, receive, send))
    return sent[0]["status"], json.loads(b"".join(message.get("body", b"") for message in sent))
