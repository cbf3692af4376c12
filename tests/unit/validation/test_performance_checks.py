"""The figures of a performance bundle must follow from its runs, for engines and for servers."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from llorch.bench.verdicts import verdict_of
from llorch.validation.bundle_writer import BundleWriter
from llorch.validation.verify import verify
from tests.conftest import REPOSITORY
from tests.support.peer_scripts import script
from tools.performance.fingerprints import llorch_packages
from tools.performance.performance_report import summarize
from tools.performance.server_report import write_bundle


def performance_bundle(
    root: Path, median: float, ratio: float, change: Callable[[dict[str, Any]], object] = bool
) -> Path:
    runs = [
        {"model": "m.gguf", "test": "tg8", "engine": engine, "tokens_per_s": speed}
        for engine, speed in (("llorch", 4.0), ("peer", 2.0), ("peer", 2.0), ("llorch", 6.0))
    ]
    engines = {
        "llorch": {"median": median, "min": 4.0, "max": 6.0, "n": 2},
        "peer": {"median": 2.0, "min": 2.0, "max": 2.0, "n": 2},
    }
    case = {"model": {"file": "m.gguf"}, "test": "tg8", "engines": engines, "peer": "peer", "ratio": ratio}
    writer = BundleWriter("performance", root, "one")
    writer.add_json("performance.json", {"cases": [case]})
    writer.add_ndjson("runs.ndjson", runs)
    program = {"file": "llama-bench", "sha256": "0" * 64, "bytes": 1}
    about: dict[str, Any] = {
        "models": [{"file": "m.gguf", "sha256": "1" * 64, "bytes": 1, "tensor_types": {"F32": 1}}],
        "peers": [{"name": "peer", "version": "1", "programs": [program], "packages": []}],
        "packages": llorch_packages(),
    }
    change(about)
    return writer.write(about, None, "python -m tools.performance.compare_peers")


@pytest.mark.parametrize(
    ("median", "ratio", "problem"), [(5.0, 2.5, None), (6.0, 2.5, "median"), (5.0, 3.0, "ratio")]
)
def test_figures_of_a_performance_bundle_must_follow_from_its_runs(
    tmp_path: Path, median: float, ratio: float, problem: str | None
) -> None:
    found = verify(performance_bundle(tmp_path, median, ratio))
    assert found.n_recomputed == 2
    assert [problem in text for text in found.problems if problem] == [True] * bool(problem)
    assert bool(found.problems) == bool(problem)


def judged_bundle(root: Path, change: dict[str, Any]) -> Path:
    """A bundle of three rounds with a verdict, of which something was changed afterwards."""
    speeds = {"llorch": [4.0, 6.0, 5.0], "slow": [1.0, 1.0, 1.0], "fast": [5.0, 6.0, 6.0]}
    shares = [0.5, 0.96, 0.97]
    runs = [
        {"model": "m.gguf", "test": "tg8", "engine": engine, "tokens_per_s": speed, "round": number}
        | ({"output": {"weight_gb_per_s": 10 * share, "read_gb_per_s": 10}} if engine == "llorch" else {})
        for engine, found in speeds.items()
        for number, (speed, share) in enumerate(zip(found, shares, strict=True), 1)
    ]
    engines = {name: summarize(found) for name, found in speeds.items()}
    by_round = {name: dict(enumerate(found, 1)) for name, found in speeds.items()}
    own = by_round.pop("llorch")
    verdict = verdict_of("tg8", own, by_round, dict(enumerate(shares, 1)))
    assert verdict is not None
    case = {
        "model": {"file": "m.gguf"},
        "test": "tg8",
        "engines": engines,
        "ratios": {"slow": {"ratio": 5.0}, "fast": {"ratio": 5 / 6}},
        "verdict": asdict(verdict) | change,
    }
    writer = BundleWriter("performance", root, "one")
    writer.add_json("performance.json", {"cases": [case]})
    writer.add_ndjson("runs.ndjson", runs)
    program = {"file": "bench", "sha256": "0" * 64, "bytes": 1}
    about: dict[str, Any] = {
        "models": [{"file": "m.gguf", "sha256": "1" * 64, "bytes": 1, "tensor_types": {"F32": 1}}],
        "peers": [
            {"name": name, "version": "1", "programs": [program], "packages": []} for name in ("slow", "fast")
        ],
        "packages": llorch_packages(),
    }
    return writer.write(about, None, "python -m tools.performance.compare_peers")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({}, None),
        ({"peer": "slow"}, "the verdict's peer is recorded as slow, the runs give fast"),
        ({"ratio": 0.9}, "the verdict's ratio is recorded as 0.9"),
        ({"most": 1.1}, "the verdict's most is recorded as 1.1, the runs give 1.0"),
        ({"upper_quartile": 1.0}, "the verdict's upper_quartile is recorded as 1.0"),
        ({"standing": "ahead"}, "the verdict's standing is recorded as ahead, the runs give behind"),
        ({"share": 0.99}, "the verdict's share is recorded as 0.99, the runs give 0.96"),
        ({"is_reached": False}, "the verdict's is_reached is recorded as False, the runs give True"),
        ({"more": 1}, "the verdict's more is recorded as 1, the runs give None"),
    ],
)
def test_a_verdict_must_follow_from_the_runs(
    tmp_path: Path, change: dict[str, Any], problem: str | None
) -> None:
    found = verify(judged_bundle(tmp_path, change))
    assert [problem in text for text in found.problems if problem] == [True] * bool(problem), found.problems
    assert bool(found.problems) == bool(problem)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda about: about.pop("models"), "models is missing"),
        (lambda about: about["models"].clear(), "no fingerprint of the model m.gguf"),
        (lambda about: about["models"][0].pop("tensor_types"), "tensor_types is missing"),
        (lambda about: about["models"][0].update(tensor_types={}), "tensor_types is {}"),
        (lambda about: about["peers"].clear(), "no fingerprint of the engine peer"),
        (lambda about: about["peers"][0]["programs"].clear(), "peers: programs is []"),
        (lambda about: about["peers"][0]["programs"][0].update(sha256="?"), "expected 64 hex digits"),
        (lambda about: about["packages"].clear(), "packages is []"),
        (lambda about: about.update(hardware={}), "hardware: cpu is missing"),
        (lambda about: about.update(package=None), "package is None"),
    ],
)
def test_a_performance_bundle_must_say_what_was_measured_on_what(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], problem: str
) -> None:
    found = verify(performance_bundle(tmp_path, 5.0, 2.5, change))
    assert [problem in text for text in found.problems] == [True], found.problems


def server_runs() -> list[dict[str, Any]]:
    """Three rounds of two servers under one load, and of the bare engine."""
    return [
        {
            "round": number,
            "model": "demo.gguf",
            "server": server,
            "load": "decode",
            "figures": {"tokens_per_s": speed + number, "gap_p50_ms": 100.0 / speed},
        }
        for number in (1, 2, 3)
        for server, speed in (("llorch", 40.0), ("llama-server", 20.0), ("llorch bench", 41.0))
    ]


def server_bundle(root: Path, monkeypatch: pytest.MonkeyPatch, runs: list[dict[str, Any]]) -> Path:
    monkeypatch.setenv("LLORCH_PROOF_DIR", str(root))
    args = argparse.Namespace(
        model=[REPOSITORY / "llorch/assets/demo.gguf"], streams=8, n_prompt=16, n_predict=8, threads=2
    )
    args.llama_server = script(root / "llama-server", "print('version: 1 (abc)')")
    return write_bundle(BundleWriter("performance"), runs, args, ["-m", "demo.gguf"])


def test_a_bundle_of_servers_under_load_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = verify(server_bundle(tmp_path, monkeypatch, server_runs()))
    assert (found.problems, found.n_recomputed) == ([], 6)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            lambda about: about["medians"][0]["servers"]["llorch"].update(tokens_per_s=80.0),
            "llorch tokens_per_s",
        ),
        (lambda about: about["medians"][0]["servers"].pop("llama-server"), "llama-server gap_p50_ms"),
        (
            lambda about: about["medians"][0]["servers"].update(other={"tokens_per_s": 1.0}),
            "other tokens_per_s",
        ),
        (lambda about: about.update(rounds_done=5), "says 5 rounds"),
    ],
)
def test_what_does_not_follow_from_the_runs_of_servers_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Any, problem: str
) -> None:
    keep = BundleWriter.add_json

    def forged(self: BundleWriter, name: str, document: dict[str, Any]) -> None:
        document = json.loads(json.dumps(document))
        change(document)
        keep(self, name, document)

    monkeypatch.setattr(BundleWriter, "add_json", forged)
    found = verify(server_bundle(tmp_path, monkeypatch, server_runs()))
    assert any(problem in text for text in found.problems), found.problems
