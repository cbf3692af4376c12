"""What a report needs of a proof bundle; it is re-checked first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from llorch.report.compared import Compared
from llorch.validation.bundle import Bundle
from llorch.validation.checkpoint_bundle import CHECKPOINTS_FILE
from llorch.validation.checkpoints import TableRow
from llorch.validation.findings import StageResult
from llorch.validation.loading_bundle import LOADING_FILE, LoadingCheck
from llorch.validation.performance_checks import ENGINES_FILE, SERVERS_FILE
from llorch.validation.records import Record
from llorch.validation.verify import verify

ROWS_AT_MOST = 1000


@dataclass(frozen=True, slots=True)
class Table:
    """A table of a page."""

    caption: str
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    numbers: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class BundleFigures:
    """A bundle, re-checked.

    Attributes:
        bundle: the opened bundle and what does not follow in it.
        compared: results against each reference of a checkpoint bundle.
        tables: figures of the other kinds.
    """

    bundle: Bundle
    compared: list[Compared] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)

    def about(self, name: str) -> dict[str, Any]:
        """An object of the index, empty where it is none."""
        found = (self.bundle.index.model_extra or {}).get(name)
        return found if isinstance(found, dict) else {}

    @property
    def model_sha256(self) -> str | None:
        """Hash of the model that it is about, if it is about one."""
        found = self.about("model").get("sha256")
        return found if isinstance(found, str) else None


def read_bundle(folder: Path) -> BundleFigures:
    """Re-check a bundle and read it.

    Raises:
        ReferenceDumpError: it is none, or cannot be read as one.
    """
    figures = BundleFigures(verify(folder))
    bundle = figures.bundle
    if bundle.index.kind == "checkpoint":
        figures.compared.extend(_compared(bundle))
    else:
        figures.tables.append(_table(bundle))
    return figures


def _table(bundle: Bundle) -> Table:
    """The figures of a bundle that is not about checkpoints."""
    if bundle.index.kind == "loading":
        checks = bundle.record(LOADING_FILE, _Loading).checks
        verdicts = [(check.name, "holds" if check.passed else "DOES NOT HOLD") for check in checks]
        return Table("What was checked while the file was read", ("check", "verdict"), verdicts)
    if SERVERS_FILE in bundle.index.files:
        rows = islice(_server_rows(bundle.record(SERVERS_FILE, _Servers)), ROWS_AT_MOST)
        return Table("Servers under load", ("model", "load", "figure", "server", "median"), list(rows), (4,))
    rows = islice(_engine_rows(bundle.record(ENGINES_FILE, _Engines)), ROWS_AT_MOST)
    head = ("model", "test", "engine", "tokens/s", "least", "most", "runs")
    return Table("Engines in tests of speed", head, list(rows), (3, 4, 5, 6))


class _Sizes(Record):
    n_layer: Annotated[int, Field(ge=1, le=4096)]


class _Reference(Record):
    sizes: _Sizes
    layers: tuple[int, ...]
    identity: dict[str, Any] = Field(default_factory=dict)


class _Profile(Record):
    label: str
    passed: bool
    reference: _Reference
    rows: tuple[TableRow, ...]


class _Checkpoints(Record):
    profiles: tuple[_Profile, ...]


def _compared(bundle: Bundle) -> Iterator[Compared]:
    for profile in bundle.record(CHECKPOINTS_FILE, _Checkpoints).profiles:
        reference = profile.reference
        yield Compared.from_results(
            profile.label,
            " ".join(
                str(reference.identity[key])
                for key in ("program", "version", "commit")
                if key in reference.identity
            ),
            profile.passed,
            reference.sizes.n_layer,
            reference.layers,
            profile.rows,
            bundle.rows(f"checks-{profile.label}.ndjson", StageResult),
        )


class _Loading(Record):
    checks: tuple[LoadingCheck, ...]


class _Case(Record):
    model: dict[str, Any]
    test: str
    engines: dict[str, dict[str, Any]]


class _Engines(Record):
    cases: tuple[_Case, ...]


def _engine_rows(document: _Engines) -> Iterator[tuple[str, ...]]:
    for case in document.cases:
        for engine, found in case.engines.items():
            figures = (_number(found.get(name)) for name in ("median", "min", "max", "n"))
            yield str(case.model.get("file", "")), case.test, engine, *figures


class _Load(Record):
    model: str
    load: str
    servers: dict[str, dict[str, float]]


class _Servers(Record):
    medians: tuple[_Load, ...]


def _server_rows(document: _Servers) -> Iterator[tuple[str, ...]]:
    for case in document.medians:
        names = dict.fromkeys(name for figures in case.servers.values() for name in figures)
        for name in names:
            for server, figures in case.servers.items():
                if name in figures:
                    yield case.model, case.load, name, server, _number(figures[name])


def _number(value: Any) -> str:
    if not isinstance(value, int | float):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
