"""The process that makes a trace's file: what it is fed, and how it ends."""

from __future__ import annotations

import asyncio
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from llorch.engine.engine import Engine, open_configured
from llorch.engine.params import SamplingParams
from llorch.engine.request import Request
from llorch.errors import LlorchError
from llorch.settings import Settings
from llorch.trace.conversion import file_parts, messages_of
from llorch.trace.converter import parts
from llorch.trace.recorder import Recorder
from tests.support.generations import run


@pytest.fixture(scope="module")
def messages(tiny_model: Path) -> list[bytes]:
    with open_configured(Settings(model=str(tiny_model), threads=1)) as loaded:
        engine = Engine(loaded, Settings(ctx_size=64))
        engine.watcher = recorder = Recorder(loaded.llama)
        run(engine, Request("a", (1, 70, 71), SamplingParams(temperature=0), 4, ignore_eos=True))
        return list(messages_of(recorder, [], loaded, "f16", name="tiny"))


def test_the_file_is_made_step_by_step(messages: list[bytes]) -> None:
    made = list(parts(io.BytesIO(b"".join(messages))))
    assert len(messages) == len(made) == 1 + 4 + 1, "the beginning, four steps, the end"
    document = json.loads(b"".join(made))
    assert [step["rows"] for step in document["llorch"]["steps"]] == [3, 1, 1, 1]
    assert document["llorch"]["operations"]["attn_q"]["0"]["bytes"] > 0
    names = [e["args"]["name"] for e in document["traceEvents"] if e["name"] == "thread_name"]
    assert names == ["thread 0", "lane 1"], "each track is named once"


def test_no_message_is_so_large_that_anybody_waits_for_it(messages: list[bytes]) -> None:
    assert max(map(len, messages)) < 20_000


async def whole(messages: Iterator[bytes]) -> bytes:
    return b"".join([part async for part in file_parts(messages, is_gzip=False)])


def test_another_process_makes_the_same_file(messages: list[bytes]) -> None:
    made = b"".join(parts(io.BytesIO(b"".join(messages))))
    assert asyncio.run(whole(iter(messages))) == made


def test_a_recording_that_breaks_off_gives_an_error_and_no_half_of_a_file(messages: list[bytes]) -> None:
    with pytest.raises(LlorchError, match="could not be converted"):
        asyncio.run(whole(iter(messages[:3])))


def test_a_fault_of_whoever_feeds_it_is_raised_and_nobody_waits(messages: list[bytes]) -> None:
    def broken() -> Iterator[bytes]:
        yield messages[0]
        raise ArithmeticError("a fault of ours")

    with pytest.raises(ArithmeticError):
        asyncio.run(asyncio.wait_for(whole(broken()), 60))


def test_it_loads_no_compiler() -> None:
    words = [sys.executable, "-c", "import sys, llorch.trace.converter; sys.exit('numba' in sys.modules)"]
    assert subprocess.run(words, check=False).returncode == 0
