"""What strangers rely on in a bundle: its sums, its attestation and its signature, checked against its own data."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from llorch.errors import ReferenceDumpError
from llorch.formats.printed import printable
from llorch.validation.attestation import ATTESTATION, difference, statement_of
from llorch.validation.bundle import FIRST_SCHEMA, INDEX, Bundle
from llorch.validation.signing import signature_problems
from llorch.validation.sums import SIGNATURE, SUMS, check_sums, strange_entries

_ATTESTATION_BYTES_AT_MOST = 16 << 20


def require_regular_files(folder: Path) -> None:
    """Refuse a folder that holds links, folders, pipes or devices: reading them could lead anywhere, or never end.

    Raises:
        ReferenceDumpError: it holds such a thing, or cannot be read.
    """
    strange = strange_entries(folder)
    if strange and os.path.lexists(folder / INDEX):  # of another folder it is said that it lacks the index
        raise ReferenceDumpError(f"{printable(folder)} is no bundle: {'; '.join(strange[:5])}")


def check_files(bundle: Bundle, known: Collection[str]) -> None:
    """Hold every file against `SHA256SUMS`; of files in `known` a problem has been noted already."""
    if _is_there(bundle, SUMS):
        bundle.problems += check_sums(bundle.folder, known)


def check_attestation(bundle: Bundle) -> None:
    """The attestation must be the one that the bundle's data give."""
    if not _is_there(bundle, ATTESTATION):
        return
    path = bundle.folder / ATTESTATION
    if path.stat().st_size > _ATTESTATION_BYTES_AT_MOST:
        bundle.problems.append(f"{ATTESTATION} is larger than {_ATTESTATION_BYTES_AT_MOST >> 20} MiB")
        return
    expected = statement_of((bundle.folder / INDEX).read_bytes(), lambda name: bundle.path(name).read_bytes())
    if problem := difference(path.read_bytes(), expected):
        bundle.problems.append(problem)


def check_signature(bundle: Bundle, public_key: Path | None) -> None:
    """Note whether there is a signature, and with a key whether it holds for every file of the bundle.

    Raises:
        InputError: the key cannot be used, or the extra `sign` is missing.
    """
    if (bundle.folder / SIGNATURE).exists():
        bundle.signature = "not checked"
    if public_key is None:
        return
    expected = {INDEX, SUMS, ATTESTATION, *bundle.index.files} - set(bundle.missing_seals)
    problems = signature_problems(bundle.folder, public_key, expected)
    if bundle.signature != "absent":
        bundle.signature = "invalid" if problems else "valid"
    bundle.problems += problems


def _is_there(bundle: Bundle, name: str) -> bool:
    """Whether a seal is there; its absence is a problem, except in bundles of the first form."""
    if (bundle.folder / name).exists():
        return True
    if bundle.index.schema_ == FIRST_SCHEMA:
        bundle.missing_seals.append(name)
    else:
        bundle.problems.append(f"{name} is missing")
    return False
