"""Access control: the API key, and the Host check that keeps web pages out of a server on localhost.

Plain ASGI middleware: it decides on the raw scope and leaves streams and disconnects alone.
"""

from __future__ import annotations

import hmac
import ipaddress

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from llorch.errors import FieldError
from llorch.server.errors import HTTPRefusalError, error_response

OPEN_PATHS = frozenset({"/health"})
"""Paths that need no key, so that a supervisor can ask whether the process lives."""


def is_loopback(host: str) -> bool:
    """Whether `host` (a name or an address, without a port) means this machine only."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def host_of(header: str) -> str:
    """The host of a Host header, without its port."""
    if header.startswith("["):  # an IPv6 address
        return header.partition("]")[0] + "]"
    return header.partition(":")[0]


class HostCheck:
    """Refuses requests for another host name while the server listens on loopback.

    Otherwise any web page could reach it by letting its own name resolve to 127.0.0.1 (DNS rebinding).
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on requests that are for this machine."""
        if scope["type"] == "http" and not is_loopback(host_of(Headers(scope=scope).get("host", ""))):
            error = FieldError(
                "Host", "localhost or a loopback address", "this server answers only to localhost"
            )
            await error_response(scope, HTTPRefusalError(403, error))(scope, receive, send)
            return
        await self.app(scope, receive, send)


class KeyCheck:
    """Refuses requests without the API key; everything but `OPEN_PATHS` needs it."""

    def __init__(self, app: ASGIApp, api_key: str) -> None:
        self.app = app
        self._api_key = api_key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on requests for open paths and those with the key."""
        if (
            scope["type"] == "http"
            and scope["path"] not in OPEN_PATHS
            and not self._has_key(Headers(scope=scope))
        ):
            error = FieldError(
                "Authorization", "Bearer <API key>", "the API key is missing or wrong (also taken: X-Api-Key)"
            )
            refusal = HTTPRefusalError(401, error, {"WWW-Authenticate": "Bearer"})
            await error_response(scope, refusal)(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _has_key(self, headers: Headers) -> bool:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        given = token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        return hmac.compare_digest(given.encode("latin-1", "replace"), self._api_key)
