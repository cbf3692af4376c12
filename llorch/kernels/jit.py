"""How kernels are compiled: functions inside units, and units, each with machine code of its own.

A `Unit` is what is called by its address: by Python, by the interpreter (an operation) or by another unit (the fill
of an activation form). It is compiled and cached by itself, so a start compiles the units that its file needs and no
others. Each is linked into a library of its own, where no name can meet the same name of another unit.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import logging
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import llvmlite.binding as llvm
import numba
from numba import types
from numba.core import config as numba_config

from llorch.errors import KernelError
from llorch.kernels import object_cache, paths
from llorch.kernels.object_cache import Code
from llorch.progress import Progress, ignore_progress

logger = logging.getLogger(__name__)

if paths.must_tell_llvm():
    numba_config.CPU_NAME = paths.host_name()
    numba_config.CPU_FEATURES = paths.llvm_features()

_OPTIONS: dict[str, Any] = {
    "nogil": True,
    "boundscheck": False,
    "error_model": "numpy",
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
    "_nrt": False,  # no reference counts: kernels have addresses, not arrays, and cannot allocate
}
_OK, _OK_NONE = 0, -2
"""What a function of Numba returns beside its result when no exception was raised."""


def kernel(function: Callable[..., Any]) -> Any:
    """A function for other kernels: compiled into each unit that calls it."""
    return numba.njit(**_OPTIONS)(function)


def inlined(function: Callable[..., Any]) -> Any:
    """Like `kernel`, and LLVM is told to inline it."""
    return numba.njit(forceinline=True, **_OPTIONS)(function)


def merged(function: Callable[..., Any]) -> Any:
    """Like `kernel`, and Numba itself puts its statements into each caller, before types are known.

    LLVM optimises a `kernel` once for itself and again within each of its callers' callers; this once.
    """
    return numba.njit(inline="always", **_OPTIONS)(function)


class _Result:
    """Where a function of Numba writes what it returns."""

    __slots__ = ("address", "exception", "exception_address", "value")

    def __init__(self) -> None:
        self.value, self.exception = ctypes.c_int64(), ctypes.c_void_p()
        self.address, self.exception_address = map(ctypes.addressof, (self.value, self.exception))


class Unit:
    """A kernel with machine code of its own, loaded from the cache or compiled when its address is first asked for.

    Attributes:
        name: of its cache entry; no two units share one.
        title: what it does, for people who wait for the compiler.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        argument_types: Sequence[Any],
        name: str,
        title: str,
        *,
        is_short: bool = False,
    ) -> None:
        self.name = name
        self.title = title
        self._is_short = is_short
        self._function = function
        self._argument_types = tuple(argument_types)
        self._address = 0
        self._call: Any = None
        self._results: list[_Result] = []
        if name in _UNITS:
            raise ValueError(f"two units are called {name}")
        _UNITS[name] = self

    @property
    def is_loaded(self) -> bool:
        """Whether the machine code is in memory."""
        return bool(self._address)

    @property
    def address(self) -> int:
        """Where the machine code begins; the first call loads or compiles it."""
        if not self._address:
            self.load()
        return self._address

    def load(self) -> bool:
        """Load the machine code, or compile it; True when nothing had to be compiled."""
        with _lock:
            if self._address:
                return True
            code = object_cache.read(self.name)
            if code is not None and (address := _link(self.name, code)):
                self._address = address
                return True
            _announce_compiling()
            code = self._compile()
            object_cache.write(self.name, code)
            self._address = _link(self.name, code)
        if not self._address:
            raise KernelError(f"LLVM cannot link the kernel {self.name}")
        return False

    def __call__(self, *args: int) -> int:
        """Run the kernel; without holding the GIL, unless it is short."""
        if self._call is None:
            signature = [ctypes.c_void_p, ctypes.c_void_p, *(ctypes.c_int64 for _ in self._argument_types)]
            prototype = ctypes.PYFUNCTYPE if self._is_short else ctypes.CFUNCTYPE
            self._call = prototype(ctypes.c_int32, *signature)(self.address)
        # Several threads may be in one unit; to make a result anew takes as long as the rest of a short call.
        result = self._results.pop() if self._results else _Result()
        status = self._call(result.address, result.exception_address, *args)
        value: int = result.value.value
        self._results.append(result)
        if status not in (_OK, _OK_NONE):
            raise KernelError(f"the kernel {self.name} raised an exception")
        return value

    def assembly(self) -> str:
        """Its machine code in words, compiled now whatever the cache holds."""
        jitted = self._jitted()
        (text,) = jitted.inspect_asm().values()
        return str(text)

    def _jitted(self) -> Any:
        jitted = numba.njit(**_OPTIONS)(self._function)
        jitted.compile(self._argument_types)
        return jitted

    def _compile(self) -> Code:
        (compiled,) = self._jitted().overloads.values()
        _, _, (data, _) = compiled.library.serialize_using_object_code()
        return Code(compiled.fndesc.llvm_func_name, data)


@functools.cache
def _announce_compiling() -> None:
    """Say once in the log why this start takes longer than others."""
    folder = object_cache.directory()
    kept = "for this process" if folder is None else f"once; they are kept in {folder}"
    logger.info("compiling kernels for this CPU (%s), %s", paths.path(), kept)


_UNITS: dict[str, Unit] = {}
_lock = threading.RLock()
# A fork waits for the unit that is compiled, or LLVM's locks would stay held in the child.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)
_linker: Any = None
_libraries: list[Any] = []
_serial = itertools.count()


def _link(name: str, code: Code) -> int:
    """Load `code` into memory; returns the address of its function, or 0 if it cannot be linked."""
    global _linker
    if _linker is None:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        _linker = llvm.create_lljit_compiler(suppress_errors=True)
    builder = llvm.JITLibraryBuilder().add_object_img(code.data).add_current_process()
    try:
        library = builder.export_symbol(code.symbol).link(_linker, f"{name}.{next(_serial)}")
    except RuntimeError:
        return 0
    _libraries.append(library)  # the machine code goes when this goes
    return int(library[code.symbol])


def unit(
    title: str, n_args: int, *, name: str | None = None, is_short: bool = False
) -> Callable[[Callable[..., Any]], Unit]:
    """Declare a unit of `n_args` int64 arguments, named after the function unless factories make several.

    A short one, of microseconds, keeps the GIL when Python calls it: a thread that takes it meanwhile may keep it for
    milliseconds.
    """

    def decorate(function: Callable[..., Any]) -> Unit:
        return Unit(function, [types.int64] * n_args, name or function.__name__, title, is_short=is_short)

    return decorate


_OPERATION = (types.CPointer(types.int64), types.CPointer(types.int64), *[types.int64] * 5)


def operation(title: str, *, name: str | None = None) -> Callable[[Callable[..., Any]], Unit]:
    """Declare an operation: a unit ``run(o, s, n_rows, ith, nth, counter, scratch)`` that does one thread's share.

    Its arguments: the instruction (``o[X]`` is operand X), the step (``s[TOKEN_IDS]``, see `step`), the rows to
    compute, the number of this thread and of all threads, the address of an int64 that hands out work (0 at the
    start), the address of this thread's scratch.
    """

    def decorate(function: Callable[..., Any]) -> Unit:
        return Unit(function, _OPERATION, name or function.__name__, title)

    return decorate


def load_units(units: Iterable[Unit], progress: Progress = ignore_progress) -> bool:
    """Load units from the disk cache or compile them; True when nothing had to be compiled.

    Args:
        units: those to load.
        progress: told of each unit before it is loaded, and of the end: ``"kernels"`` for one that is in the cache and
            for the end, the title of one that has to be compiled.
    """
    wanted = [unit for unit in dict.fromkeys(units) if not unit.is_loaded]
    was_cached = True
    for done, unit in enumerate(wanted):
        progress("kernels" if object_cache.holds(unit.name) else unit.title, done, len(wanted))
        was_cached &= unit.load()
    progress("kernels", len(wanted), len(wanted))
    return was_cached


def declared_units() -> list[Unit]:
    """The units of all modules imported so far."""
    return list(_UNITS.values())
