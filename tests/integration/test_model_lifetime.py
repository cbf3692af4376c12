"""What a model takes, it gives back: on `close`, when nobody holds it any more, and at the end of Python."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.support.processes import run_python

PRELUDE = """
import gc, os, sys, threading, time, weakref
import llorch
from llorch.engine.engine import Engine, open_configured
from llorch.settings import Settings

path = sys.argv[1]
gc.disable()  # a plain `del` must do


def n_threads():
    return sum(thread.name.startswith("llorch-") for thread in threading.enumerate())


def until_gone(what):
    deadline = time.monotonic() + 60
    while n_threads():
        assert time.monotonic() < deadline, f"{what}: {n_threads()} threads are left"
        time.sleep(0.001)


def is_mapped():
    return path in open("/proc/self/maps").read()
"""

DROPPED = """
model = llorch.load(path, threads=3, weights="mapped")
model.generate("Hello", max_tokens=3)
cache = weakref.ref(model._driver._session._engine.kv_cache.keys)
print(n_threads(), is_mapped())
del model
until_gone("a model")
print(n_threads(), is_mapped(), cache())

model = llorch.load(path, threads=3, weights="mapped")
stream = model.stream("Hello", max_tokens=100, ignore_eos=True)
next(stream)
del model
print(n_threads(), len("".join(stream)) > 0)
stream = None
until_gone("a stream that is over")
model = llorch.load(path, threads=3)
stream = model.stream("Hello", max_tokens=100, ignore_eos=True)
next(stream)
del model, stream
until_gone("a stream left half-way")
print(n_threads(), is_mapped())

engine = Engine(open_configured(Settings(model=path, threads=3)), Settings(model=path))
print(n_threads())
del engine
until_gone("an engine")
print(n_threads(), is_mapped())
"""

CYCLE = """
gc.enable()
model = llorch.load(path, threads=3)
model.itself = model
del model
gc.collect()
until_gone("a model in a cycle")
print("gone")
"""

AGAIN_AND_AGAIN = """
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

def once():
    model = llorch.load(path, threads=4, ctx_size=4096)
    model.generate("Hello", max_tokens=20, ignore_eos=True)

for _ in range(5):
    once()
before = resident()
for _ in range(20):
    once()
until_gone("the last model")
print((resident() - before) >> 20)
"""

GENERATING = """
model = llorch.load(path, threads=2)
begun = threading.Event()

def work():
    for _ in model.stream("Hello", max_tokens=400, ignore_eos=True):
        begun.set()

threading.Thread(target=work, daemon=IS_DAEMON).start()
begun.wait(60)
"""
EXITS = {
    "a model that is open": "model = llorch.load(path, threads=2); model.generate('Hello', max_tokens=3)",
    "a stream that is half-way": "s = llorch.load(path, threads=2).stream('Hello', max_tokens=300); next(s)",
    "an exit in the middle": "model = llorch.load(path, threads=2); next(model.stream('Hello')); sys.exit(0)",
    "a thread that generates": GENERATING.replace("IS_DAEMON", "False"),
    "a daemon thread that generates": GENERATING.replace("IS_DAEMON", "True"),
}


def test_a_model_that_nobody_holds_takes_its_threads_and_memory_with_it(
    tiny_model: Path, tmp_path: Path
) -> None:
    lines = run_python(PRELUDE + DROPPED, tmp_path, str(tiny_model))
    assert lines == ["2 True", "0 False None", "2 True", "0 False", "2", "0 False"]


def test_a_model_in_a_cycle_goes_with_the_garbage(tiny_model: Path, tmp_path: Path) -> None:
    assert run_python(PRELUDE + CYCLE, tmp_path, str(tiny_model)) == ["gone"]


@pytest.mark.slow
def test_loading_and_dropping_again_and_again_takes_no_memory(tiny_model: Path, tmp_path: Path) -> None:
    (grown_mib,) = run_python(PRELUDE + AGAIN_AND_AGAIN, tmp_path, str(tiny_model))
    assert int(grown_mib) < 20


@pytest.mark.parametrize("what", EXITS)
def test_python_ends_quietly_with(what: str, tiny_model: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + "gc.enable()\n" + EXITS[what], str(tiny_model)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
