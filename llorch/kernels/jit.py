"""How kernels are compiled: one decorator, one safe disk cache.

Numba stamps a cached function with the date of its own source file only, so an edited intrinsic in another
file would be served stale, and its cache entries are pickles. The cache therefore lives in a folder of the
user's own (0700), named after everything that shapes the machine code: llorch's version and the source of
all kernels, Numba, Python, the CPU and the feature mask.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import os
import shutil
import stat
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba.core import config as numba_config

from llorch.kernels import paths
from llorch.version import __version__

_KEPT_DAYS = 90


def _cache_root() -> Path:
    if override := os.environ.get("LLORCH_CACHE_DIR"):
        return Path(override)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "llorch"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "llorch"


def _cache_key() -> str:
    digest = hashlib.sha256()
    digest.update(
        repr(
            (
                __version__,
                numba.__version__,
                llvmlite.__version__,
                sys.version_info[:3],
                paths.host_name(),
                sorted(paths.features()),
                paths.path(),  # features say nothing about the permission to use them
                paths.sums(),
            )
        ).encode()
    )
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _is_safe(folder: Path) -> bool:
    """Whether nobody else can put something else in the place of what lies in `folder`."""
    info = folder.stat()
    mode = stat.S_IMODE(info.st_mode)
    is_sticky = bool(mode & stat.S_ISVTX)
    unmapped = 65534  # who owns the outside in a container without root
    return info.st_uid in (0, os.getuid(), unmapped) and (is_sticky or not mode & stat.S_IWOTH)


def _own_folder(path: Path) -> bool:
    """Create `path` with mode 0700 and say whether it belongs to this user alone."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if hasattr(os, "getuid"):
            real = path.resolve()
            info = real.stat()
            if info.st_uid != os.getuid() or stat.S_IMODE(info.st_mode) & 0o022:
                return False
            if not all(_is_safe(folder) for folder in real.parents):
                return False
        return os.access(path, os.W_OK)
    except OSError:
        return False


def _forget_old_kernels(folder: Path) -> None:
    """Remove kernels of other versions that nobody has touched for a season."""
    limit = time.time() - _KEPT_DAYS * 86400
    for other in folder.iterdir():
        with contextlib.suppress(OSError):
            if other.stat().st_mtime < limit:
                shutil.rmtree(other, ignore_errors=True)


def _choose_cache_dir() -> Path:
    path = _cache_root() / "kernels" / _cache_key()
    is_new = not path.exists()
    if _own_folder(path):
        if is_new:
            _forget_old_kernels(path.parent)
        return path
    # No usable cache folder: compile anew in this process, but never trust a shared one.
    own = Path(tempfile.mkdtemp(prefix="llorch-kernels-"))
    atexit.register(shutil.rmtree, own, ignore_errors=True)
    return own


CACHE_DIR = _choose_cache_dir()
"""Where this process keeps compiled kernels."""

numba_config.CACHE_DIR = str(CACHE_DIR)
if paths.is_masked():
    numba_config.CPU_NAME = paths.host_name()
    numba_config.CPU_FEATURES = paths.llvm_features()

_COMMON: dict[str, Any] = {"nogil": True, "boundscheck": False, "error_model": "numpy"}


_copies: Counter[str] = Counter()


def _distinct(function: Callable[..., Any]) -> Callable[..., Any]:
    """Number the functions that one factory makes, in the order of definition.

    Numba calls a compiled function by its qualified name and a counter of what this process has compiled so far.
    Were both the same for two closures in two processes (each of which filled a part of the disk cache), the
    linker would take one for the other.
    """
    name = f"{function.__module__}.{function.__qualname__}"
    _copies[name] += 1
    if _copies[name] > 1:
        function.__qualname__ += f"_{_copies[name]}"
    return function


def kernel(function: Callable[..., Any]) -> Any:
    """Compile `function` when a caller needs it; its machine code is cached with the caller's."""
    return numba.njit(**_COMMON)(_distinct(function))


def inlined(function: Callable[..., Any]) -> Any:
    """Like `kernel`, and LLVM is told to inline it."""
    return numba.njit(forceinline=True, **_COMMON)(_distinct(function))


PIECES: list[tuple[str, Any, tuple[Any, ...]]] = []
"""(title, function, argument types) of the large kernels inside the entry points, in the order of definition."""


def piece(title: str, n_args: int, *, float32_at: int | None = None) -> Callable[[Callable[..., Any]], Any]:
    """Like `kernel`, for a large one: it can be compiled ahead of the entry point it hangs on.

    That costs nothing, and lets a first start show how far it has come. The `n_args` arguments are int64, but
    for the float32 at index `float32_at`.
    """
    types = tuple(numba.float32 if i == float32_at else numba.int64 for i in range(n_args))

    def decorate(function: Callable[..., Any]) -> Any:
        jitted = kernel(function)
        PIECES.append((title, jitted, types))
        return jitted

    return decorate


class EntryPoint:
    """A kernel Python calls: compiled for one signature, on demand, and cached on disk."""

    def __init__(self, function: Callable[..., Any], signature: str) -> None:
        self.name = function.__name__
        self._signature = signature
        self._jitted = numba.njit(cache=True, **_COMMON)(function)
        self._ready = False

    @property
    def is_cached(self) -> bool:
        """Whether the disk cache seems to hold it, so that nothing inside needs compiling."""
        return self._ready or any(CACHE_DIR.rglob(f"*.{self.name}-*.nbc"))

    def compile(self) -> bool:
        """Load or compile the machine code; True when the disk cache had it."""
        if not self._ready:
            self._jitted.compile(self._signature)
            self._ready = True
        return bool(sum(self._jitted.stats.cache_hits.values()))

    def __call__(self, *args: int) -> int:
        """Run the kernel without holding the GIL."""
        result: int = self._jitted(*args)
        return result


ENTRY_POINTS: list[EntryPoint] = []
"""All entry points, in the order of definition."""


def entry_point(signature: str) -> Callable[[Callable[..., Any]], EntryPoint]:
    """Declare a function that Python calls, with its Numba signature."""

    def decorate(function: Callable[..., Any]) -> EntryPoint:
        point = EntryPoint(function, signature)
        ENTRY_POINTS.append(point)
        return point

    return decorate
