"""A file that appears whole or not at all: written beside its place, then renamed."""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from llorch.errors import InputError
from llorch.formats.printed import printable

_UNFINISHED = ".unfinished"
_OPEN_FILES = "/proc/self/fd"


class FileBeside:
    """The file while it is being written. Threads may write different parts at once."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Write all of `data` at `offset`."""
        rest = memoryview(data).cast("B")
        while rest:
            n = os.pwrite(self._descriptor, rest, offset)
            rest, offset = rest[n:], offset + n


@contextmanager
def written_beside(path: Path, n_bytes: int, check: Callable[[Path], None]) -> Iterator[FileBeside]:
    """Create a file of `n_bytes` zeros in the folder of `path`; after the body, check it and rename it to `path`.

    Whatever goes wrong, an interrupt included, nothing is left behind, and a file at `path` stays as it was. Where the
    file system has files without names, that holds for a process that is killed, too; elsewhere the next call for
    this folder removes what such a process has left.

    Args:
        path: where the file is to appear.
        n_bytes: its size; the space is reserved at once.
        check: called with the complete file on disk; raises if it is not as it should be.

    Raises:
        InputError: the file cannot be written, for example because the disk is full.
    """
    beside = path.with_name(f".llorch-{secrets.token_hex(8)}{_UNFINISHED}")
    try:
        _remove_abandoned(path.parent)
        try:
            with _unfinished(beside) as descriptor:
                os.posix_fallocate(descriptor, 0, n_bytes)
                yield FileBeside(descriptor)
                os.fsync(descriptor)
                _give_name(descriptor, beside)
                check(beside)
                os.replace(beside, path)
            _flush_folder(path.parent)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(
            f"{printable(path)}: {n_bytes} bytes cannot be written there: {error.strerror or error}"
        ) from error


@contextmanager
def _unfinished(beside: Path) -> Iterator[int]:
    """A new file in the folder of `beside`, locked while it is open: without a name, or at `beside`."""
    try:
        os.stat(_OPEN_FILES)  # through which the file gets its name
        descriptor = os.open(beside.parent, os.O_RDWR | os.O_TMPFILE, 0o666)
    except (AttributeError, OSError):  # not Linux, or a file system that has no such files
        descriptor = _new_locked(beside)
    else:
        _lock(descriptor)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _new_locked(path: Path) -> int:
    """Create `path`. Another process may take it for abandoned before it is locked: then it is made once more."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        _lock(descriptor)
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    with suppress(OSError):  # network file systems may not lock; then nothing is removed there, either
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _give_name(descriptor: int, path: Path) -> None:
    """Let the open file appear at `path`, if it has no name yet."""
    if os.fstat(descriptor).st_nlink:
        return
    folder = os.open(path.parent, os.O_RDONLY)
    try:  # without a folder's descriptor, Python links to the link in /proc, not to what it stands for
        os.link(f"{_OPEN_FILES}/{descriptor}", path.name, dst_dir_fd=folder, follow_symlinks=True)
    finally:
        os.close(folder)


def _remove_abandoned(folder: Path) -> None:
    """Remove unfinished files of this user that no process has locked: whoever began them was killed."""
    for path in folder.glob(f".llorch-*{_UNFINISHED}"):
        with suppress(OSError), _opened(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK) as descriptor:
            status = os.fstat(descriptor)
            if stat.S_ISREG(status.st_mode) and status.st_uid == os.getuid():
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()


def check_place(path: Path, sources: tuple[Path, ...]) -> None:
    """Refuse a place that a new file cannot take.

    Args:
        path: where a file is to appear; one that is there is replaced.
        sources: files that are read meanwhile; a directory stands for those in it.

    Raises:
        InputError: it is one of `sources`, something that is no file, or in no folder.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        check_folder(path)
        return
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise InputError(f"{printable(path)}: is not a usable path: {reason}") from error
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{printable(path)}: is no regular file; it is not replaced")
    files = [file for source in sources for file in (source.iterdir() if source.is_dir() else (source,))]
    if any(os.path.samestat(status, file.stat()) for file in files if file.exists()):
        raise InputError(f"{printable(path)}: is the file that is read; write to another")


def check_folder(path: Path) -> None:
    """Refuse a place whose folder does not exist, or has been deleted while this process works in it.

    Raises:
        InputError: a file cannot appear at `path`.
    """
    try:
        status = path.parent.stat()
    except OSError:
        status = None
    if status is None or not stat.S_ISDIR(status.st_mode):
        raise InputError(f"{printable(path)}: there is no folder {printable(path.parent)}")
    if not status.st_nlink:
        raise InputError(f"{printable(path)}: the folder {printable(path.parent)} has been deleted")


def _flush_folder(folder: Path) -> None:
    """Put the new name on the disk, where the file system has that."""
    with suppress(OSError), _opened(folder, os.O_RDONLY) as descriptor:
        os.fsync(descriptor)


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags, 0o666)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
