"""A cache of machine code is disposable: whatever happens to it, commands work, and it is whole again afterwards."""

from __future__ import annotations

import os
import resource
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from llorch.kernels import object_cache
from tests.support.commands import has_mapped, llorch, namespace, start
from tests.support.live_server import WAIT_S
from tests.support.processes import run_python

CONTINUE = ("generate", "Hello", "-n", "3", "--seed", "1", "--json")


@pytest.fixture(scope="module")
def full_cache(tiny_model: Path) -> Path:
    """The folder with the kernels that `tiny_model` needs; they are compiled if they are not there."""
    assert llorch(*CONTINUE, "-m", str(tiny_model)).returncode == 0
    folder = object_cache.directory()
    assert folder is not None
    return folder


@pytest.fixture
def cache(full_cache: Path, tmp_path: Path) -> Path:
    """A copy of the cache that the test may spoil; its root is `tmp_path`/cache."""
    copy = tmp_path / "cache" / "kernels" / full_cache.name
    copy.parent.mkdir(parents=True)
    shutil.copytree(full_cache, copy)
    copy.chmod(0o700)
    return copy


def tokens(model: Path, cache: Path, **variables: str) -> tuple[object, str]:
    """What a command computes with a cache, and what it says on stderr."""
    result = llorch(*CONTINUE, "-m", str(model), LLORCH_CACHE_DIR=str(cache.parents[1]), **variables)
    assert result.returncode == 0, result.stderr
    return result.stdout.partition('"timings"')[0], result.stderr


QUICK = ("exchange_zero.o", "set_field.o", "scan_q8_0.o", "select.o")
"""Entries that every start needs and that take little time to compile."""

DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "cut": lambda content: content[: len(content) // 2],
    "a flipped bit": lambda content: content[:-40] + bytes([content[-40] ^ 1]) + content[-39:],
    "garbled": lambda content: os.urandom(len(content)),
}


@pytest.mark.slow
def test_damaged_entries_are_compiled_again_and_replaced_whole(cache: Path, tiny_model: Path) -> None:
    usual, log = tokens(tiny_model, cache)
    assert log == ""
    for name, damage in zip(QUICK, DAMAGES.values(), strict=True):
        (cache / name).write_bytes(damage((cache / name).read_bytes()))
    again, log = tokens(tiny_model, cache)
    assert again == usual
    assert log.count("compiling kernels") == 1
    assert tokens(tiny_model, cache) == (usual, "")
    assert {path.suffix for path in cache.iterdir()} == {".o"}


def test_every_entry_may_be_damaged_at_once(cache: Path) -> None:
    """Nothing of a damaged file is unpickled or handed to LLVM; the units themselves are compiled elsewhere."""
    names = [path.stem for path in cache.iterdir()]
    for number, path in enumerate(sorted(cache.iterdir())):
        content = path.read_bytes()
        path.write_bytes(content[: number * 97 % len(content)])
    code = "import sys; from llorch.kernels import object_cache; print(*map(object_cache.read, sys.argv[1:]))"
    (line,) = run_python(code, cache, *names, LLORCH_CACHE_DIR=str(cache.parents[1]))
    assert line.split() == ["None"] * len(names)


def test_entries_that_cannot_be_read_are_replaced_too(cache: Path, tiny_model: Path) -> None:
    folder, pipe, unreadable, link = (cache / name for name in QUICK)
    for entry in (folder, pipe, unreadable, link):
        entry.unlink()
    (folder / "in it").mkdir(parents=True)
    os.mkfifo(pipe)
    unreadable.write_bytes(b"")
    unreadable.chmod(0)
    link.symlink_to("nowhere")
    usual, _ = tokens(tiny_model, cache)
    assert tokens(tiny_model, cache) == (usual, "")


def assert_one_warning(log: str, folder: Path) -> None:
    (warning,) = [line for line in log.splitlines() if "kernel cache" in line]
    assert str(folder) in warning
    assert "LLORCH_CACHE_DIR" in warning


def test_a_cache_that_takes_no_more_costs_one_line(cache: Path, tiny_model: Path) -> None:
    for name in ("exchange_zero.o", "set_field.o"):
        (cache / name).unlink()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limit[1]))  # as a full disk: a write fails in its middle
    try:
        _, log = tokens(tiny_model, cache)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert_one_warning(log, cache)
    assert "File too large" in log
    assert {path.suffix for path in cache.iterdir()} == {".o"}
    assert tokens(tiny_model, cache)[1].count("kernel cache") == 0


def test_a_full_disk_costs_one_line(tmp_path: Path) -> None:
    code = """
import logging, sys
logging.basicConfig(stream=sys.stdout, format="%(message)s")
import numpy as np
from llorch.kernels import team
value = np.zeros(1, np.int64)
team.set_field(value.ctypes.data, 7)
print(team.exchange_zero(value.ctypes.data))
"""
    disk = f"mount -t tmpfs -o size=4k,mode=700 none {tmp_path}; "
    script = f'{disk} cd /; LLORCH_CACHE_DIR={tmp_path}/c exec "$@"'
    wrapper = [*namespace("--map-root-user", "--mount"), "sh", "-c", script, "sh"]
    *log, result = run_python(code, tmp_path, wrapper=wrapper)
    assert_one_warning("\n".join(log), tmp_path / "c")
    assert "No space left" in log[0]
    assert result == "7"


@pytest.mark.slow
def test_a_kill_while_kernels_are_compiled_leaves_a_cache_that_works(cache: Path, tiny_model: Path) -> None:
    for name in ("exchange_zero.o", "set_field.o", "run_steps.o"):
        (cache / name).unlink()
    process = start(*CONTINUE, "-m", str(tiny_model), LLORCH_CACHE_DIR=str(cache.parents[1]))
    with process:
        assert process.stderr is not None
        assert b"compiling kernels" in process.stderr.readline()
        process.kill()
    (cache / "run_steps.o.half").write_bytes(b"what a killed write leaves")
    os.utime(cache / "run_steps.o.half", (0, 0))
    first, _ = tokens(tiny_model, cache)
    assert tokens(tiny_model, cache) == (first, "")
    assert {path.suffix for path in cache.iterdir()} == {".o"}


def test_a_second_copy_of_the_same_version_uses_the_same_entries(
    full_cache: Path, tiny_model: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "site-packages"
    shutil.copytree(
        Path(object_cache.__file__).parents[1], copy / "llorch", ignore=shutil.ignore_patterns("__pycache__")
    )
    code = """
import logging, sys, llorch
logging.basicConfig(level=logging.INFO, stream=sys.stdout)
with llorch.load(sys.argv[1]) as model:
    print(llorch.__file__, len(model.generate("Hello", max_tokens=2, ignore_eos=True).token_ids))
"""
    lines = run_python(code, tmp_path, str(tiny_model), PYTHONPATH=str(copy))
    assert lines == [f"{copy}/llorch/__init__.py 2"]


def test_compiling_is_said_once_where_nobody_watches(cache: Path, tiny_model: Path) -> None:
    for name in ("exchange_zero.o", "set_field.o"):
        (cache / name).unlink()
    _, log = tokens(tiny_model, cache)
    (line,) = log.splitlines()
    assert "compiling kernels for this CPU" in line
    assert str(cache) in line


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_kernels_are_compiled_ends_the_command_quietly(
    tiny_model: Path, tmp_path: Path, number: signal.Signals
) -> None:
    process = start(*CONTINUE, "-m", str(tiny_model), LLORCH_CACHE_DIR=str(tmp_path))
    with process:
        assert process.stderr is not None
        assert b"compiling kernels" in process.stderr.readline()
        assert has_mapped(process.pid, "llvmlite")
        process.send_signal(number)
        assert process.wait(WAIT_S) == 128 + number
        assert process.stderr.read().strip() == b""
