"""Which files of a Python package ran: one hash over a folder's files, the same for a checkout, a wheel and an sdist.

The hash is in-toto's ``dirHash``. Anyone computes it beside the package's folder:
``find llorch -type f ! -path '*/__pycache__/*' | LC_ALL=C sort | xargs sha256sum | sha256sum``.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from importlib.metadata import Distribution, PackageNotFoundError, PathDistribution, distribution
from pathlib import Path
from typing import Any

import llorch
from llorch.validation.records import sha256_of_file
from llorch.version import __version__

SOURCES = Path(llorch.__file__).parent
_COMPILED = "__pycache__"


def folder_hash(folder: Path) -> str:
    """``dirHash`` of a folder's regular files, named from the folder that holds it; what is compiled is left out."""
    paths = [Path(place, name) for place, _, files in os.walk(folder) for name in files]
    names = {path.relative_to(folder.parent).as_posix(): path for path in paths}
    return _hash_of(
        {
            name: path
            for name, path in names.items()
            if _COMPILED not in name.split("/") and path.is_file() and not path.is_symlink()
        }
    )


def _hash_of(files: dict[str, Path]) -> str:
    lines = (f"{sha256_of_file(files[name])}  {name}\n" for name in sorted(files, key=os.fsencode))
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def own_package(commit: str | None) -> dict[str, Any]:
    """The llorch that runs: its version, the hash of its files, and where they came from.

    Args:
        commit: of the checkout that it runs from (see `llorch.environment`), None outside one.

    Returns:
        ``source`` is ``"checkout"`` or ``"installed"``; ``archive_sha256`` is the hash of the wheel or sdist where the
        installer recorded it: of one given by file or address, not of one from an index.
    """
    is_installed = commit is None and _is_recorded()
    return {
        "name": "llorch",
        "version": __version__,
        "dir_hash": _own_hash(SOURCES),
        "source": "installed" if is_installed else "checkout",
        "archive_sha256": _archive_hash() if is_installed else None,
    }


@functools.cache
def _own_hash(folder: Path) -> str:
    """Taken once: what is changed on disk later does not run in this process."""
    return folder_hash(folder)


def _is_recorded() -> bool:
    """Whether an installer's record lists the very files that run."""
    try:
        found = distribution("llorch")
    except PackageNotFoundError:
        return False
    here = SOURCES / "version.py"
    return any(Path(str(found.locate_file(file))).resolve() == here.resolve() for file in found.files or ())


def _archive_hash() -> str | None:
    """What pip recorded of the archive that it unpacked (PEP 610)."""
    try:
        origin = json.loads(distribution("llorch").read_text("direct_url.json") or "{}")
        found = origin.get("archive_info", {}).get("hashes", {}).get("sha256")
    except (ValueError, AttributeError):
        return None
    return found if isinstance(found, str) else None


@functools.cache
def package_facts(name: str) -> dict[str, Any] | None:
    """Version and hash of the files of an installed package; None where it is not installed."""
    try:
        return _facts(distribution(name))
    except PackageNotFoundError:
        return None


def package_at(record: Path) -> dict[str, Any]:
    """The same of the package whose ``*.dist-info`` folder is `record`."""
    return _facts(PathDistribution(record))


def _facts(found: Distribution) -> dict[str, Any]:
    """``dir_hash`` is over the files that the record lists inside the site's folder, but for the record itself."""
    files = {
        file.as_posix(): Path(str(found.locate_file(file)))
        for file in found.files or ()
        if file.hash and ".." not in file.parts and not file.parts[0].endswith(".dist-info")
    }
    there = {name: path for name, path in files.items() if path.is_file()}
    return {
        "name": found.metadata["Name"],
        "version": found.version,
        "dir_hash": _hash_of(there),
        "n_files": len(there),
    }
