"""Access control: the API key, and the Host check that keeps web pages out of a server that has none.

Plain ASGI middleware: it decides on the raw scope and leaves streams and disconnects alone.
"""

from __future__ import annotations

from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from llorch.errors import FieldError
from llorch.fields.hosts import host_of, is_address, is_loopback
from llorch.server.errors import HTTPRefusalError, error_response
from llorch.server.key_ring import KeyRing

OPEN_PATHS = frozenset({"/health", "/health/", "/ready", "/ready/", "/v1/health"})
"""Paths that need no key, so that a supervisor can ask whether the process lives and is ready."""

_ASK = {"WWW-Authenticate": "Bearer"}


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
    """Refuses requests without an API key; everything but open paths needs one. Whose it is, the scope says then.

    Args:
        app: gets the other requests.
        keys: those in force when a request comes.
        open_paths: need no key.
    """

    def __init__(self, app: ASGIApp, keys: KeyRing, open_paths: Collection[str] = OPEN_PATHS) -> None:
        self.app = app
        self._keys = keys
        self._open_paths = open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on requests for open paths and those with a key."""
        if scope["type"] == "http" and scope["path"] not in self._open_paths:
            owner = self._keys.owner(Headers(scope=scope))
            if owner is None:
                error = FieldError(
                    "Authorization",
                    "Bearer <API key>",
                    "the API key is missing or wrong (also taken: X-Api-Key)",
                )
                refusal = HTTPRefusalError(401, error, _ASK)
                await error_response(scope, refusal)(scope, receive, send)
                return
            scope["llorch.owner"] = owner
        await self.app(scope, receive, send)


class AdminCheck:
    """Refuses requests for the paths of whoever runs the server without an admin key, from wherever they come.

    Args:
        app: gets the other requests.
        paths: need an admin key.
        keys: the admin keys in force; None: there are none, so nobody may.
        users: the API keys in force, if there are any: their users are told that their keys do not suffice.
    """

    def __init__(
        self, app: ASGIApp, paths: Collection[str], keys: KeyRing | None, users: KeyRing | None
    ) -> None:
        self.app = app
        self._paths = paths
        self._keys = keys
        self._users = users

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on requests for other paths and those with an admin key."""
        if scope["type"] == "http" and scope["path"] in self._paths:
            headers = Headers(scope=scope)
            owner = None if self._keys is None else self._keys.owner(headers)
            if owner is None:
                await error_response(scope, self._refusal(headers))(scope, receive, send)
                return
            scope["llorch.owner"] = owner
        await self.app(scope, receive, send)

    def _refusal(self, headers: Headers) -> HTTPRefusalError:
        is_user = self._users is not None and self._users.owner(headers) is not None
        rule = "Bearer <admin key>"
        if self._keys is None and (is_user or self._users is None):
            words = "this path needs an admin key, and this server has none: set admin_key_file or LLORCH_ADMIN_KEY"
            return HTTPRefusalError(403, FieldError("Authorization", rule, words))
        if is_user:
            words = "this path needs the admin key; an API key does not suffice"
            return HTTPRefusalError(403, FieldError("Authorization", rule, words))
        words = "the admin key is missing or wrong (also taken: X-Api-Key)"
        return HTTPRefusalError(401, FieldError("Authorization", rule, words), _ASK)


def owner_of(scope: Scope) -> str:
    """Whose request it is: the name of the API key that came with it, empty where there are no keys."""
    return str(scope.get("llorch.owner", ""))
