"""Units: compiled alone, cached alone, and never mixed up with each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numba.core.errors import NumbaError

from llorch.errors import KernelError
from llorch.kernels import jit, object_cache
from llorch.kernels.emit.functions import call_unit
from llorch.kernels.emit.scalars import as_int64
from llorch.kernels.jit import Unit, kernel, load_units, unit
from llorch.kernels.object_cache import Code
from tests.support.processes import run_python


@unit("sums, for tests", 3)
def sum_for_tests(a: int, b: int, out: int) -> int:
    as_int64(out)[0] += a + b
    return a + b


@unit("calls by address, for tests", 2)
def call_for_tests(address: int, out: int) -> int:
    for i in range(3):
        call_unit(address, (i, 10, out))
    return 0


@unit("exceptions, for tests", 1)
def raise_for_tests(n: int) -> int:
    if n > 2:
        raise ValueError("a kernel must not")
    return n


def fresh(old: Unit) -> Unit:
    """A unit as it is before it is loaded."""
    jit._UNITS.pop(old.name)
    return Unit(old._function, old._argument_types, old.name, old.title)


def test_a_unit_is_called_from_python_and_by_its_address() -> None:
    out = np.zeros(1, np.int64)
    at = int(out.ctypes.data)
    assert sum_for_tests(40, 2, at) == out[0] == 42
    call_for_tests(sum_for_tests.address, at)
    assert out[0] == 42 + 10 + 11 + 12


def test_an_exception_inside_a_unit_is_an_error_that_names_it() -> None:
    assert raise_for_tests(2) == 2
    with pytest.raises(KernelError, match="raise_for_tests"):
        raise_for_tests(3)


def test_two_units_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="sum_for_tests"):
        Unit(sum_for_tests._function, sum_for_tests._argument_types, "sum_for_tests", "again")


def test_a_unit_is_compiled_once_and_loaded_from_then_on(monkeypatch: pytest.MonkeyPatch) -> None:
    sum_for_tests.load()
    again = fresh(sum_for_tests)
    monkeypatch.setattr(Unit, "_compile", lambda self: pytest.fail("it was in the cache"))
    assert again.load()
    out = np.zeros(1, np.int64)
    assert again(1, 2, int(out.ctypes.data)) == 3


def test_an_entry_that_cannot_be_linked_is_compiled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    monkeypatch.setattr(object_cache, "read", lambda name: Code("nothing", b"no object file"))
    monkeypatch.setattr(object_cache, "write", lambda name, code: written.append(name))
    again = fresh(sum_for_tests)
    assert not again.load()
    assert written == ["sum_for_tests"]
    out = np.zeros(1, np.int64)
    assert again(1, 2, int(out.ctypes.data)) == 3


def test_progress_names_each_unit_that_is_not_loaded_yet(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(object_cache, "directory", lambda: tmp_path)
    told: list[tuple[str, int, int]] = []
    units = [fresh(sum_for_tests), fresh(call_for_tests)]
    load_units([*units, *units], lambda *now: told.append(now))
    assert told == [("sums, for tests", 0, 2), ("calls by address, for tests", 1, 2), ("kernels", 2, 2)]
    load_units(units, lambda *now: told.append(now))
    assert told[-1] == ("kernels", 0, 0)


def test_units_from_the_cache_are_not_said_to_be_compiled(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(object_cache, "directory", lambda: tmp_path)
    told: list[str] = []
    for _ in range(2):
        load_units([fresh(sum_for_tests)], lambda what, *_: told.append(what))
    assert told == ["sums, for tests", "kernels", "kernels", "kernels"]


def test_kernels_cannot_allocate() -> None:
    @kernel
    def allocating(n: int) -> float:
        return np.zeros(n).sum()

    with pytest.raises(NumbaError):
        allocating.compile("float64(int64)")


SAME_NAMES = """
import sys
from llorch.kernels.jit import kernel, unit

def make(name, number):
    @kernel
    def run(x, y):
{body}
        return y

    @unit("same names, for tests", 1, name=name)
    def outer(x):
        return run(x, 1) + run(x, 2)

    return outer

units = {{"a": make("a", 1), "b": make("b", 1000)}}
for name in sys.argv[1]:
    print(units[name].load(), units[name](3))
"""


@pytest.mark.slow
def test_units_that_different_processes_cached_do_not_mix_up_their_functions(tmp_path: Path) -> None:
    """Numba numbers functions per process, so `make.run` may be one function here and another there."""
    body = "\n".join(
        f"        for i in range(x + {k}):\n            y = (y * {2 * k + 3} + number) ^ (y >> 3)"
        for k in range(12)  # too long to be inlined
    )
    (tmp_path / "same_names.py").write_text(SAME_NAMES.format(body=body))
    code = "import runpy; runpy.run_path('same_names.py', run_name='same_names')"
    cache = str(tmp_path / "cache")
    (a,) = run_python(code, tmp_path, "a", LLORCH_CACHE_DIR=cache)
    (b,) = run_python(code, tmp_path, "b", LLORCH_CACHE_DIR=cache)
    both = run_python(code, tmp_path, "ab", LLORCH_CACHE_DIR=cache)
    assert a.split()[0] == b.split()[0] == "False"
    assert a.split()[1] != b.split()[1]
    assert both == [a.replace("False", "True"), b.replace("False", "True")]
