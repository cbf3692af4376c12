"""Files that a model's own files name: they lie beside them, whatever the name or a link says."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from llorch.errors import ModelError
from llorch.formats.printed import printable, quote


def file_inside(directory: Path, name: str, said_by: str, error: type[ModelError] = ModelError) -> Path:
    """The file called `name` in a directory.

    A link is followed if it stays inside the directory, or leads where the cache of Hugging Face's hub keeps the
    contents of a snapshot: from ``snapshots/<commit>/`` to ``blobs/``.

    Args:
        directory: of the model.
        name: as a file of the model says it, with ``/`` between folders.
        said_by: which file, for errors.
        error: what is raised.

    Raises:
        ModelError: of the type `error`; the name or a link leads out of the directory, or there is no such file.
    """
    pure = PurePosixPath(name)
    if (
        not name
        or pure.is_absolute()
        or ".." in pure.parts
        or any(character in name for character in "\0\\:")
        or len(name) > 1024
    ):
        raise error(f"{said_by}: names the file {quote(name)}, which is not one inside its directory")
    path = directory / pure
    try:
        found, home = path.resolve(strict=True), directory.resolve(strict=True)
    except (OSError, RuntimeError, ValueError):  # the latter two: links in a circle, half a surrogate pair
        raise error(
            f"{said_by}: names the file {quote(name)}, which is missing in {printable(directory)}"
        ) from None
    if not (found.is_relative_to(home) or _is_blob(found, home)):
        raise error(
            f"{said_by}: names the file {quote(name)}, a link to {printable(found)} outside its directory"
        )
    return path


def _is_blob(found: Path, home: Path) -> bool:
    """Whether `found` is content that the hub's cache keeps for the snapshot in `home`."""
    cache = next((folder.parent for folder in (home, *home.parents) if folder.name == "snapshots"), None)
    return cache is not None and found.parent == cache / "blobs"
