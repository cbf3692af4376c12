"""The folder of a pulled model: made for this user alone, locked by one process, filled with whole files only."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from llorch.errors import InputError, PullError
from llorch.machine.user_folders import make_own_folder
from llorch.progress import Progress
from llorch.pulled.names import DATA_VARIABLE

UNFINISHED = ".partial"
"""The folder beside the models where files are until they are whole; it is gone when they are."""
SPARE_BYTES = 16 << 20
"""Bytes left free on the disk."""
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Pulled:
    """A model on this machine.

    Attributes:
        path: its file, of a split model the first; or its directory.
        sha256: of that file; None of a directory.
        n_bytes: of all its files.
        was_there: whether nothing had to be fetched.
    """

    path: Path
    sha256: str | None
    n_bytes: int
    was_there: bool


@contextlib.contextmanager
def unfinished_folder(models: Path, progress: Progress, *, resumes: bool = False) -> Iterator[Path]:
    """The folder for unfinished files in `models`, which are both made; other processes wait meanwhile.

    Args:
        models: the folder of a model.
        progress: told when another process has it.
        resumes: whether what is in the folder stays, at the start and after a failure.

    Raises:
        InputError: the folder cannot be used.
    """
    if fault := make_own_folder(models):
        raise InputError(f"{models} cannot be used ({fault}); {DATA_VARIABLE} names another folder")
    folder = models / UNFINISHED
    lock = os.open(models, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # network file systems may not lock folders
            progress("waiting for another llorch pull", 0, 0)
            fcntl.flock(lock, fcntl.LOCK_EX)
        if not resumes:
            shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed
        folder.mkdir(mode=0o700, exist_ok=True)
        yield folder
        resumes = False
    finally:
        if not resumes:
            shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def require_space(folder: Path, n_bytes: int) -> None:
    """Refuse to begin what the disk cannot hold.

    Raises:
        PullError: `n_bytes` more do not fit.
    """
    free = shutil.disk_usage(folder).free
    if free < n_bytes + SPARE_BYTES:
        raise PullError(f"{folder}: {n_bytes / 1e6:,.0f} MB are needed, {free / 1e6:,.0f} MB are free")


def digest_of(path: Path, digest: hashlib._Hash, progress: Progress) -> str:
    """The hexadecimal form of `digest`, fed with a file."""
    n_bytes = path.stat().st_size
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            progress(f"checking {path.name}", file.tell(), n_bytes)
    return digest.hexdigest()


def put_in_place(unfinished: Path, target: Path) -> None:
    """Make a file that is whole appear under its name, also after a power failure."""
    with unfinished.open("rb") as file:
        os.fsync(file.fileno())
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.replace(unfinished, target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
