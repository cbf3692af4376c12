"""Timelines in the Trace Event Format (JSON), which Perfetto and chrome://tracing open.

Source: "Trace Event Format" of the Chromium project (events X, C and M); Perfetto reads it as "Chrome JSON".
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from llorch.convert.written_beside import written_beside

_EVENTS_PER_PART = 10_000

_json = json.JSONEncoder(allow_nan=False).encode


@dataclass(frozen=True, slots=True)
class Track:
    """A row of slices; Perfetto calls it a thread of a process.

    Attributes:
        pid: number of its process.
        tid: its own number, different from all others and from those of processes.
    """

    pid: int
    tid: int


@dataclass(frozen=True, slots=True)
class _Slice:
    track: Track
    name: str
    begin_ns: int
    end_ns: int
    category: str
    args: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class _Sample:
    pid: int
    name: str
    at_ns: int
    value: float


class Timeline:
    """Collects tracks, slices and counters, and writes them as one file.

    Args:
        begun_ns: the moment that the file calls 0; all times are those of `time.perf_counter_ns`.
    """

    def __init__(self, begun_ns: int) -> None:
        self._begun_ns = begun_ns
        self._pids: dict[str, int] = {}
        self._tracks: dict[tuple[str, str], tuple[Track, int]] = {}
        self._slices: list[_Slice] = []
        self._samples: list[_Sample] = []
        self._n_named = (0, 0)

    @property
    def n_events(self) -> int:
        """Slices and values of counters."""
        return len(self._slices) + len(self._samples)

    def track(self, process: str, name: str, sort_index: int) -> Track:
        """The track of that name; made when it is first asked for.

        Args:
            process: the group that it is shown in.
            name: unique within the group.
            sort_index: its place in the group.
        """
        if (process, name) not in self._tracks:
            track = Track(self._pid(process), 1001 + len(self._tracks))
            self._tracks[process, name] = track, sort_index
        return self._tracks[process, name][0]

    def slice(
        self,
        track: Track,
        name: str,
        begin_ns: int,
        end_ns: int,
        category: str,
        args: Mapping[str, object] | None = None,
    ) -> None:
        """Add a slice. Slices of a track lie apart from or inside each other.

        Args:
            track: where.
            name: what it is called.
            begin_ns, end_ns: from when to when.
            category: of the events: ``"operation"``, ``"barrier"``, ``"step"``, ``"phase"`` …
            args: shown when it is clicked; plain JSON values, not changed afterwards.
        """
        self._slices.append(_Slice(track, name, begin_ns, max(begin_ns, end_ns), category, args or {}))

    def counter(self, process: str, name: str, at_ns: int, value: float) -> None:
        """Say what a counter of a process shows from `at_ns` on."""
        self._samples.append(_Sample(self._pid(process), name, at_ns, value))

    def write(self, path: Path, about: Mapping[str, object]) -> None:
        """Write the file beside its place, then rename it: it is there as a whole, or not at all.

        Args:
            path: of the file; one that is there is replaced.
            about: top-level entry ``llorch``: what the timeline shows.

        Raises:
            InputError: it cannot be written, for example because the disk is full.
        """
        data = b"".join(self._parts(about))
        with written_beside(path, len(data), check=lambda _: None) as file:
            file.write(0, data)

    def drain(self) -> Iterator[str]:
        """The events since the last call, as JSON; they are let go of. For timelines that are larger than memory."""
        yield from self._names(*self._n_named)
        self._n_named = len(self._pids), len(self._tracks)
        yield from self._values()
        self._slices.clear()
        self._samples.clear()

    def _pid(self, process: str) -> int:
        return self._pids.setdefault(process, 1 + len(self._pids))

    def _parts(self, about: Mapping[str, object]) -> Iterator[bytes]:
        yield b'{"displayTimeUnit": "ns",\n"llorch": ' + _json(about).encode() + b',\n"traceEvents": [\n'
        events = self._events()
        separator = b""
        while part := list(islice(events, _EVENTS_PER_PART)):
            yield separator + ",\n".join(part).encode()
            separator = b",\n"
        yield b"\n]}\n"

    def _events(self) -> Iterator[str]:
        """Every event as JSON, those that name tracks first."""
        yield from self._names(0, 0)
        yield from self._values()

    def _names(self, first_process: int, first_track: int) -> Iterator[str]:
        """Names of processes and tracks, without the first ones."""
        for process, pid in islice(self._pids.items(), first_process, None):
            yield _metadata("process_name", pid, 0, {"name": process})
            yield _metadata("process_sort_index", pid, 0, {"sort_index": pid})
        for (_, name), (track, sort_index) in islice(self._tracks.items(), first_track, None):
            yield _metadata("thread_name", track.pid, track.tid, {"name": name})
            yield _metadata("thread_sort_index", track.pid, track.tid, {"sort_index": sort_index})

    def _values(self) -> Iterator[str]:
        """Slices and values of counters."""
        args: dict[int, str] = {}  # an operation has the same ones on every thread
        for piece in self._slices:
            if id(piece.args) not in args:
                args[id(piece.args)] = _json(piece.args)
            yield (
                f'{{"ph": "X", "pid": {piece.track.pid}, "tid": {piece.track.tid}, "name": {_json(piece.name)}, '
                f'"cat": {_json(piece.category)}, "ts": {self._since_begin(piece.begin_ns)}, '
                f'"dur": {_microseconds(piece.end_ns - piece.begin_ns)}, "args": {args[id(piece.args)]}}}'
            )
        for sample in self._samples:
            yield (
                f'{{"ph": "C", "pid": {sample.pid}, "name": {_json(sample.name)}, '
                f'"ts": {self._since_begin(sample.at_ns)}, "args": {{"value": {_json(sample.value)}}}}}'
            )

    def _since_begin(self, at_ns: int) -> str:
        return _microseconds(at_ns - self._begun_ns)


def _metadata(name: str, pid: int, tid: int, args: Mapping[str, object]) -> str:
    return _json({"ph": "M", "pid": pid, "tid": tid, "name": name, "args": args})


def _microseconds(ns: int) -> str:
    return f"{ns / 1000:.3f}"
