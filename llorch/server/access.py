"""Access control: the API key, and the Host check that keeps web pages out of a server that has none.

Plain ASGI middleware: it decides on the raw scope and leaves streams and disconnects alone.
"""

from __future__ import annotations

import hmac
from collections.abc import Collection, Mapping

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from llorch.errors import FieldError
from llorch.fields.hosts import host_of, is_address, is_loopback
from llorch.server.errors import HTTPRefusalError, error_response

OPEN_PATHS = frozenset({"/health", "/health/", "/ready", "/ready/", "/v1/health"})
"""Paths that need no key, so that a supervisor can ask whether the process lives and is ready."""


class HostCheck:
    """Refuses requests for a host name that is not this server's.

    Otherwise any web page could reach a server on localhost, or in the visitor's network, by letting its own name
    resolve to the server's address (DNS rebinding). The browser then sends that name.

    Args:
        app: gets the other requests.
        allowed: names and addresses, in canonical form; those of loopback are allowed anyway.
        takes_addresses: whether every address will do. A web page's own name is never one.
    """

    def __init__(self, app: ASGIApp, allowed: Collection[str], takes_addresses: bool) -> None:
        self.app = app
        self._allowed = allowed
        self._takes_addresses = takes_addresses

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on requests for this server."""
        if scope["type"] == "http" and not self._is_ours(scope):
            error = FieldError(
                "Host", "localhost, a loopback address or one of allowed_hosts", _advice(scope)
            )
            await error_response(scope, HTTPRefusalError(403, error))(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _is_ours(self, scope: Scope) -> bool:
        header = Headers(scope=scope).get("host")
        if header is None:  # HTTP/1.0, which no browser speaks
            return bool(scope["http_version"] == "1.0")
        host = host_of(header)
        if host is None:
            return False
        return is_loopback(host) or host in self._allowed or (self._takes_addresses and is_address(host))


def _advice(scope: Scope) -> str:
    host = host_of(Headers(scope=scope).get("host", ""))
    if host is None:
        return "the Host header names no host"
    return f'this server does not answer to {host}; if it should, add "{host}" to allowed_hosts or set an api_key'


class KeyCheck:
    """Refuses requests without an API key; everything but `OPEN_PATHS` needs one. Whose it is, the scope says then.

    Args:
        app: gets the other requests.
        owners: whose each key is.
    """

    def __init__(self, app: ASGIApp, owners: Mapping[bytes, str]) -> None:
        self.app = app
        self._owners = owners

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on requests for open paths and those with a key."""
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            owner = self._owner(Headers(scope=scope))
            if owner is None:
                error = FieldError(
                    "Authorization",
                    "Bearer <API key>",
                    "the API key is missing or wrong (also taken: X-Api-Key)",
                )
                refusal = HTTPRefusalError(401, error, {"WWW-Authenticate": "Bearer"})
                await error_response(scope, refusal)(scope, receive, send)
                return
            scope["llorch.owner"] = owner
        await self.app(scope, receive, send)

    def _owner(self, headers: Headers) -> str | None:
        """Whose the key in `headers` is. All keys are compared, so that the time tells nothing about them."""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        given = token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        sent = given.encode("latin-1", "replace")
        found = None
        for key, owner in self._owners.items():
            if hmac.compare_digest(sent, key):
                found = owner
        return found


def owner_of(scope: Scope) -> str:
    """Whose request it is: the name of the API key that came with it, empty where there are no keys."""
    return str(scope.get("llorch.owner", ""))
