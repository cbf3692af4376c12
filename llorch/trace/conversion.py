"""Making the file of a recording in a process of its own.

A million events take seconds of Python, and threads share the interpreter's lock: in the server's own process every
token would wait for it. Here only a step at a time is handed over, on a thread that is neither the event loop's nor the
one that computes.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import sys
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import llorch
from llorch.bench.work import Work
from llorch.errors import LlorchError
from llorch.open_model import OpenModel
from llorch.trace.about import about_run
from llorch.trace.converter import Head, Tail
from llorch.trace.recorder import Recorder
from llorch.trace.records import RequestRecord, StepRecord
from llorch.trace.work import StepWork

PART_BYTES = 1 << 16
_PROGRAM = "from llorch.trace.converter import main; main(is_gzip={})"


async def file_parts(messages: Iterator[bytes], *, is_gzip: bool) -> AsyncGenerator[bytes, None]:
    """The file, piece by piece; closing the generator ends the process.

    Args:
        messages: of the recording; asked for on other threads, one at a time.
        is_gzip: whether the file is to be compressed.

    Raises:
        LlorchError: the process has failed; its own words went to standard error.
    """
    folders = [str(Path(llorch.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-c",
        _PROGRAM.format(is_gzip),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(folders)},
        process_group=0,  # Ctrl-C is for the server, which then ends it
    )
    assert process.stdin is not None
    assert process.stdout is not None
    feeding = asyncio.create_task(_feed(process.stdin, messages))
    try:
        while part := await process.stdout.read(PART_BYTES):
            yield part
        await feeding
        if await process.wait():
            raise LlorchError("the trace could not be converted; the log says why")
    finally:
        feeding.cancel()
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _feed(pipe: asyncio.StreamWriter, messages: Iterator[bytes]) -> None:
    try:
        with suppress(BrokenPipeError, ConnectionResetError):  # its exit code says more
            while (message := await asyncio.to_thread(next, messages, None)) is not None:
                pipe.write(message)
                await pipe.drain()
    finally:
        pipe.close()  # else it would wait for more


def messages_of(
    recorder: Recorder, requests: Sequence[RequestRecord], loaded: OpenModel, kv_type: str, *, name: str
) -> Iterator[bytes]:
    """What the process has to know, in pieces that take a few milliseconds each.

    Args:
        recorder: has recorded, and is told nothing any more.
        requests: what the service knows of the generations.
        loaded: the model that ran.
        kv_type: number type of its KV cache.
        name: what clients call the model.
    """
    recorder.stop()
    bounds = recorder.bounds
    about = about_run(loaded, kv_type, bounds, [])
    about["model"] = {"name": name}
    labels = loaded.llama.labels if recorder.keeps_stamps else []
    yield pickle.dumps(Head(bounds.begun_ns, loaded.llama.n_threads, labels, about))
    work = StepWork(loaded.llama, kv_type) if recorder.keeps_stamps else None
    for step in recorder.steps():
        yield _message(step, work)
    yield pickle.dumps(Tail(bounds.ended_ns, bounds.n_dropped, bounds.failed, tuple(requests)))


def _message(step: StepRecord, work: StepWork | None) -> bytes:
    """A step with its work, as tuples, which are pickled many times faster than objects."""
    works = [] if work is None else work.of(step)
    return pickle.dumps((step, [_plain(one) for one in works]))


def _plain(work: Work) -> tuple[str, int, int]:
    return work.shape, work.n_bytes, work.n_macs
