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
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import llvmlite
import numba

from llorch.kernels import paths
from llorch.machine.user_folders import make_own_folder, user_folder
from llorch.version import __version__

logger = logging.getLogger(__name__)

_KEPT_DAYS = 90
_UNFINISHED_S = 3600.0
"""No process takes so long to write an entry."""
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
    path = folder / (name + _SUFFIX)
    try:
        if not path.is_file():  # nothing, or something that would be read for ever
            return None
        with path.open("rb") as file:
            symbol, digest = file.readline(_MAX_HEADER_BYTES).decode("ascii").split()
            data = file.read()
    except (OSError, ValueError):
        return None
    return Code(symbol, data) if hashlib.sha256(data).hexdigest() == digest else None


def holds(name: str) -> bool:
    """Whether there is an entry of the unit `name`; `read` may yet refuse it."""
    folder = directory()
    return folder is not None and (folder / (name + _SUFFIX)).is_file()


def write(name: str, code: Code) -> None:
    """Keep `code` as the entry of the unit `name`; a cache that cannot be written costs one warning."""
    folder = directory()
    if folder is None:
        return
    _remove_unfinished(folder)
    header = f"{code.symbol} {hashlib.sha256(code.data).hexdigest()}\n"
    try:
        descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=name + ".")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(header.encode("ascii") + code.data)
            target = folder / (name + _SUFFIX)
            if target.is_dir():
                shutil.rmtree(target)
            os.replace(temporary, target)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    except OSError as error:
        _warn_once(f"{folder} cannot be written ({error.strerror or error})")


@functools.cache
def directory() -> Path | None:
    """Where this process keeps machine code; None when no folder is safe, and every start compiles."""
    root = cache_root()
    if root is None:
        _warn_once("there is no home folder to keep them in")
        return None
    path = root / "kernels" / cache_key()
    is_new = not os.path.exists(path)  # unlike Path.exists, False where a folder must not be searched
    if fault := make_own_folder(path):
        _warn_once(f"{path} cannot be used ({fault})")
        return None
    if is_new:
        _remove_old_entries(path.parent)
    return path


def cache_root() -> Path | None:
    """The folder of all caches of llorch; None where neither the environment nor the system names one."""
    return user_folder("LLORCH_CACHE_DIR", "XDG_CACHE_HOME", ".cache", "Library/Caches")


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
    logger.warning(
        "kernel cache: %s; kernels are compiled for this process only. LLORCH_CACHE_DIR names another folder",
        what,
    )


def _remove_old_entries(folder: Path) -> None:
    """Remove machine code of other versions that was not used for `_KEPT_DAYS` days."""
    limit = time.time() - _KEPT_DAYS * 86400
    with contextlib.suppress(OSError):
        for other in folder.iterdir():
            with contextlib.suppress(OSError):
                if other.stat().st_mtime < limit:
                    shutil.rmtree(other, ignore_errors=True)


@functools.cache
def _remove_unfinished(folder: Path) -> None:
    """Remove what processes left that were killed while they wrote an entry."""
    limit = time.time() - _UNFINISHED_S
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            with contextlib.suppress(OSError):
                if path.suffix != _SUFFIX and path.stat().st_mtime < limit:
                    path.unlink()
