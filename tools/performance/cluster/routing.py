"""Which replica gets a request. No policy lets a request wait for a replica while another has a free place."""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

PREFIX_PIECE = 64
"""Tokens of a prompt that make one key of the router's memory."""


class Router(Protocol):
    """A policy. Names of replicas are any integers; they come and go."""

    def choose(self, token_ids: Sequence[int], n_open: Mapping[int, int]) -> int:
        """The replica for a prompt.

        Args:
            token_ids: the prompt.
            n_open: unfinished requests of each replica that takes requests; at least one.
        """

    def forget(self, replica: int) -> None:
        """This replica is gone, and what it had cached."""


class RoundRobin:
    """Each in turn."""

    def __init__(self, n_slots: int) -> None:
        del n_slots
        self._last = -1

    def choose(self, token_ids: Sequence[int], n_open: Mapping[int, int]) -> int:
        """The next one after the last."""
        del token_ids
        names = sorted(n_open)
        self._last = next((name for name in names if name > self._last), names[0])
        return self._last

    def forget(self, replica: int) -> None:
        """Nothing is remembered."""


class LeastLoaded:
    """The one with the fewest unfinished requests; among equals, each in turn."""

    def __init__(self, n_slots: int) -> None:
        self._turns = RoundRobin(n_slots)

    def choose(self, token_ids: Sequence[int], n_open: Mapping[int, int]) -> int:
        """One of the least loaded."""
        least = min(n_open.values())
        return self._turns.choose(token_ids, {name: n for name, n in n_open.items() if n == least})

    def forget(self, replica: int) -> None:
        """Nothing is remembered."""


class PrefixAffine:
    """The replica that has read the longest beginning of the prompt, if it has a free place; else the least loaded.

    Attributes:
        n_keys: beginnings that are remembered now.
    """

    def __init__(self, n_slots: int, max_keys: int = 100_000) -> None:
        """Set up.

        Args:
            n_slots: sequences that a replica runs side by side.
            max_keys: beginnings to remember; the one that was used longest ago is forgotten first.
        """
        self._n_slots = n_slots
        self._max_keys = max_keys
        self._homes: OrderedDict[bytes, int] = OrderedDict()
        self._others = LeastLoaded(n_slots)

    @property
    def n_keys(self) -> int:
        """Beginnings that are remembered now."""
        return len(self._homes)

    def choose(self, token_ids: Sequence[int], n_open: Mapping[int, int]) -> int:
        """The replica that has the longest beginning, among those with a free place."""
        keys = prefix_keys(token_ids)
        homes = (self._homes.get(key, -1) for key in reversed(keys))
        fitting = (name for name in homes if name in n_open and n_open[name] < self._n_slots)
        chosen = next(fitting, None)
        if chosen is None:
            chosen = self._others.choose(token_ids, n_open)
        for key in keys:
            self._homes[key] = chosen
            self._homes.move_to_end(key)
        while len(self._homes) > self._max_keys:
            self._homes.popitem(last=False)
        return chosen

    def forget(self, replica: int) -> None:
        """Forget what it had."""
        for key in [key for key, home in self._homes.items() if home == replica]:
            del self._homes[key]


def prefix_keys(token_ids: Sequence[int]) -> list[bytes]:
    """Keys of the beginnings of a prompt, the shortest first; 16 bytes each."""
    keys: list[bytes] = []
    key = b""
    for end in range(PREFIX_PIECE, len(token_ids) + 1, PREFIX_PIECE):
        piece = array("q", token_ids[end - PREFIX_PIECE : end]).tobytes()
        key = hashlib.blake2b(key + piece, digest_size=16).digest()
        keys.append(key)
    return keys


ROUTERS: dict[str, Callable[[int], Router]] = {
    "round-robin": RoundRobin,
    "least-loaded": LeastLoaded,
    "prefix": PrefixAffine,
}
"""The policies by name; each takes the number of slots of a replica."""
