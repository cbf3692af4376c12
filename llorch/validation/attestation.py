"""`attestation.json`: what a bundle says, as an in-toto Statement with a test-result predicate.

It follows from the bundle's other files alone, so that the verifier makes it again and compares. Each part of
``configuration`` carries its JSON in base64 and the hash of just that, so that `base64 -d | sha256sum` checks it.

Source: https://github.com/in-toto/attestation, spec/v1/statement.md and spec/predicates/test-result.md.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import Field

from llorch.validation.records import Record, Sha256, parse_record

ATTESTATION = "attestation.json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://in-toto.io/attestation/test-result/v0.1"
FIGURES_FOLLOW = "every median, extreme and ratio follows from the runs"
"""The only test of a `performance` bundle: it judges no speed."""
DIR_HASH_OF = "the files below the package's folder, llorch/, without compiled modules"

Descriptor = dict[str, Any]


class _Model(Record):
    file: str
    sha256: Sha256


class _Package(Record):
    version: str
    dir_hash: Sha256
    source: str
    archive_sha256: Sha256 | None = None


class _Environment(Record):
    llorch: str
    commit: str | None = None
    is_modified: bool | None = None


class _Index(Record):
    """What `bundle.json` says of models and of llorch; `package` is absent in bundles of the first form."""

    kind: str
    model: _Model | None = None
    models: tuple[_Model, ...] = ()
    package: _Package | None = None
    environment: _Environment
    passed: bool | None = None


class _Row(Record):
    number: str
    title: str
    verdict: str


class _Reference(Record):
    manifest_sha256: Sha256
    prompt_token_ids: tuple[int, ...]
    identity: dict[str, Any]
    settings: dict[str, Any]


class _Profile(Record):
    label: str
    rows: tuple[_Row, ...]
    reference: _Reference


class _Checkpoints(Record):
    profiles: tuple[_Profile, ...]
    tolerances: list[dict[str, Any]]
    whole_layer: dict[str, Any]


class _Check(Record):
    name: str
    passed: bool


class _Loading(Record):
    checks: tuple[_Check, ...]


class _Verdicts(Record):
    """Names of tests by what became of them."""

    passed: list[str] = Field(default_factory=list)
    warned: list[str] = Field(default_factory=list)
    failed: list[str] = Field(default_factory=list)

    @property
    def result(self) -> str:
        return "FAILED" if self.failed else "WARNED" if self.warned else "PASSED"


def statement_of(index: bytes, read: Callable[[str], bytes]) -> dict[str, Any]:
    """The statement about a bundle.

    Args:
        index: the content of `bundle.json`.
        read: gives the content of another file of the bundle.

    Raises:
        ReferenceDumpError: a file does not hold what a bundle of its kind holds.
    """
    about = parse_record(_Index, index, "bundle.json")
    configuration = [_described("environment", json.loads(index)["environment"])]
    if about.kind == "checkpoint":
        document = parse_record(_Checkpoints, read("checkpoints.json"), "checkpoints.json")
        verdicts = _of_checkpoints(document)
        tolerances = {"checkpoints": document.tolerances, "whole_layer": document.whole_layer}
        configuration.append(_described("tolerances", tolerances))
        for profile in document.profiles:
            configuration += _reference(profile)
    elif about.kind == "loading":
        loading = parse_record(_Loading, read("loading.json"), "loading.json")
        verdicts = _Verdicts(
            passed=[check.name for check in loading.checks if check.passed],
            failed=[check.name for check in loading.checks if not check.passed],
        )
    else:
        verdicts = _Verdicts(passed=[FIGURES_FOLLOW])
    return {
        "_type": STATEMENT_TYPE,
        "subject": [*_models(about), *_llorch(about)],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "result": verdicts.result,
            "configuration": configuration,
            "passedTests": verdicts.passed,
            "warnedTests": verdicts.warned,
            "failedTests": verdicts.failed,
        },
    }


def statement_bytes(statement: Mapping[str, Any]) -> bytes:
    """The statement as `attestation.json` holds it."""
    return (json.dumps(statement, ensure_ascii=True, indent=1, allow_nan=False) + "\n").encode()


def difference(found: bytes, expected: Mapping[str, Any]) -> str | None:
    """The first part of an `attestation.json` that the bundle does not give, as a problem; None when all follow."""
    if found == statement_bytes(expected):
        return None
    try:
        document = json.loads(found)
    except (ValueError, RecursionError):
        return f"{ATTESTATION} is no JSON"
    parts = [(key, expected[key], _part(document, key)) for key in expected if key != "predicate"]
    predicate = _part(document, "predicate")
    parts += [(key, value, _part(predicate, key)) for key, value in expected["predicate"].items()]
    wrong = [key for key, value, says in parts if says != value]
    what = f"its {wrong[0]} does not" if wrong else "all that it says beside does not"
    return f"{ATTESTATION} does not follow from the bundle: {what}"


def _part(document: object, key: str) -> object:
    return document.get(key) if isinstance(document, dict) else None


def _of_checkpoints(document: _Checkpoints) -> _Verdicts:
    """Each checkpoint of each profile once, by the worse of its two ways; one that was not reached is a warning."""
    verdicts = _Verdicts()
    lists = {"pass": verdicts.passed, "skipped": verdicts.warned, "fail": verdicts.failed}
    for profile in document.profiles:
        found: dict[str, set[str]] = {}
        for row in profile.rows:
            found.setdefault(f"{profile.label}: {row.number} {row.title}", set()).add(row.verdict)
        for name, ways in found.items():
            worst = next((verdict for verdict in ("fail", "skipped") if verdict in ways), "pass")
            lists[worst].append(name)
    return verdicts


def _reference(profile: _Profile) -> list[Descriptor]:
    reference = profile.reference
    build = {"identity": reference.identity, "settings": reference.settings}
    manifest = {
        "name": f"{profile.label}: manifest of the reference",
        "digest": {"sha256": reference.manifest_sha256},
    }
    return [
        manifest,
        _described(f"{profile.label}: build of the reference", build),
        _described(f"{profile.label}: ids of the prompt", list(reference.prompt_token_ids)),
    ]


def _described(name: str, document: object) -> Descriptor:
    """A ResourceDescriptor of a piece of JSON, which it holds."""
    content = json.dumps(document, ensure_ascii=True, sort_keys=True, separators=(",", ":")).encode()
    return {
        "name": name,
        "digest": {"sha256": hashlib.sha256(content).hexdigest()},
        "content": base64.b64encode(content).decode(),
        "mediaType": "application/json",
    }


def _models(about: _Index) -> list[Descriptor]:
    models = (about.model,) if about.model else about.models
    return [{"name": model.file, "digest": {"sha256": model.sha256}} for model in models]


def _llorch(about: _Index) -> list[Descriptor]:
    """llorch by the hash of its files and of the archive it came in; and by its commit where nothing was modified.

    None at all where nothing of that is known: a subject without a digest is none.
    """
    package, here = about.package, about.environment
    digest: dict[str, str] = {}
    if package is not None:
        digest["dirHash"] = package.dir_hash
        if package.archive_sha256:
            digest["sha256"] = package.archive_sha256
    if here.commit and here.is_modified is False:
        digest["gitCommit"] = here.commit
    annotations: dict[str, Any] = {"is_modified": here.is_modified}
    if package is not None:
        annotations |= {"source": package.source, "dirHash": DIR_HASH_OF}
    return [{"name": f"llorch {here.llorch}", "digest": digest, "annotations": annotations}] if digest else []
