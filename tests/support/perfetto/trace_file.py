"""Reading a trace file without Perfetto, and what must hold for every one."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Slice:
    """A slice; times are nanoseconds since the recording began."""

    track: str
    name: str
    category: str
    begin_ns: int
    end_ns: int
    args: dict[str, Any]


@dataclass(frozen=True)
class TraceFile:
    """What is in a file.

    Attributes:
        about: its entry ``llorch``.
        slices: by track, outer ones before those inside.
        counters: time and value by name.
    """

    about: dict[str, Any]
    slices: dict[str, list[Slice]]
    counters: dict[str, list[tuple[int, float]]] = field(default_factory=dict)

    def of(self, *categories: str) -> list[Slice]:
        """All slices of some categories."""
        return [found for track in self.slices.values() for found in track if found.category in categories]


def read_trace(path: Path) -> TraceFile:
    """The slices of a file that `Timeline` has written."""
    document = json.loads(path.read_bytes())
    names = {
        (event["pid"], event["tid"]): event["args"]["name"]
        for event in document["traceEvents"]
        if event["ph"] == "M" and event["name"] == "thread_name"
    }
    slices: dict[str, list[Slice]] = defaultdict(list)
    counters: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for event in document["traceEvents"]:
        if event["ph"] == "X":
            track = names[event["pid"], event["tid"]]
            begin_ns, n_ns = (round(1000 * event[key]) for key in ("ts", "dur"))
            slices[track].append(
                Slice(track, event["name"], event["cat"], begin_ns, begin_ns + n_ns, event["args"])
            )
        elif event["ph"] == "C":
            counters[event["name"]].append((round(1000 * event["ts"]), event["args"]["value"]))
    for track in slices.values():
        track.sort(key=lambda found: (found.begin_ns, -found.end_ns))
    return TraceFile(document["llorch"], slices, counters)


def overlaps(slices: Iterable[Slice]) -> list[tuple[Slice, Slice]]:
    """Pairs of one track that neither lie apart nor inside each other."""
    faults, open_slices = [], list[Slice]()
    for found in slices:
        while open_slices and open_slices[-1].end_ns <= found.begin_ns:
            open_slices.pop()
        if open_slices and found.end_ns > open_slices[-1].end_ns:
            faults.append((open_slices[-1], found))
        open_slices.append(found)
    return faults


def covered_ns(slices: Iterable[Slice]) -> int:
    """Time in at least one of the slices of a track."""
    total = until = 0
    for found in sorted(slices, key=lambda found: found.begin_ns):
        total += max(0, found.end_ns - max(found.begin_ns, until))
        until = max(until, found.end_ns)
    return total
