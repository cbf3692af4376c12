"""SIGINT and SIGTERM at any moment, also for process 1 of a container: every command ends, quietly and soon."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from llorch.cli import main
from tests.conftest import REPOSITORY
from tests.support.commands import as_process_1, child_of, handles, has_mapped, start, wait_for
from tests.support.live_server import WAIT_S
from tests.support.processes import run_python

ENDLESS = ("generate", "Hello", "-n", "60000", "--temperature", "0")
COMMANDS = {
    "serve": ("serve", "--port", "0"),
    "pull": ("pull", "some/model"),
    "chat": ("chat", *ENDLESS[1:]),
    "generate": ENDLESS,
    "tokenize": ("tokenize", "-"),
    "inspect": ("inspect",),
    "bench": ("bench", "-r", "1000"),
    "trace": ("trace", *ENDLESS[1:], "-o", f"{tempfile.gettempdir()}/never.json"),
    "perplexity": ("perplexity", "-f", str(REPOSITORY / "CHANGELOG.md"), "-c", "8"),
    "validate": ("validate",),
    "report": ("report", str(REPOSITORY / "proof_bundle")),
    "verify-receipt": ("verify-receipt", str(REPOSITORY / "pyproject.toml")),
    "convert": ("convert", "demo", os.devnull),
    "quantize": ("quantize", "demo", os.devnull, "Q8_0"),
    "warmup": ("warmup",),
    "config": ("config", "show"),
}
SIGNALS = (signal.SIGINT, signal.SIGTERM)
every_signal = pytest.mark.parametrize("number", SIGNALS)


def assert_ended(process: subprocess.Popen[bytes], number: int) -> None:
    assert process.wait(WAIT_S) == 128 + number
    assert process.stderr is not None
    log = [line for line in process.stderr.read().splitlines() if b"compiling kernels" not in line]
    assert b"".join(log).strip() == b""


def test_every_command_is_tried_here() -> None:
    assert COMMANDS.keys() == main.COMMANDS.keys()


HOLD = """
import os, pathlib, sys, threading

class Hold:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["HELD"]:
            pathlib.Path(os.environ["IS_HELD"]).touch()
            threading.Event().wait()

sys.meta_path.insert(0, Hold())
"""
"""Python imports it first: the import of a module does not come to its end."""


@pytest.mark.parametrize("command", COMMANDS)
def test_process_1_ends_on_a_signal_during_imports(command: str, tmp_path: Path) -> None:
    """The kernel drops signals without a handler for process 1, so each command needs one from the beginning."""
    (tmp_path / "sitecustomize.py").write_text(HOLD)
    is_held = tmp_path / "is held"
    path = os.pathsep.join([str(tmp_path), str(REPOSITORY), os.environ.get("PYTHONPATH", "")]).rstrip(
        os.pathsep
    )
    variables = {
        "HELD": f"llorch.cli.{command.replace('-', '_')}",
        "IS_HELD": str(is_held),
        "PYTHONPATH": path,
    }
    process = start(*COMMANDS[command], wrapper=as_process_1(), **variables)
    with process:
        child = child_of(process)
        wait_for(is_held.exists)
        assert handles(child, signal.SIGTERM)
        os.kill(child, signal.SIGTERM)
        assert process.wait(WAIT_S) == 128 + signal.SIGTERM
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()


@every_signal
@pytest.mark.parametrize("library", ["numpy", "llvmlite"])
def test_a_signal_during_imports_is_quiet(number: signal.Signals, library: str, long_model: Path) -> None:
    with start(*ENDLESS, "-m", str(long_model)) as process:
        wait_for(lambda: has_mapped(process.pid, library))
        process.send_signal(number)
        assert_ended(process, number)


@every_signal
def test_a_signal_during_a_generation_ends_it(number: signal.Signals, long_model: Path) -> None:
    with start(*ENDLESS, "-m", str(long_model)) as process:
        assert process.stdout is not None
        assert process.stdout.read(5)
        process.send_signal(number)
        process.stdout.read()
        assert_ended(process, number)


def test_process_1_ends_while_it_generates(long_model: Path) -> None:
    with start(*ENDLESS, "-m", str(long_model), wrapper=as_process_1()) as process:
        assert process.stdout is not None
        assert process.stdout.read(5)
        os.kill(child_of(process), signal.SIGTERM)
        process.stdout.read()
        assert_ended(process, signal.SIGTERM)


def test_a_second_signal_does_not_wait_for_the_first(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run_python(STUCK, tmp_path)
    assert caught.value.returncode == 128 + signal.SIGTERM
    assert caught.value.stdout == "unwinding\n"


STUCK = """
import signal, threading
from llorch.cli import interrupt

interrupt.UNWIND_S = 3600
interrupt.end_on_signals()
try:
    signal.raise_signal(signal.SIGINT)
finally:
    print("unwinding", flush=True)
    signal.raise_signal(signal.SIGTERM)
"""


@pytest.mark.slow
@every_signal
def test_a_signal_at_any_moment_ends_a_command_quietly(number: signal.Signals, long_model: Path) -> None:
    """From the first handler on, through imports and loading, into the generation."""
    for i in range(20):
        with start(*ENDLESS, "-m", str(long_model)) as process:
            wait_for(lambda process=process: handles(process.pid, signal.SIGTERM))  # type: ignore[misc]
            time.sleep(i * 0.05)  # no event marks these moments: any will do
            process.send_signal(number)
            assert process.stdout is not None
            process.stdout.read()
            assert_ended(process, number)


@pytest.mark.slow
@every_signal
def test_a_signal_at_any_moment_of_compiling_ends_a_command_quietly(
    number: signal.Signals, long_model: Path, tmp_path: Path
) -> None:
    for i in range(6):
        cache = str(tmp_path / f"cache{i}")
        with start(*ENDLESS, "-m", str(long_model), LLORCH_CACHE_DIR=cache) as process:
            assert process.stderr is not None
            assert b"compiling kernels" in process.stderr.readline()
            time.sleep(i * 0.9)
            process.send_signal(number)
            assert_ended(process, number)


LOST = """
import ctypes, os, signal, sys, threading
from llorch.cli import interrupt

interrupt.end_on_signals()
compare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)

def interrupted(a, b):
    signal.raise_signal(signal.SIGINT)
    return 0

values = (ctypes.c_int * 2)(2, 1)
ctypes.CDLL(None).qsort(values, 2, 4, compare(interrupted))
print("the exception is lost", flush=True)
threading.Event().wait()
"""


def test_an_interrupt_that_c_code_loses_ends_the_process_all_the_same(tmp_path: Path) -> None:
    """LLVM calls Python back while it compiles; what is raised there goes nowhere."""
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run_python(LOST, tmp_path)
    assert caught.value.returncode == 130
    assert caught.value.stdout == "the exception is lost\n"
    assert caught.value.stderr == ""


ANOTHER_ERROR = """
import signal
from llorch import __main__

class Name:
    def __set_name__(self, owner, name):
        signal.raise_signal(signal.SIGTERM)

def run():
    class Holder:
        name = Name()

__main__._run = run
__main__.main()
"""


def test_a_signal_of_which_python_makes_another_error_ends_the_process_quietly(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run_python(ANOTHER_ERROR, tmp_path)
    assert caught.value.returncode == 128 + signal.SIGTERM
    assert caught.value.stderr == ""


UNFINISHED = """
import signal, threading
from llorch.cli import interrupt

class Handle:
    def __init__(self):
        {before}
        self.pointer = 1

    def __del__(self):
        del self.pointer

def thread():
    made.wait()
    del Handle.nothing

interrupt.end_on_signals()
made = threading.Event()
late = threading.Thread(target=thread)
late.start()
try:
    Handle()
except BaseException:
    made.set()
late.join()
"""


@pytest.mark.parametrize(
    ("before", "lines"), [("signal.raise_signal(signal.SIGTERM)", 0), ("raise MemoryError", 2)]
)
def test_what_a_signal_left_unfinished_is_no_news(before: str, lines: int, tmp_path: Path) -> None:
    """LLVM's objects have destructors that expect a whole object. Without a signal, such a fault is printed."""
    script = tmp_path / "unfinished.py"
    script.write_text(UNFINISHED.format(before=before))
    done = subprocess.run(
        [sys.executable, script],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert done.stderr.count("AttributeError: ") == lines


def test_a_signal_that_the_parent_has_switched_off_stays_off(tmp_path: Path) -> None:
    code = """
import signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
from llorch.cli import interrupt
interrupt.end_on_signals()
signal.raise_signal(signal.SIGINT)
print("still here")
"""
    assert run_python(code, tmp_path) == ["still here"]
