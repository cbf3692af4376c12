"""Perfetto's own trace processor, asked in SQL: the program itself, or its WebAssembly build in Node.

`tools/setup/trace_processor.sh` puts the WebAssembly build into the environment that runs the tests.
LLORCH_TEST_TRACE_PROCESSOR names another one: a `trace_processor_shell`, or the folder of such a build. The Python side
is the package `perfetto`. Tests that ask it have the mark `trace_processor`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY

VARIABLE = "LLORCH_TEST_TRACE_PROCESSOR"
PIPE = REPOSITORY / "tests" / "support" / "perfetto" / "engine_on_pipe.cjs"
INSTALLED = Path(sys.prefix) / "share" / "trace-processor"
PART_BYTES = 1 << 20


class LoadedTrace:
    """A trace that can be asked."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows that a query answers."""
        from perfetto.trace_processor import TraceProcessor

        answer = self._backend.execute_query(sql)
        assert not answer.error, answer.error
        found = TraceProcessor.QueryResultIterator(answer.column_names, answer.batch)
        return [tuple(getattr(row, name) for name in answer.column_names) for row in found]


class _Pipe:
    """What perfetto's RPC client wants of a connection."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._to, self._from = process.stdin, process.stdout

    def send(self, data: bytes) -> None:
        self._to.write(data)
        self._to.flush()

    def read(self, n: int) -> bytes:
        data = self._from.read(n)
        if len(data) < n:
            raise ConnectionError("the trace processor ended")
        return data

    def close(self) -> None:
        self._to.close()


@contextmanager
def loaded_trace(path: Path) -> Iterator[LoadedTrace]:
    """`path`, loaded; the test is skipped where no trace processor is."""
    pytest.importorskip("perfetto", reason="needs the package perfetto")
    place = os.environ.get(VARIABLE) or str(INSTALLED)
    if not Path(place).exists():
        pytest.skip(
            f"no trace processor of Perfetto: tools/setup/trace_processor.sh installs it, {VARIABLE} names one"
        )
    if Path(place).is_dir():
        node = shutil.which("node")
        if node is None:
            pytest.skip("the WebAssembly build needs Node")
        with subprocess.Popen(
            [node, str(PIPE), place], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            yield LoadedTrace(_loaded_over(_Pipe(process), path))
            assert process.stdin is not None
            process.stdin.close()
    else:
        from perfetto.trace_processor import TraceProcessor, TraceProcessorConfig

        with TraceProcessor(trace=str(path), config=TraceProcessorConfig(bin_path=place)) as processor:
            yield LoadedTrace(processor.http)


def _loaded_over(pipe: _Pipe, path: Path) -> Any:
    """An RPC client whose trace processor has read `path`."""
    from perfetto.trace_processor.platform import PlatformDelegate
    from perfetto.trace_processor.protos import ProtoFactory
    from perfetto.trace_processor.rpc import TraceProcessorRpc

    protos = ProtoFactory(PlatformDelegate())
    client = TraceProcessorRpc(pipe, protos)

    def ask(method: int, data: bytes = b"") -> Any:
        stream = protos.TraceProcessorRpcStream()
        message = stream.msg.add()
        message.request = method
        if data:
            message.append_trace_data = data
        pipe.send(stream.SerializeToString())
        reply = protos.TraceProcessorRpc()
        reply.MergeFromString(client._read_payload())
        return reply

    with path.open("rb") as file:
        while part := file.read(PART_BYTES):
            reply = ask(protos.TraceProcessorRpc.TPM_APPEND_TRACE_DATA, part)
            assert not reply.append_result.error, reply.append_result.error
    ask(protos.TraceProcessorRpc.TPM_FINALIZE_TRACE_DATA)
    return client
