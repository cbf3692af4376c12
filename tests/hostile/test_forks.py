"""`os.fork` while other threads generate, compile or load: the child is told and never hangs, the parent goes on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.processes import run_python

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")

PRELUDE = """
import gc, os, signal, sys, threading, time, warnings
import llorch
from llorch.errors import ForkedError

path = sys.argv[1]
warnings.filterwarnings("ignore", category=DeprecationWarning)  # Python warns of forks with threads, from 3.12 on


def forked(work):
    '''What `work` returns in a child, or how the child died.'''
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(200)  # a child that hangs dies of this
        try:
            answer = str(work())
        except BaseException as error:
            answer = f"{type(error).__name__}: {error}"
        os.write(write_end, answer.encode())
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as pipe:
        answer = pipe.read()
    status = os.waitpid(child, 0)[1]
    return answer if status == 0 else f"status {status}"


def error_of(work):
    try:
        work()
    except ForkedError as error:
        return "told" if "do not follow a fork" in str(error) else str(error)
    return "nothing"
"""

GENERATING = """
model = llorch.load(path, threads=2, ctx_size=512)
options = dict(max_tokens=300, seed=1, ignore_eos=True)
expected = model.generate("Hello", **options).text
texts, is_over = [], threading.Event()

def generate():
    while not is_over.is_set():
        texts.append(model.generate("Hello", **options).text)

before = model.stream("Hello", **options)
half = [next(before)]
threads = [threading.Thread(target=generate) for _ in range(2)]
for thread in threads:
    thread.start()

def in_child():
    answers = [
        error_of(lambda: model.generate("Hello", max_tokens=3)),
        error_of(lambda: next(model.stream("Hello", max_tokens=3))),
        error_of(lambda: next(before)),
    ]
    before.close()
    model.close()
    model.close()
    return answers

def dropping():
    global model, before
    del model, before
    gc.collect()
    return "dropped"

def loading_anew():
    with llorch.load(path, threads=2, ctx_size=512) as anew:
        return anew.generate("Hello", **options).text == expected

for _ in range(10):
    print(forked(in_child))
print(forked(dropping))
print(forked(loading_anew))
child = os.fork()
if child == 0:
    signal.alarm(200)
    sys.exit(7)  # with all of Python's endings
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
is_over.set()
for thread in threads:
    thread.join()
print(set(texts) == {expected}, "".join(half + list(before)) == expected)
model.close()
"""

SERVICE = """
import asyncio
from llorch.engine.service import EngineService
from llorch.settings import Settings

service = EngineService(Settings(model=path, threads=2))
service.start()
service.wait_until_ready(200)

async def parent():
    busy = await service.submit(prompt="Hello", max_tokens=120, ignore_eos=True)
    def in_child():
        def run(work):
            return error_of(lambda: asyncio.new_event_loop().run_until_complete(work()))
        threading.Thread(target=lambda: None).start()
        answers = []
        def work():  # in a thread: this one runs an event loop
            answers.append(run(lambda: service.submit(prompt="Hello")))
            answers.append(error_of(lambda: service.wait_until_ready(1)))
            asyncio.new_event_loop().run_until_complete(service.stop(30))
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        return answers
    print(forked(in_child))
    events = []
    while not events or events[-1].type not in ("end", "error"):
        events += [event for _, event in await busy.mailbox.take()]
    print(events[-1].finish_reason, len(events[-1].token_ids))
    await service.stop(0)

asyncio.run(parent())
"""

COMPILING = """
from llorch.kernels import jit
from llorch.kernels.ops import rope
from llorch.kernels.team import TEAM_UNITS, Team

began = threading.Event()
compile = jit.Unit._compile

def noted(unit):
    began.set()
    return compile(unit)

jit.Unit._compile = noted
loading = threading.Thread(target=jit.load_units, args=(TEAM_UNITS,))
loading.start()
began.wait(200)

def compile_in_child():
    was_cached = jit.load_units([*TEAM_UNITS, rope.fill_rope_table])  # the last is the child's alone
    Team(2, 64).close()
    return "compiled" if not was_cached else "nothing was left to compile"

print(forked(compile_in_child))
loading.join()
"""


def test_a_child_is_told_and_does_not_hang_while_the_parent_goes_on_bit_for_bit(
    tiny_model: Path, tmp_path: Path
) -> None:
    lines = run_python(PRELUDE + GENERATING, tmp_path, str(tiny_model))
    assert lines == [*["['told', 'told', 'told']"] * 10, "dropped", "True", "7", "True True"]


def test_a_child_of_a_service_is_told_and_its_stop_returns_at_once(tiny_model: Path, tmp_path: Path) -> None:
    lines = run_python(PRELUDE + SERVICE, tmp_path, str(tiny_model))
    assert lines == ["['told', 'told']", "length 120"]


def test_a_child_can_compile_though_the_parent_was_compiling(tiny_model: Path, tmp_path: Path) -> None:
    """An empty cache makes both compile."""
    cache = str(tmp_path / "cache")
    lines = run_python(PRELUDE + COMPILING, tmp_path, str(tiny_model), LLORCH_CACHE_DIR=cache)
    assert lines == ["compiled"]
