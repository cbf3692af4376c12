"""Folders of this user: where they are, and which are safe to keep something in."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path


def has_working_folder() -> bool:
    """Whether relative paths lead anywhere: the folder in which this process runs may have been deleted."""
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


def user_folder(variable: str, xdg_variable: str, in_home: str, in_home_darwin: str) -> Path | None:
    """A folder of llorch; None where neither the environment nor the system names one.

    A relative XDG folder or home is ignored, as the XDG Base Directory Specification wants it.

    Args:
        variable: of the environment, which names the folder itself.
        xdg_variable: names the folder above it; not used on macOS.
        in_home: the folder above it without either, relative to the home folder.
        in_home_darwin: the same on macOS.
    """
    if override := os.environ.get(variable):
        return Path(override).absolute()
    xdg = Path(os.environ.get(xdg_variable, ""))
    if sys.platform != "darwin" and xdg.is_absolute():
        return xdg / "llorch"
    home = Path(os.path.expanduser("~"))  # stays "~" for a user without an entry, who has no HOME either
    if not home.is_absolute():
        return None
    return home / (in_home_darwin if sys.platform == "darwin" else in_home) / "llorch"


def make_own_folder(path: Path) -> str:
    """Create `path` (mode 0700, its parents too) if it is missing; returns why it cannot be used, or nothing.

    Nothing is created inside a folder of somebody else: root, called with the HOME of a user, would leave there
    what that user cannot use.
    """
    try:
        if fault := _parents_fault(path):
            return fault
        for folder in [*reversed(path.parents), path]:
            if not folder.exists():
                folder.mkdir(mode=0o700, exist_ok=True)
        if fault := _parents_fault(path):  # as it is now: links may lead elsewhere
            return fault
        if hasattr(os, "getuid") and path.stat().st_uid != os.getuid():
            return "it belongs to another user"
        if stat.S_IMODE(path.stat().st_mode) & 0o022:
            return "others can write to it"
        return "" if os.access(path, os.W_OK) else "it cannot be written"
    except OSError as error:
        return f"{error.filename or path}: {error.strerror or error}"


def _parents_fault(path: Path) -> str:
    """Which of the existing folders above `path` lets somebody else replace files in it, or nothing."""
    if not hasattr(os, "getuid"):
        return ""
    for folder in path.resolve().parents:
        if os.path.exists(folder) and not _is_safe(folder):
            return f"{folder} belongs to another user, or others can write to it"
    return ""


def _is_safe(folder: Path) -> bool:
    """Whether only this user (or root) can replace files in `folder`."""
    info = folder.stat()
    mode = stat.S_IMODE(info.st_mode)
    is_sticky = bool(mode & stat.S_ISVTX)
    unmapped = 65534  # who owns the outside in a container without root
    return info.st_uid in (0, os.getuid(), unmapped) and (is_sticky or not mode & stat.S_IWOTH)
