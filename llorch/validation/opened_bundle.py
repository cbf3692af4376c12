"""An opened proof bundle: its index and files, and what a check finds wrong with them."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llorch.errors import ReferenceDumpError
from llorch.validation.bundle import INDEX


@dataclass(slots=True)
class Bundle:
    """An opened bundle, and what was found wrong with it.

    Attributes:
        folder: where it lies.
        index: `bundle.json`.
        problems: sentences; none when everything holds.
        n_recomputed: verdicts computed anew.
        n_from_rows: those of them for which only the deciding rows were kept.
    """

    folder: Path
    index: Mapping[str, Any]
    problems: list[str] = field(default_factory=list)
    n_recomputed: int = 0
    n_from_rows: int = 0

    @property
    def kind(self) -> str:
        """``"loading"``, ``"checkpoint"`` or ``"performance"``."""
        return str(self.index["kind"])

    def read(self, name: str) -> bytes:
        """A file that the index lists."""
        if name not in self.index["files"]:
            raise ReferenceDumpError(f"{self.folder / INDEX}: {name} is not among the files")
        return (self.folder / name).read_bytes()

    def json(self, name: str) -> dict[str, Any]:
        """A JSON object."""
        document = json.loads(self.read(name))
        if not isinstance(document, dict):
            raise ReferenceDumpError(f"{self.folder / name} holds no object")
        return document

    def rows(self, name: str) -> list[dict[str, Any]]:
        """The objects of an NDJSON file, without its mark."""
        return [json.loads(line) for line in self.read(name).decode().splitlines()][1:]

    def arrays(self, name: str) -> Callable[[str], NDArray[Any]]:
        """A function that gives an array of an npz file by name."""
        archive = zipfile.ZipFile(io.BytesIO(self.read(name)))

        def array(key: str) -> NDArray[Any]:
            with archive.open(f"{key}.npy") as member:
                values: NDArray[Any] = np.lib.format.read_array(member, allow_pickle=False)
                return values

        return array
