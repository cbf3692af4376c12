"""Proof bundles: folders of data that anyone can check again, written whole or not at all.

`proof_bundle/<kind>/<run_id>/` holds data (JSON, NDJSON, npz), pictures, a `summary.md` for people, and `bundle.json`,
which says what the bundle is and keeps the hash of every other file. Every file says that it is generated. Beside
them stand `attestation.json` and `SHA256SUMS`, for those who check a bundle with tools of their own, and the signature
where one was asked for.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from llorch.errors import ReferenceDumpError
from llorch.validation.attestation import ATTESTATION
from llorch.validation.records import HashedFile, R, Record, parse_record, read_record
from llorch.validation.sums import SIGNATURE, SUMS

Kind = Literal["loading", "checkpoint", "performance"]
INDEX = "bundle.json"
SEALS = (ATTESTATION, SUMS, SIGNATURE)
"""Files of a bundle that `bundle.json` does not list, because they follow from it."""
FIRST_SCHEMA, SCHEMA = "llorch-proof/1", "llorch-proof/2"
"""Bundles of the first form may lack the seals, and do not say what hardware and package they are of."""
DIRECTORY_VARIABLE = "LLORCH_PROOF_DIR"
_INDEX_BYTES_AT_MOST = 16 << 20


def _plain_name(name: str) -> str:
    if Path(name).name != name or name in ("", ".", "..", INDEX, *SEALS):
        raise ValueError("the name of a file in the bundle")
    return name


class BundleIndex(Record, extra="allow"):
    """`bundle.json`, as far as every kind has it; `passed` is None when the bundle judges nothing."""

    schema_: Literal["llorch-proof/1", "llorch-proof/2"] = Field(alias="schema")
    kind: Kind
    created: str | None = None
    passed: bool | None = None
    files: dict[Annotated[str, AfterValidator(_plain_name)], HashedFile]


@dataclass(slots=True)
class Bundle:
    """An opened bundle, and what was found wrong with it.

    Attributes:
        problems: sentences; none when everything holds.
        n_recomputed: verdicts computed anew.
        n_from_rows: those of them for which only the deciding rows were kept.
        missing_seals: of the attestation and the sums, what a bundle of the first form lacks.
        signature: ``"absent"``, ``"not checked"``, ``"valid"`` or ``"invalid"``.
    """

    folder: Path
    index: BundleIndex
    problems: list[str] = field(default_factory=list)
    n_recomputed: int = 0
    n_from_rows: int = 0
    missing_seals: list[str] = field(default_factory=list)
    signature: Literal["absent", "not checked", "valid", "invalid"] = "absent"

    @property
    def missing(self) -> list[str]:
        """What newer bundles have and this one lacks, in words."""
        is_older = self.index.schema_ == FIRST_SCHEMA
        return [
            *self.missing_seals,
            *(["record of the hardware and of the packages' hashes"] if is_older else []),
        ]

    @classmethod
    def open(cls, folder: Path) -> Bundle:
        """Read the index; no other file is looked at yet."""
        return cls(folder, read_record(BundleIndex, folder / INDEX, _INDEX_BYTES_AT_MOST))

    def require(self, holds: bool, problem: str) -> None:
        """Note a problem unless something holds."""
        if not holds:
            self.problems.append(problem)

    def path(self, name: str) -> Path:
        """A file that the index lists."""
        if name not in self.index.files:
            raise ReferenceDumpError(f"{self.folder / INDEX}: {name} is not among the files")
        return self.folder / name

    def record(self, name: str, model: type[R]) -> R:
        """A JSON file."""
        return parse_record(model, self.path(name).read_bytes(), str(self.folder / name))

    def rows(self, name: str, model: type[R]) -> list[R]:
        """The objects of an NDJSON file, without its mark."""
        lines, where = self.path(name).read_bytes().splitlines()[1:], self.folder / name
        return [parse_record(model, line, f"{where}: line {number}") for number, line in enumerate(lines, 2)]


def proof_folder(directory: Path | None = None) -> Path:
    """The folder of all bundles: `directory`, else `$LLORCH_PROOF_DIR`, else ``proof_bundle``."""
    return directory or Path(os.environ.get(DIRECTORY_VARIABLE) or "proof_bundle")
