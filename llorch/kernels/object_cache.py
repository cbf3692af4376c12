"""The disk cache of machine code: one file for each unit, checked before it is used, replaced whole.

An entry is a line of text (the name of the function inside, the SHA-256 of the code) and an object file as LLVM
writes it. The folder belongs to the user alone (0700) and is named after everything that shapes machine code: the
versions of llorch, Numba, llvmlite and Python, the source of all kernels, the CPU, the feature mask. So an entry is
never of another version, and whatever cannot be read or does not match its hash is compiled again.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import shutil
import stat
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import llvmlite
import numba

from llorch.kernels import paths
from llorch.version import __version__

logger = logging.getLogger(__name__)

_KEPT_DAYS = 90
_SUFFIX = ".o"
_MAX_HEADER_BYTES = 4096


class Code(NamedTuple):
    """Machine code of one unit.

    Attributes:
        symbol: name of its function.
        data: an object file.
    """

    symbol: str
    data: bytes


def read(name: str) -> Code | None:
    """The entry of the unit `name`; None when there is none that can be trusted."""
    folder = directory()
    if folder is None:
        return None
    try:
        with (folder / (name + _SUFFIX)).open("rb") as file:
            symbol, digest = file.readline(_MAX_HEADER_BYTES).decode("ascii").split()
            data = file.read()
    except (OSError, ValueError):
        return None
    return Code(symbol, data) if hashlib.sha256(data).hexdigest() == digest else None


def write(name: str, code: Code) -> None:
    """Keep `code` as the entry of the unit `name`; a cache that cannot be written costs one warning."""
    folder = directory()
    if folder is None:
        return
    header = f"{code.symbol} {hashlib.sha256(code.data).hexdigest()}\n"
    try:
        descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=name + ".")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(header.encode("ascii") + code.data)
            os.replace(temporary, folder / (name + _SUFFIX))
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    except OSError as error:
        _warn_once(f"{folder} cannot be written ({error.strerror or error})")


@functools.cache
def directory() -> Path | None:
    """Where this process keeps machine code; None when no folder is safe, and every start compiles."""
    path = cache_root() / "kernels" / cache_key()
    is_new = not path.exists()
    if not _own_folder(path):
        _warn_once(f"{path} cannot be used (it must be writable, and by this user alone)")
        return None
    if is_new:
        _remove_old_entries(path.parent)
    return path


def cache_root() -> Path:
    """The folder of all caches of llorch."""
    if override := os.environ.get("LLORCH_CACHE_DIR"):
        return Path(override)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "llorch"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "llorch"


def cache_key() -> str:
    """A name for everything that shapes machine code."""
    versions = (__version__, numba.__version__, llvmlite.__version__, sys.version_info[:3])
    # Features say nothing about the permission to use them, the path does.
    cpu = (paths.host_name(), sorted(paths.features()), paths.path())
    digest = hashlib.sha256(repr((versions, cpu)).encode())
    root = Path(__file__).parent
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@functools.cache
def _warn_once(what: str) -> None:
    logger.warning("kernel cache: %s; kernels are compiled anew. LLORCH_CACHE_DIR names another folder", what)


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


def _is_safe(folder: Path) -> bool:
    """Whether only this user (or root) can replace files in `folder`."""
    info = folder.stat()
    mode = stat.S_IMODE(info.st_mode)
    is_sticky = bool(mode & stat.S_ISVTX)
    unmapped = 65534  # who owns the outside in a container without root
    return info.st_uid in (0, os.getuid(), unmapped) and (is_sticky or not mode & stat.S_IWOTH)


def _remove_old_entries(folder: Path) -> None:
    """Remove machine code of other versions that was not used for `_KEPT_DAYS` days."""
    limit = time.time() - _KEPT_DAYS * 86400
    for other in folder.iterdir():
        with contextlib.suppress(OSError):
            if other.stat().st_mtime < limit:
                shutil.rmtree(other, ignore_errors=True)
