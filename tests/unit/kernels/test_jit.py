"""The disk cache of compiled kernels: where it is, what it is named after, and that it never mixes functions."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from llorch.kernels import jit, paths
from tests.conftest import REPOSITORY


def run_python(code: str, cwd: Path, *args: str, **environment: str) -> list[str]:
    """Lines that a new process prints."""
    done = subprocess.run(
        [sys.executable, "-c", code, *args],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)} | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout.splitlines()


def cache_dir_with(root: Path) -> Path:
    lines = run_python(
        "from llorch.kernels.jit import CACHE_DIR; print(CACHE_DIR)", root, LLORCH_CACHE_DIR=str(root)
    )
    return Path(lines[0])


def test_the_cache_lies_where_the_environment_says_and_belongs_to_the_user_alone(tmp_path: Path) -> None:
    chosen = cache_dir_with(tmp_path)
    assert chosen == tmp_path / "kernels" / jit._cache_key()
    assert stat.S_IMODE(chosen.stat().st_mode) == 0o700


def test_without_the_variable_it_lies_in_the_users_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("LLORCH_CACHE_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert tmp_path in jit._cache_root().parents
    if sys.platform != "darwin":
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
        assert jit._cache_root() == tmp_path / "xdg" / "llorch"


@pytest.mark.parametrize("which", [".", "kernels", "kernels/key"])
def test_a_folder_that_others_can_write_is_refused(tmp_path: Path, which: str) -> None:
    """Cache entries are pickles: who can swap one runs code as this user."""
    root = tmp_path / "cache"
    path = root / "kernels" / "key"
    path.mkdir(mode=0o700, parents=True)
    assert jit._own_folder(path)
    (root / which).chmod(0o777)
    assert not jit._own_folder(path)


def test_a_sticky_parent_such_as_tmp_is_no_danger(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp").chmod(0o1777)
    assert jit._own_folder(tmp_path / "tmp" / "mine" / "key")


def test_a_cache_in_a_shared_folder_is_replaced_by_one_that_vanishes_with_the_process(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    chosen = cache_dir_with(tmp_path)
    assert tmp_path not in chosen.parents
    assert not chosen.exists()


def test_a_cache_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert not jit._own_folder(tmp_path / "file" / "key")


def test_the_key_changes_with_every_kernel_source_and_cpu_feature(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sources = Path(jit.__file__).parent
    copy = tmp_path / "kernels"
    for path in sources.rglob("*.py"):
        target = copy / path.relative_to(sources)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    usual = jit._cache_key()
    monkeypatch.setattr(jit, "__file__", str(copy / "jit.py"))
    assert jit._cache_key() == usual
    keys = {usual}
    for path in sorted(copy.rglob("*.py")):
        content = path.read_bytes()
        path.write_bytes(content + b"#")
        keys.add(jit._cache_key())
        path.write_bytes(content)
    assert len(keys) == 1 + len(list(copy.rglob("*.py")))
    monkeypatch.setattr(paths, "features", lambda: frozenset({"one", "feature"}))
    keys.add(jit._cache_key())
    monkeypatch.setattr(paths, "host_name", lambda: "another")
    keys.add(jit._cache_key())
    monkeypatch.setattr(jit, "__version__", "0.0.0")
    keys.add(jit._cache_key())
    assert len(keys) == 4 + len(list(copy.rglob("*.py")))


def test_functions_of_one_factory_have_names_of_their_own() -> None:
    def make(number: int) -> object:
        @jit.kernel
        def run(x: int) -> int:
            return x + number

        return run.py_func.__qualname__

    assert len({make(i) for i in range(3)}) == 3


COLLISION = """
import sys
from llorch.kernels.jit import entry_point, kernel

def make(number):
    @kernel
    def run(x, y):
{body}
        return y
    return run

first, second = make(1), make(1000)

@entry_point("int64(int64)")
def a(x):
    return first(x, 1) + first(x, 2)

@entry_point("int64(int64)")
def b(x):
    return second(x, 1) + second(x, 2)

for name in sys.argv[1]:
    point = {{"a": a, "b": b}}[name]
    print(point.compile(), point(3))
"""


def test_entries_that_different_processes_cached_do_not_mix_up_their_functions(tmp_path: Path) -> None:
    """Numba numbers functions per process: `make.run` number 2 was one thing here and another there.

    This happened when two programs started for the first time at once, or when the first one was killed.
    """
    body = "\n".join(
        f"        for i in range(x + {k}):\n            y = (y * {2 * k + 3} + number) ^ (y >> 3)"
        for k in range(12)  # too long to be inlined
    )
    (tmp_path / "collision.py").write_text(COLLISION.format(body=body))
    code = "import runpy; runpy.run_path('collision.py', run_name='collision')"
    cache = str(tmp_path / "cache")
    (a,) = run_python(code, tmp_path, "a", LLORCH_CACHE_DIR=cache)
    (b,) = run_python(code, tmp_path, "b", LLORCH_CACHE_DIR=cache)
    both = run_python(code, tmp_path, "ab", LLORCH_CACHE_DIR=cache)
    assert a.split()[0] == b.split()[0] == "False"
    assert both == [a.replace("False", "True"), b.replace("False", "True")]
