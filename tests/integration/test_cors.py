"""Web pages of other origins: none may use the server, unless the operator lists theirs; then they can read everything.

The requests are those that browsers send, byte by byte.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llorch.engine.service import EngineService
from llorch.server.app import create_app
from llorch.settings import Settings
from tests.support.raw_http import body_of, exchange, headers_of, request, serving, status_of
from tests.support.services import running

PAGE = "https://chat.example"
KEY = "sesame"
JSON = "Content-Type: application/json"
CLOSE = "Connection: close"
ASKED = "authorization,content-type,x-request-timeout"


def preflight(path: str, origin: str = PAGE, method: str = "POST", *more: str) -> bytes:
    """What Chromium sends before a page's `fetch` with a key."""
    headers = (
        f"Access-Control-Request-Method: {method}",
        f"Access-Control-Request-Headers: {ASKED}",
        f"Origin: {origin}",
        "Sec-Fetch-Mode: cors",
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Dest: empty",
    )
    return request("OPTIONS", path, *headers, *more, CLOSE)


def posted(path: str, body: bytes, *headers: str, origin: str = PAGE, host: str = "localhost") -> bytes:
    length = f"Content-Length: {len(body)}"
    return request("POST", path, f"Origin: {origin}", length, CLOSE, *headers, body=body, host=host)


def allows(answer: bytes) -> str | None:
    """Whose pages may read an answer."""
    return headers_of(answer).get("access-control-allow-origin")


def bare(**settings: Any) -> Any:
    """An application that takes no requests, and has a route that fails."""
    app = create_app(EngineService(Settings(**settings)))

    async def boom() -> None:
        raise RuntimeError("planted")

    app.add_api_route("/boom", boom)
    return app


@pytest.fixture(scope="module")
def guarded() -> Iterator[int]:
    with serving(bare(cors_origins=[PAGE, "http://localhost:3000"], api_key=KEY)) as port:
        yield port


@pytest.fixture(scope="module")
def closed() -> Iterator[int]:
    with serving(bare()) as port:
        yield port


def test_a_preflight_is_answered_before_the_key_is_asked_for(guarded: int) -> None:
    for path in (
        "/generate",
        "/v1/chat/completions",
        "/v1/responses",
        "/v1/messages",
        "/completion",
        "/api/chat",
    ):
        answer = exchange(guarded, preflight(path))
        headers = headers_of(answer)
        assert status_of(answer) == 200
        assert headers["access-control-allow-origin"] == PAGE
        assert headers["access-control-allow-headers"] == ASKED
        assert "POST" in headers["access-control-allow-methods"]
        assert int(headers["access-control-max-age"]) > 0
        assert "Origin" in headers["vary"]
        assert "access-control-allow-credentials" not in headers


def test_a_page_of_another_origin_is_let_in_nowhere(guarded: int) -> None:
    for origin in ("https://evil.example", "http://chat.example", f"{PAGE}.evil.example", "null"):
        answer = exchange(guarded, preflight("/generate", origin))
        assert (status_of(answer), allows(answer)) == (400, None)
        assert allows(exchange(guarded, posted("/generate", b"{}", JSON, origin=origin))) is None


def test_a_public_page_may_reach_a_server_in_the_visitors_network(guarded: int) -> None:
    answer = exchange(
        guarded, preflight("/generate", PAGE, "POST", "Access-Control-Request-Private-Network: true")
    )
    assert status_of(answer) == 200
    assert headers_of(answer)["access-control-allow-private-network"] == "true"


def test_an_unlisted_method_is_refused(guarded: int) -> None:
    assert status_of(exchange(guarded, preflight("/generate", PAGE, "DELETE"))) == 400


REFUSED = [
    (401, posted("/generate", b"{}", JSON)),
    (404, request("GET", "/nowhere", f"Origin: {PAGE}", f"X-Api-Key: {KEY}", CLOSE)),
    (405, request("GET", "/generate", f"Origin: {PAGE}", f"X-Api-Key: {KEY}", CLOSE)),
    (413, posted("/generate", b" " * (1 << 20) + b" ", JSON, f"X-Api-Key: {KEY}")),
    (415, posted("/generate", b"{}", "Content-Type: text/plain", f"X-Api-Key: {KEY}")),
    (400, posted("/generate", b"{", JSON, f"X-Api-Key: {KEY}")),
    (503, posted("/generate", b'{"prompt": "Hello"}', JSON, f"X-Api-Key: {KEY}")),
    (500, request("GET", "/boom", f"Origin: {PAGE}", f"X-Api-Key: {KEY}", CLOSE)),
]


@pytest.mark.parametrize(("status", "bytes_sent"), REFUSED, ids=[str(status) for status, _ in REFUSED])
def test_a_page_can_read_every_refusal(guarded: int, status: int, bytes_sent: bytes) -> None:
    answer = exchange(guarded, bytes_sent)
    headers = headers_of(answer)
    assert status_of(answer) == status
    assert allows(answer) == PAGE
    assert {"Retry-After", "X-Request-Id"} <= {*headers["access-control-expose-headers"].split(", ")}
    if status == 503:
        assert headers["retry-after"] == "2"


@pytest.mark.parametrize(
    ("status", "bytes_sent"), REFUSED[1:], ids=[str(status) for status, _ in REFUSED[1:]]
)
def test_without_the_setting_no_answer_is_for_other_pages(
    closed: int, status: int, bytes_sent: bytes
) -> None:
    answer = exchange(closed, bytes_sent)
    assert status_of(answer) == status
    assert not [name for name in headers_of(answer) if name.startswith("access-control")]


def test_without_the_setting_a_preflight_is_no_request_of_ours(closed: int) -> None:
    answer = exchange(closed, preflight("/generate"))
    assert (status_of(answer), allows(answer)) == (405, None)


def test_the_host_check_stays(closed: int) -> None:
    with serving(bare(cors_origins="*")) as port:
        answer = exchange(port, posted("/generate", b"{}", JSON, host="evil.example"))
        assert (status_of(answer), allows(answer)) == (403, "*")
        answer = exchange(port, posted("/generate", b"{}", JSON, origin="null"))
        assert (status_of(answer), allows(answer)) == (400, "*")
        assert "access-control-allow-credentials" not in headers_of(answer)


def test_a_page_can_read_a_stream(long_model: Path) -> None:
    service = running(long_model, cors_origins=PAGE)
    with serving(create_app(service)) as port:
        answer = exchange(port, posted("/generate", b'{"prompt": "Hello", "max_tokens": 2}', JSON))
    asyncio.run(service.stop(0))
    assert (status_of(answer), allows(answer)) == (200, PAGE)
    assert b"event: end" in body_of(answer)
