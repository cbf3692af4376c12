"""Which CPUs belong to which memory: the NUMA nodes of this machine, as Linux lists them under /sys."""

from __future__ import annotations

import re
from collections.abc import Set
from pathlib import Path

NODES = Path("/sys/devices/system/node")
MOST_NODES = 64
"""Nodes beyond these are not looked at."""

_MOST_CHARS = 1 << 16
_MOST_CPUS = 1 << 16
_RANGE = re.compile(r"([0-9]{1,7})(?:-([0-9]{1,7}))?")


def cpus_of_list(text: str) -> set[int]:
    """The CPUs of a list such as ``0-3,8,10-11``.

    Raises:
        ValueError: it is no such list, or names CPUs that no machine has.
    """
    cpus: set[int] = set()
    for word in text.strip().split(","):
        match = _RANGE.fullmatch(word.strip())
        if match is None:
            raise ValueError(f"{word.strip()[:40]!r} is no range of CPUs")
        first, last = int(match[1]), int(match[2] or match[1])
        if not first <= last < _MOST_CPUS:
            raise ValueError(f"{word.strip()!r} is no range of CPUs")
        cpus.update(range(first, last + 1))
    return cpus


def cpus_of_nodes(allowed: Set[int], folder: Path = NODES) -> list[tuple[int, ...]]:
    """The allowed CPUs by node, in order of the nodes' numbers; a node without any is left out.

    Where the system lists no nodes, or what it lists does not hold just these CPUs, they are one node.

    Args:
        allowed: CPUs that this process may use, at least one.
        folder: the system's folder of nodes.
    """
    nodes, seen = [], set[int]()
    for number in range(MOST_NODES):
        try:
            with (folder / f"node{number}" / "cpulist").open(encoding="ascii") as file:
                cpus = cpus_of_list(file.read(_MOST_CHARS)) & allowed - seen
        except (OSError, ValueError):  # ValueError: memory without CPUs has an empty list
            continue
        if cpus:
            nodes.append(tuple(sorted(cpus)))
            seen |= cpus
    return nodes if seen == allowed else [tuple(sorted(allowed))]
