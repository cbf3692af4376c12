"""What Python may call in `kernels/` is compiled for exactly one declared signature."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from types import ModuleType

from numba.core.dispatcher import Dispatcher

import llorch.kernels
from llorch.kernels.jit import ENTRY_POINTS, EntryPoint


def kernel_modules() -> Iterator[ModuleType]:
    for info in pkgutil.walk_packages(llorch.kernels.__path__, "llorch.kernels."):
        yield importlib.import_module(info.name)


def test_every_entry_point_declares_int64_only() -> None:
    modules = list(kernel_modules())
    assert modules
    found = {id(v) for m in modules for v in vars(m).values() if isinstance(v, EntryPoint)}
    assert found == {id(point) for point in ENTRY_POINTS}
    for point in ENTRY_POINTS:
        assert re.fullmatch(r"int64\(int64(, int64)*\)", point._signature), point.name


def test_entry_points_are_never_specialised_beyond_their_signature() -> None:
    llorch.kernels.compile_all()
    for point in ENTRY_POINTS:
        assert len(point._jitted.signatures) == 1, point.name


def test_no_two_compiled_functions_share_a_name() -> None:
    """Equal names in one cache are what lets the linker mix two functions up (see `jit`)."""
    seen: dict[tuple[str, str], Dispatcher] = {}
    todo = [v for m in kernel_modules() for v in vars(m).values() if isinstance(v, Dispatcher)]
    todo += [point._jitted for point in ENTRY_POINTS]
    while todo:
        dispatcher = todo.pop()
        function = dispatcher.py_func
        key = (function.__module__, function.__qualname__)
        if seen.setdefault(key, dispatcher) is not dispatcher:
            raise AssertionError(f"two functions are called {key}")
        cells = [cell.cell_contents for cell in function.__closure__ or ()]
        todo += [
            c
            for c in cells
            if isinstance(c, Dispatcher) and (c.py_func.__module__, c.py_func.__qualname__) not in seen
        ]
    assert len(seen) > 30
