"""Proof bundles: folders of data that anyone can check again, written whole or not at all.

`proof_bundle/<kind>/<run_id>/` holds data (JSON, NDJSON, npz), pictures, a `summary.md` for people, and `bundle.json`,
which says what the bundle is and keeps the hash of every other file. Every file says that it is generated. Beside
them stand `attestation.json` and `SHA256SUMS`, for those who check a bundle with tools of their own, and the signature
where one was asked for.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from llorch.environment import environment, git_state
from llorch.errors import InputError, ReferenceDumpError
from llorch.formats.printed import printable
from llorch.machine.hardware import hardware
from llorch.validation.attestation import ATTESTATION, statement_bytes, statement_of
from llorch.validation.not_proven import not_proven
from llorch.validation.package_digest import own_package
from llorch.validation.records import HashedFile, R, Record, parse_record, read_record
from llorch.validation.sums import SIGNATURE, SUMS, sums_of
from llorch.version import __version__

Kind = Literal["loading", "checkpoint", "performance"]
INDEX = "bundle.json"
SEALS = (ATTESTATION, SUMS, SIGNATURE)
"""Files of a bundle that `bundle.json` does not list, because they follow from it."""
FIRST_SCHEMA, SCHEMA = "llorch-proof/1", "llorch-proof/2"
"""Bundles of the first form may lack the seals, and do not say what hardware and package they are of."""
GENERATED_BY = f"llorch {__version__}; generated, do not edit"
DIRECTORY_VARIABLE = "LLORCH_PROOF_DIR"
RUN_ID_VARIABLE = "LLORCH_RUN_ID"
_INDEX_BYTES_AT_MOST = 16 << 20
_SURROGATE = re.compile("[\ud800-\udfff]")
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


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


class BundleWriter:
    """Collects the files of one bundle in memory and writes them together, to `folder`."""

    def __init__(
        self,
        kind: Kind,
        directory: Path | None = None,
        run_id: str | None = None,
        sign: Callable[[Path], None] | None = None,
    ) -> None:
        """Choose the place; nothing is written yet.

        Args:
            kind: what it proves.
            directory: the folder of all bundles; default `$LLORCH_PROOF_DIR`, else ``proof_bundle``.
            run_id: name of the bundle's folder; default `$LLORCH_RUN_ID`, else the time and the commit.
            sign: writes the signature into the folder that it is given, after all other files.

        Raises:
            InputError: the run id is no plain name, or there is such a bundle already, or none can be written.
        """
        if kind not in get_args(Kind):
            raise ValueError(f"a bundle's kind is one of {', '.join(get_args(Kind))}, got {kind!r}")
        self.kind = kind
        self._sign = sign
        self.run_id = run_id or os.environ.get(RUN_ID_VARIABLE) or new_run_id()
        if not _RUN_ID.fullmatch(self.run_id):
            raise InputError(
                f"{RUN_ID_VARIABLE} {self.run_id!r}: expected letters, digits, '.', '_' and '-', at most 100"
            )
        self.folder = proof_folder(directory) / kind / self.run_id
        if self.folder.exists():
            raise InputError(f"{printable(self.folder)} exists already; choose another {RUN_ID_VARIABLE}")
        existing = next(parent for parent in self.folder.absolute().parents if parent.exists())
        if not existing.is_dir() or not os.access(
            existing, os.W_OK | os.X_OK
        ):  # better said now than when all is computed
            raise InputError(
                f"the proof bundle {printable(self.folder)} cannot be written into {printable(existing)}; "
                f"--proof-dir or {DIRECTORY_VARIABLE} names another folder"
            )
        self._files: dict[str, bytes] = {}

    def add_json(self, name: str, document: Mapping[str, Any]) -> None:
        """Add one JSON object, marked as generated."""
        self._files[name] = _json_bytes({"generated_by": GENERATED_BY, **document})

    def add_ndjson(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add JSON objects, one per line; the first line is the mark."""
        marked = [{"generated_by": GENERATED_BY}, *rows]
        lines = (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in marked)
        self._files[name] = _json_encoded("".join(lines))

    def add_npz(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Add compressed arrays by name, and the mark as an array of its own."""
        buffer = io.BytesIO()
        marked: dict[str, NDArray[Any]] = {"generated_by": np.array(GENERATED_BY), **arrays}
        np.savez_compressed(buffer, **marked)  # type: ignore[arg-type]
        self._files[name] = buffer.getvalue()

    def add_png(self, name: str, content: bytes) -> None:
        """Add a picture that bears the mark (see `llorch.bench.plots`)."""
        self._files[name] = content

    def add_summary(self, markdown: str) -> None:
        """Add the page for people, which ends with what a bundle of this kind does not prove."""
        text = f"<!-- {GENERATED_BY} -->\n\n{markdown}\n{not_proven(self.kind)}"
        self._files["summary.md"] = text.encode("utf-8", "backslashreplace")

    def write(self, about: Mapping[str, Any], passed: bool | None, command: str) -> Path:
        """Write the folder, all of it or nothing.

        Args:
            about: what else `bundle.json` shall say (model, reference, ...).
            passed: the verdict, None when the bundle judges nothing.
            command: the command line that reproduces it.

        Returns:
            The bundle's folder.

        Raises:
            InputError: the place cannot be written, or the signature could not be made.
        """
        here = environment()
        index = {
            "generated_by": GENERATED_BY,
            "schema": SCHEMA,
            "kind": self.kind,
            "run_id": self.run_id,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": command,
            "passed": passed,
            "environment": here,
            "package": own_package(here["commit"]),
            "hardware": hardware(),
            **about,
            "files": {
                name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
                for name, content in sorted(self._files.items())
            },
        }
        files = {**self._files, INDEX: _json_bytes(index)}
        files[ATTESTATION] = statement_bytes(statement_of(files[INDEX], files.__getitem__))
        files[SUMS] = sums_of(files)
        partial = self.folder.with_name(f".{self.folder.name}.partial-{os.getpid()}")
        inner = partial / self.folder.name  # the signature names its folder
        try:
            inner.mkdir(parents=True)
            for name, content in files.items():
                (inner / name).write_bytes(content)
            if self._sign is not None:
                self._sign(inner)
            inner.rename(self.folder)
        except OSError as error:
            reason = error.strerror or error
            raise InputError(
                f"{printable(self.folder)}: the bundle cannot be written there: {reason}"
            ) from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return self.folder


def _json_bytes(document: Mapping[str, Any]) -> bytes:
    return _json_encoded(json.dumps(document, ensure_ascii=False, indent=1, allow_nan=False) + "\n")


def _json_encoded(text: str) -> bytes:
    """JSON as UTF-8; lone surrogates, of names of files that are not UTF-8, are spelled out as in the summary."""
    return _SURROGATE.sub(lambda found: rf"\\u{ord(found[0]):04x}", text).encode()


def proof_folder(directory: Path | None = None) -> Path:
    """The folder of all bundles: `directory`, else `$LLORCH_PROOF_DIR`, else ``proof_bundle``."""
    return directory or Path(os.environ.get(DIRECTORY_VARIABLE) or "proof_bundle")


def new_run_id() -> str:
    """``YYYYMMDD-HHMMSS-<commit>`` in UTC; outside a git checkout the version stands for the commit."""
    commit = git_state()["commit"]
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{commit[:8] if commit else f'v{__version__}'}"


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of a summary."""
    lines = [" | ".join(cell.replace("|", "\\|") for cell in row) for row in (head, *rows)]
    return "\n".join([f"| {lines[0]} |", f"|{'---|' * len(head)}", *(f"| {line} |" for line in lines[1:])])
