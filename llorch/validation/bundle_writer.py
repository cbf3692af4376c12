"""Writing proof bundles: whole or not at all, and never over another.

Several processes may write into one folder, also from several containers or machines: each writes under a name of its
own, and the move to the final name decides who has it.
"""

from __future__ import annotations

import errno
import hashlib
import io
import itertools
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from llorch.environment import environment, git_state
from llorch.errors import InputError
from llorch.formats.printed import printable
from llorch.machine.hardware import hardware
from llorch.validation.attestation import ATTESTATION, statement_bytes, statement_of
from llorch.validation.bundle import DIRECTORY_VARIABLE, INDEX, SCHEMA, Kind, proof_folder
from llorch.validation.not_proven import not_proven
from llorch.validation.package_digest import own_package
from llorch.validation.sums import SUMS, sums_of
from llorch.version import __version__

GENERATED_BY = f"llorch {__version__}; generated, do not edit"
RUN_ID_VARIABLE = "LLORCH_RUN_ID"
_SURROGATE = re.compile("[\ud800-\udfff]")
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_TAKEN = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR)
"""How moving a folder to a name fails that a bundle, or a file, has."""

Content: TypeAlias = bytes | Callable[[str], bytes]
"""What is in a file, or what makes it of the run id."""


class BundleWriter:
    """Collects the files of one bundle in memory and writes them together, to `folder`.

    Attributes:
        kind: what it proves.
        run_id: name of the folder. Another process may take it before `write` does: then both change.
        folder: where the bundle goes.
    """

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
            InputError: the run id is no plain name, or one was given and there is such a bundle already, or none can
                be written.
        """
        if kind not in get_args(Kind):
            raise ValueError(f"a bundle's kind is one of {', '.join(get_args(Kind))}, got {kind!r}")
        self.kind = kind
        self._sign = sign
        given = run_id or os.environ.get(RUN_ID_VARIABLE)
        self.run_id = given or new_run_id()
        if not _RUN_ID.fullmatch(self.run_id):
            raise InputError(
                f"{RUN_ID_VARIABLE} {self.run_id!r}: expected letters, digits, '.', '_' and '-', at most 100"
            )
        self._wanted_id = self.run_id
        self.folder = proof_folder(directory) / kind / self.run_id
        if given and os.path.lexists(self.folder):
            raise InputError(f"{printable(self.folder)} exists already; choose another {RUN_ID_VARIABLE}")
        self._take_free_id()
        existing = next(parent for parent in self.folder.absolute().parents if parent.exists())
        if not existing.is_dir() or not os.access(
            existing, os.W_OK | os.X_OK
        ):  # better said now than when all is computed
            raise InputError(
                f"the proof bundle {printable(self.folder)} cannot be written into {printable(existing)}; "
                f"--proof-dir or {DIRECTORY_VARIABLE} names another folder"
            )
        self._files: dict[str, Content] = {}

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

    def add_png(self, name: str, content: Content) -> None:
        """Add a picture that bears the mark (see `llorch.bench.plots`), or what draws it given the run id."""
        self._files[name] = content

    def add_summary(self, markdown: str | Callable[[str], str]) -> None:
        """Add the page for people, or what writes it given the run id; what such a bundle does not prove is added."""

        def page(run_id: str) -> bytes:
            written = markdown if isinstance(markdown, str) else markdown(run_id)
            text = f"<!-- {GENERATED_BY} -->\n\n{written}\n{not_proven(self.kind)}"
            return text.encode("utf-8", "backslashreplace")

        self._files["summary.md"] = page

    def write(self, about: Mapping[str, Any], passed: bool | None, command: str) -> Path:
        """Write the folder, all of it or nothing.

        Where another process has written a bundle of this run id meanwhile, both are kept: this one gets the first
        free name of ``<run_id>-2``, ``<run_id>-3``, ...

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
        facts = {
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": command,
            "passed": passed,
            "environment": here,
            "package": own_package(here["commit"]),
            "hardware": hardware(),
            **about,
        }
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            while not self._is_placed(facts):
                self._take_free_id()
        except OSError as error:
            reason = error.strerror or error
            raise InputError(
                f"{printable(self.folder)}: the bundle cannot be written there: {reason}"
            ) from error
        return self.folder

    def _is_placed(self, facts: Mapping[str, Any]) -> bool:
        """Write all files beside `folder` and move them there at once; False where the name is taken."""
        partial = Path(tempfile.mkdtemp(dir=self.folder.parent, prefix=f".{self.run_id}.partial-"))
        try:
            inner = partial / self.run_id  # the signature names its folder
            inner.mkdir()
            for name, content in self._contents(facts).items():
                (inner / name).write_bytes(content)
            if self._sign is not None:
                self._sign(inner)
            try:
                inner.rename(self.folder)  # replaces an empty folder, and nothing else
            except OSError as error:
                if error.errno not in _TAKEN or not os.path.lexists(self.folder):
                    raise
                return False
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return True

    def _contents(self, facts: Mapping[str, Any]) -> dict[str, bytes]:
        """All files of the bundle, as they are under the present run id."""
        files = {
            name: content if isinstance(content, bytes) else content(self.run_id)
            for name, content in self._files.items()
        }
        index = {
            "generated_by": GENERATED_BY,
            "schema": SCHEMA,
            "kind": self.kind,
            "run_id": self.run_id,
            **facts,
            "files": {
                name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
                for name, content in sorted(files.items())
            },
        }
        files[INDEX] = _json_bytes(index)
        files[ATTESTATION] = statement_bytes(statement_of(files[INDEX], files.__getitem__))
        files[SUMS] = sums_of(files)
        return files

    def _take_free_id(self) -> None:
        """Keep the wanted run id if nothing has its name, else number it."""
        numbered = (f"{self._wanted_id}-{n}" for n in itertools.count(2))
        for run_id in itertools.chain([self._wanted_id], numbered):
            self.run_id, self.folder = run_id, self.folder.with_name(run_id)
            if not os.path.lexists(self.folder):
                return


def new_run_id() -> str:
    """``YYYYMMDD-HHMMSS-<commit>`` in UTC; outside a git checkout the version stands for the commit."""
    commit = git_state()["commit"]
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{commit[:8] if commit else f'v{__version__}'}"


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of a summary."""
    lines = [" | ".join(cell.replace("|", "\\|") for cell in row) for row in (head, *rows)]
    return "\n".join([f"| {lines[0]} |", f"|{'---|' * len(head)}", *(f"| {line} |" for line in lines[1:])])


def _json_bytes(document: Mapping[str, Any]) -> bytes:
    return _json_encoded(json.dumps(document, ensure_ascii=False, indent=1, allow_nan=False) + "\n")


def _json_encoded(text: str) -> bytes:
    """JSON as UTF-8; lone surrogates, of names of files that are not UTF-8, are spelled out as in the summary."""
    return _SURROGATE.sub(lambda found: rf"\\u{ord(found[0]):04x}", text).encode()
