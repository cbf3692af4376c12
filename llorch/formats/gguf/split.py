"""Models split over several files, `name-00001-of-000NN.gguf`, as llama.cpp's `gguf-split` writes them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from llorch.errors import GGUFError
from llorch.formats.printed import printable, quote

if TYPE_CHECKING:
    from llorch.formats.gguf.file import GGUFFile

PART_NAME = re.compile(r"(?P<stem>.*)-(?P<number>[0-9]{5})-of-(?P<count>[0-9]{5})\.gguf", re.DOTALL)


def open_other_parts(first: GGUFFile) -> Iterator[GGUFFile]:
    """Open the other files of a split model, one after the other; none if `first` is whole or not the first part.

    The caller closes those that it was given, also if it gets an error in place of a further one.

    Raises:
        GGUFError: a file is malformed, a part is missing or belongs to another model, or the file that was opened is
            not the first part.
    """
    n_parts = 1
    if not first.part_index and "split.count" in first.metadata:
        n_parts = _split_number(first, "split.count")
    if n_parts <= 1:
        return
    stem = _stem(first, n_parts)
    parts = [first]
    for index in range(1, n_parts):
        path = first.path.with_name(f"{stem}-{index + 1:05}-of-{n_parts:05}.gguf")
        parts.append(_open_part(path, index, n_parts, first))
        yield parts[-1]
    _check_tensors(parts)


def _stem(first: GGUFFile, n_parts: int) -> str:
    """What the names of all parts begin with."""
    match = PART_NAME.fullmatch(first.path.name)
    if match is None or int(match["count"]) != n_parts:
        raise _error(
            first,
            f"is one of {n_parts} parts of a split model, so its name must end in "
            f"-00001-of-{n_parts:05}.gguf and the other parts must lie beside it",
        )
    number = _split_number(first, "split.no")
    if number != 0:
        first_name = printable(Path(f"{match['stem']}-00001-of-{n_parts:05}.gguf"))
        raise _error(first, f"is part {number + 1} of {n_parts} of a model; open the first, {first_name}")
    if int(match["number"]) != 1:
        raise _error(first, f"is the first part by its metadata, but part {int(match['number'])} by its name")
    return match["stem"]


def _open_part(path: Path, index: int, n_parts: int, first: GGUFFile) -> GGUFFile:
    try:
        part = type(first)(path, index)
    except GGUFError as error:
        raise GGUFError(f"{error} (part {index + 1} of {n_parts} of {printable(first.path)})") from error
    try:
        for key, expected in (("split.no", index), ("split.count", n_parts)):
            found = _split_number(part, key)
            if found != expected:
                raise _error(part, f"metadata key '{key}' is {found}; {expected} was expected from its name")
    except BaseException:
        part.close()
        raise
    return part


def _check_tensors(parts: list[GGUFFile]) -> None:
    first = parts[0]
    owner: dict[str, GGUFFile] = {}
    for part in parts:
        for info in part.own_infos:
            if info.name in owner:
                raise _error(part, f"tensor {quote(info.name)} is also in {printable(owner[info.name].path)}")
            owner[info.name] = part
    expected = _split_number(first, "split.tensors.count")
    if len(owner) != expected:
        raise _error(
            first,
            f"metadata key 'split.tensors.count' is {expected}, but the parts hold {len(owner)} tensors",
        )


def _split_number(part: GGUFFile, key: str) -> int:
    if key not in part.metadata:
        raise _error(part, f"metadata key '{key}' is missing, though this is a part of a split model")
    value = part.metadata.integer(key)
    if value is None or value < 0:
        raise _error(part, f"metadata key '{key}' must be a whole number from 0 up")
    return value


def _error(part: GGUFFile, message: str) -> GGUFError:
    return GGUFError(f"{printable(part.path)}: {message}")
