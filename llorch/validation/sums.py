"""`SHA256SUMS` of a bundle: written as `sha256sum` writes it, and read without belief in its names.

It lists every file of the folder but itself and the signature, by name, so that ``sha256sum -c SHA256SUMS`` checks the
content. What that command cannot see is checked here too: files that are not listed, and what is no regular file.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path

from llorch.errors import ReferenceDumpError
from llorch.formats.printed import printable
from llorch.validation.records import sha256_of_file

SUMS = "SHA256SUMS"
SIGNATURE = "model.sig"
_LINE = re.compile(r"([0-9a-f]{64})  ([A-Za-z0-9][A-Za-z0-9._-]*)")
_BYTES_AT_MOST = 1 << 20


def sums_of(files: Mapping[str, bytes]) -> bytes:
    """The content of `SHA256SUMS` for files by name, in the order of their names."""
    return _lines({name: hashlib.sha256(content).hexdigest() for name, content in files.items()})


def sums_of_folder(folder: Path) -> bytes:
    """The same for the files of a folder."""
    names = {entry.name for entry in os.scandir(folder)} - {SUMS, SIGNATURE}
    return _lines({name: sha256_of_file(folder / name) for name in names})


def _lines(digests: Mapping[str, str]) -> bytes:
    return "".join(f"{digests[name]}  {name}\n" for name in sorted(digests)).encode()


def strange_entries(folder: Path) -> list[str]:
    """A problem for everything in a bundle's folder that is no regular file; such a thing is never opened.

    Raises:
        ReferenceDumpError: the folder cannot be read.
    """
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise ReferenceDumpError(f"{printable(folder)} cannot be read: {error.strerror}") from None
    return [
        f"{printable(Path(entry.name))} is no regular file"
        for entry in entries
        if not entry.is_file(follow_symlinks=False)
    ]


def check_sums(folder: Path, known: Collection[str] = ()) -> list[str]:
    """What is wrong with the files of a bundle by its `SHA256SUMS`, each problem with the file's name.

    Args:
        folder: holds regular files only (see `strange_entries`), `SHA256SUMS` among them.
        known: files that are wrong for another reason already, which are passed over.

    Raises:
        ReferenceDumpError: `SHA256SUMS` cannot be read.
    """
    path = folder / SUMS
    try:
        if path.stat().st_size > _BYTES_AT_MOST:
            raise ReferenceDumpError(f"{printable(path)} is larger than {_BYTES_AT_MOST >> 20} MiB")
        content = path.read_bytes()
    except OSError as error:
        raise ReferenceDumpError(f"{printable(path)} cannot be read: {error.strerror}") from None
    digests, problems = _parse(content)
    if problems:
        return problems
    present = {entry.name for entry in os.scandir(folder)} - {SUMS, SIGNATURE}
    problems += [f"{name} is missing, {SUMS} lists it" for name in digests.keys() - present - set(known)]
    problems += [
        f"{printable(Path(name))} is not listed in {SUMS}" for name in present - digests.keys() - set(known)
    ]
    for name in digests.keys() & present - set(known):
        try:
            found = sha256_of_file(folder / name)
        except OSError as error:
            problems.append(f"{name} cannot be read: {error.strerror}")
            continue
        if found != digests[name]:
            problems.append(f"{name} was altered: sha256 {found[:16]}…, {SUMS} says {digests[name][:16]}…")
    return sorted(problems)


def _parse(content: bytes) -> tuple[dict[str, str], list[str]]:
    """Digests by name, and what is wrong with the lines; a line that is wrong is not believed."""
    problems: list[str] = []
    digests: dict[str, str] = {}
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return {}, [f"{SUMS} is no UTF-8"]
    if not text.endswith("\n"):
        problems.append(f"{SUMS} does not end with a line feed")
    for number, line in enumerate(text.removesuffix("\n").split("\n"), 1):
        found = _LINE.fullmatch(line)
        where = f"{SUMS}: line {number}"
        if found is None:
            problems.append(f"{where} is not '64 hex digits, two spaces, the plain name of a file'")
        elif found[2] in (SUMS, SIGNATURE):
            problems.append(f"{where} lists {found[2]}, which cannot stand there")
        elif found[2] in digests:
            problems.append(f"{where} lists {found[2]} again")
        else:
            digests[found[2]] = found[1]
    if list(digests) != sorted(digests):
        problems.append(f"{SUMS} is not in the order of the names")
    return digests, problems
