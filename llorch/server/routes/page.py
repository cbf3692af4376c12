"""`GET /`: the chat page, and the files under `/page/` that it is made of.

They hold nothing secret and open without a key; what they ask the API for needs one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from importlib.resources import files

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",  # no string becomes HTML: a text of the model stays a text
    ]
)
_HEADERS = {
    "Cache-Control": "no-cache",  # kept, but asked for again each time: the files of two versions do not mix
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
FOLDER = files("llorch.server") / "page"


def page_files() -> dict[str, bytes]:
    """Content of each file of the page, by its path on the server."""
    content = {entry.name: entry.read_bytes() for entry in FOLDER.iterdir() if _suffix(entry.name) in _TYPES}
    return {"/" if name == "index.html" else f"/page/{name}": data for name, data in sorted(content.items())}


def _suffix(name: str) -> str:
    return name[name.rfind(".") :]


def router() -> APIRouter:
    """The routes of the page."""
    router = APIRouter(include_in_schema=False)
    for path, data in page_files().items():
        content_type = _TYPES[".html" if path == "/" else _suffix(path)]
        router.add_api_route(path, _endpoint(data, content_type), methods=["GET", "HEAD"])
    return router


def _endpoint(data: bytes, content_type: str) -> Callable[[Request], Awaitable[Response]]:
    etag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
    headers = {**_HEADERS, "ETag": etag}

    async def send_file(request: Request) -> Response:
        known = request.headers.get("if-none-match", "")
        if known.strip() == "*" or etag in {tag.strip().removeprefix("W/") for tag in known.split(",")}:
            return Response(status_code=304, headers=headers)
        return Response(data, headers=headers, media_type=content_type)

    return send_file
