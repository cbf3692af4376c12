"""How many HTTP requests were answered, by method, route and status: bounded, whatever clients send."""

from __future__ import annotations

from collections import Counter

from starlette.types import Scope

OTHER = "other"
"""Stands for methods and paths that do not exist, and for the path of a request that was refused before anyone looked
at it: the number of labels must not be up to clients."""

CLIENT_LEFT = 499
"""Stands for the status of a request whose client left before the answer began."""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class HTTPCounts:
    """Counts of finished requests; the event loop adds to it.

    Attributes:
        by_label: count by (method, route, status).
    """

    def __init__(self) -> None:
        self.by_label: Counter[tuple[str, str, int]] = Counter()

    def add(self, method: str, route: str, status: int) -> None:
        """Count a request."""
        self.by_label[method, route, status] += 1


def method_of(scope: Scope) -> str:
    """The method of a request, or `OTHER`."""
    method: str = scope["method"]
    return method if method in _METHODS else OTHER


def route_of(scope: Scope) -> str:
    """The template of the path of a request that has been answered, or `OTHER`."""
    route = scope.get("route")
    return OTHER if route is None else str(route.path)
