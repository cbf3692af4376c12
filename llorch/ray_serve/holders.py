"""Which replica has read which beginning of a text: what the router remembers of its own decisions."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Hashable, Sequence
from typing import Generic, TypeVar

Replica = TypeVar("Replica", bound=Hashable)

MAX_KEYS = 1 << 17
"""Keys that are remembered, about 200 bytes each; the one unused for longest goes first."""


class Holders(Generic[Replica]):
    """The latest replica that was sent each beginning.

    Args:
        max_keys: keys that are remembered.
    """

    def __init__(self, max_keys: int = MAX_KEYS) -> None:
        self._max_keys = max_keys
        self._replicas: OrderedDict[bytes, Replica] = OrderedDict()

    def record(self, keys: Sequence[bytes], replica: Replica) -> None:
        """Note that `replica` reads a text whose beginnings have `keys`."""
        for key in keys:
            self._replicas[key] = replica
            self._replicas.move_to_end(key)
        while len(self._replicas) > self._max_keys:
            self._replicas.popitem(last=False)

    def find(self, keys: Sequence[bytes], among: Collection[Replica]) -> Replica | None:
        """The one of `among` that has read the longest of the beginnings; None if none has read any.

        Args:
            keys: of the beginnings, shortest first.
            among: replicas that may be chosen.
        """
        for key in reversed(keys):
            replica = self._replicas.get(key)
            if replica is not None and replica in among:
                return replica
        return None
