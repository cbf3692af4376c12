"""A `performance` bundle must say what it measured: the machine, each engine's files, each model's file and types."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated

from pydantic import Field

from llorch.errors import ReferenceDumpError
from llorch.validation.bundle import FIRST_SCHEMA, INDEX, Bundle
from llorch.validation.records import Count, Record, Sha256, parse_record

_OWN_ENGINES = {"llorch", "llorch bench"}
"""Names of llorch in runs; all others are peers."""

_Text = Annotated[str, Field(min_length=1)]


class _Cpu(Record):
    name: _Text
    architecture: _Text
    flags: list[str] | None


class _Hardware(Record):
    """None is a property that the system did not tell; a missing key is one that was not asked for."""

    cpu: _Cpu
    caches: list[dict[str, int | str | None]] | None
    logical_cpus: Count | None
    allowed_cpus: Count | None
    memory_bytes: Count | None
    governor: str | None
    kernel: _Text


class _File(Record):
    file: _Text
    sha256: Sha256
    bytes: Count


class _Package(Record):
    name: _Text
    version: _Text
    dir_hash: Sha256


class _Model(_File):
    tensor_types: Annotated[dict[str, Count], Field(min_length=1)]


class _Peer(Record):
    name: _Text
    version: str
    programs: Annotated[list[_File], Field(min_length=1)]
    packages: list[_Package]


class _Fingerprints(Record):
    hardware: _Hardware
    package: _Package
    packages: Annotated[list[_Package], Field(min_length=1)]
    models: list[_Model]
    peers: list[_Peer]


def check_fingerprints(bundle: Bundle, engines: Collection[str], models: Collection[str]) -> None:
    """Require the fingerprints of all engines and models of the runs; bundles of the first form have fewer.

    Args:
        bundle: of kind ``"performance"``.
        engines: names of all that ran.
        models: names of the files that they ran.
    """
    if bundle.index.schema_ == FIRST_SCHEMA:
        return
    try:
        found = parse_record(_Fingerprints, (bundle.folder / INDEX).read_bytes(), INDEX)
    except ReferenceDumpError as error:
        bundle.problems.append(str(error))
        return
    for kind, needed, described in (
        ("engine", set(engines) - _OWN_ENGINES, {peer.name for peer in found.peers}),
        ("model", set(models), {model.file for model in found.models}),
    ):
        for name in sorted(needed - described):
            bundle.problems.append(f"{INDEX} has no fingerprint of the {kind} {name}")
