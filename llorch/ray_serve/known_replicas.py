"""The replicas that this process knows of: told by the router, asked by the gateway.

They stand in a module of their own because Serve copies the router's module by value, with all that it holds.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

_names: dict[str, tuple[str, ...]] = {}
_lock = threading.Lock()


def note_replicas(app_name: str, names: Iterable[str]) -> None:
    """Note the unique ids of the replicas that an application's engine has now."""
    with _lock:
        _names[app_name] = tuple(names)


def known_replicas(app_name: str) -> tuple[str, ...]:
    """Unique ids of the replicas of an application's engine; none before the router has seen any."""
    with _lock:
        return _names.get(app_name, ())
