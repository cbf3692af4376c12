"""A program that makes a timeline's file of a recording, for a server that has better things to do.

It reads pickled messages from standard input and writes the file to standard output, step by step, so that neither it
nor the server ever holds the whole file. Only `llorch.trace.conversion` speaks to it: pickles are not for strangers.
"""

from __future__ import annotations

import gzip
import json
import os
import pickle
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import IO, Any, NamedTuple, cast

import numpy as np

from llorch.bench.work import Work
from llorch.trace.counters import add_counters
from llorch.trace.lanes import add_lanes
from llorch.trace.operations import operations
from llorch.trace.perfetto import Timeline
from llorch.trace.records import FailedPass, Recording, RequestRecord, StepRecord
from llorch.trace.slice_args import slice_args
from llorch.trace.thread_tracks import PROCESS, ThreadTracks, TracedStep
from llorch.trace.totals import OperationTotals, about_step

NICENESS = 19
"""The server's threads go first."""

GZIP_LEVEL = 4


class PlainWork(NamedTuple):
    """What the file says of `Work`; tuples are pickled many times faster than its objects."""

    shape: str
    n_bytes: int
    n_macs: int


@dataclass(frozen=True, slots=True)
class Head:
    """The first message; those of the steps follow.

    Attributes:
        begun_ns: when the recording began.
        n_threads: compute threads.
        labels: `Llama.labels`; empty if operations are not shown.
        about: what the file says about itself, but for steps and operations.
    """

    begun_ns: int
    n_threads: int
    labels: list[tuple[str, int]]
    about: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Tail:
    """The last message."""

    ended_ns: int
    n_dropped: int
    failed: tuple[FailedPass, ...]
    requests: tuple[RequestRecord, ...]


def parts(messages: IO[bytes]) -> Iterator[bytes]:
    """The file, piece by piece.

    Args:
        messages: a `Head`, for each step a pair of its `StepRecord` and a list of the members of `PlainWork`, and a
            `Tail`, pickled one after the other.

    Raises:
        EOFError: the last message is missing.
    """
    head: Head = pickle.load(messages)
    timeline = Timeline(head.begun_ns)
    tracks = ThreadTracks(timeline, PROCESS, head.n_threads) if head.labels else None
    totals = OperationTotals()
    steps: list[StepRecord] = []
    yield b'{"displayTimeUnit": "ns",\n"traceEvents": [\n'
    separator = ""
    while not isinstance(message := pickle.load(messages), Tail):
        step, works = message
        if tracks is not None:
            found = operations(step, head.labels, cast(list[Work], [PlainWork(*work) for work in works]))
            totals.add(found)
            args = [slice_args(len(steps), step, operation, None) for operation in found]
            tracks.add(TracedStep(len(steps), step, found, args))
            yield (separator + ",\n".join(timeline.drain())).encode()
            separator = ",\n"
        steps.append(replace(step, stamps_ns=np.zeros((0, 0, 2), np.int64)))
    recording = Recording(head.begun_ns, message.ended_ns, tuple(steps), message.n_dropped, message.failed)
    add_lanes(timeline, recording, message.requests)
    add_counters(timeline, recording)
    rest = ",\n".join(timeline.drain())
    about = {
        **head.about,
        "n_dropped_steps": message.n_dropped,
        "steps": [about_step(head.begun_ns, step) for step in steps],
        "operations": totals.as_json(),
    }
    end = f'{separator if rest else ""}{rest}\n],\n"llorch": {json.dumps(about, allow_nan=False)}}}\n'
    yield end.encode()


def main(*, is_gzip: bool) -> None:
    """Convert from standard input to standard output."""
    os.nice(NICENESS)
    try:
        with open(0, "rb") as messages, open(1, "wb") as output:
            file: IO[bytes] = output
            if is_gzip:
                file = cast(
                    IO[bytes], gzip.GzipFile(fileobj=output, mode="wb", compresslevel=GZIP_LEVEL, mtime=0)
                )
            for part in parts(messages):
                file.write(part)
            file.close()
    except (BrokenPipeError, EOFError):  # the server is gone, or nobody wants the file any more
        os._exit(1)
