"""Re-checking a proof bundle: its hashes, and the verdicts that follow from its data."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from llorch.errors import ReferenceDumpError
from llorch.validation.bundle import INDEX, KINDS, SCHEMA
from llorch.validation.checkpoint_verify import verify_checkpoint
from llorch.validation.loading_verify import verify_loading
from llorch.validation.manifests import Fields
from llorch.validation.opened_bundle import Bundle
from llorch.validation.performance_verify import verify_performance

_INDEX_BYTES_AT_MOST = 16 << 20


def verify(folder: Path) -> Bundle:
    """Re-check a bundle.

    Returns:
        The bundle with the problems found.

    Raises:
        ReferenceDumpError: it is no bundle, or its data cannot be read as one.
    """
    bundle = Bundle(folder, _read_index(folder))
    for name, entry in bundle.index["files"].items():
        _check_file(bundle, name, entry)
    known = {INDEX, *bundle.index["files"]}
    try:
        extra = sorted(path.name for path in folder.iterdir() if path.name not in known)
    except OSError as error:
        raise ReferenceDumpError(f"{folder} cannot be read: {error.strerror}") from None
    bundle.problems += [f"{name} does not belong to the bundle" for name in extra]
    if bundle.problems:
        return bundle
    try:
        _RECOMPUTE[bundle.kind](bundle)
    except (
        KeyError,
        TypeError,
        ValueError,
        IndexError,
        AttributeError,
        zipfile.BadZipFile,
        OSError,
    ) as error:
        what = f"{type(error).__name__}: {error}"
        raise ReferenceDumpError(f"{folder} holds data that cannot be checked ({what})") from None
    return bundle


_RECOMPUTE: Mapping[str, Callable[[Bundle], None]] = {
    "loading": verify_loading,
    "checkpoint": verify_checkpoint,
    "performance": verify_performance,
}


def _read_index(folder: Path) -> Mapping[str, Any]:
    path = folder / INDEX
    try:
        if path.stat().st_size > _INDEX_BYTES_AT_MOST:
            raise ReferenceDumpError(f"{path} is larger than {_INDEX_BYTES_AT_MOST >> 20} MiB")
        index = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ReferenceDumpError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ReferenceDumpError(f"{path} is no JSON: {error}") from None
    if not isinstance(index, dict):
        raise ReferenceDumpError(f"{path} holds {type(index).__name__}, expected an object")
    top = Fields(index, str(path))
    if (schema := top.text("schema")) != SCHEMA:
        raise ReferenceDumpError(f"{path}: schema is {schema!r}, expected {SCHEMA!r}")
    if (kind := top.text("kind")) not in KINDS:
        raise ReferenceDumpError(f"{path}: kind is {kind!r}, expected one of {', '.join(KINDS)}")
    files = top.section("files")
    for name in files.values:
        if Path(name).name != name or name in ("", ".", "..", INDEX):
            raise ReferenceDumpError(f"{path}: {name!r} is no name of a file in the bundle")
        files.section(name).sha256("sha256")
    return index


def _check_file(bundle: Bundle, name: str, entry: Mapping[str, Any]) -> None:
    path = bundle.folder / name
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        bundle.problems.append(f"{name} cannot be read: {error.strerror}")
        return
    if found != entry["sha256"]:
        bundle.problems.append(f"{name} was altered: sha256 {found[:16]}…, recorded {entry['sha256'][:16]}…")
