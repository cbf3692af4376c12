"""Requests that a replica was chosen for and that it has not yet counted: what the router adds to reported loads."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Replica = TypeVar("Replica", bound=Hashable)

FORGET_S = 15.0
"""A request that was given up on its way never arrives: after so long it counts no more. A replica that hangs has no
free slot for so long; then its last report is too old (10 s), and it gives no other."""


class Sent(Generic[Replica]):
    """For each request on its way, the replica it goes to.

    Args:
        clock: says what time it is, in seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._on_the_way: dict[str, tuple[Replica, float]] = {}

    def note(self, request_id: str, replica: Replica) -> None:
        """Note that `replica` was chosen for a request, in place of the one that was chosen for it before."""
        self._on_the_way[request_id] = (replica, self._clock() + FORGET_S)

    def arrived(self, request_id: str) -> None:
        """The replica has accepted a request: from now on it counts it itself."""
        self._on_the_way.pop(request_id, None)

    def count(self, replica: Replica) -> int:
        """Requests on their way to `replica`."""
        now_s = self._clock()
        for request_id in [name for name, (_, end_s) in self._on_the_way.items() if end_s <= now_s]:
            del self._on_the_way[request_id]
        return sum(chosen == replica for chosen, _ in self._on_the_way.values())
