"""`llorch trace --summary --plot --observed` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llorch.cli.main import main

PASSES = {"scores", "softmax_maximum", "softmax_exponential", "softmax_normalise", "values", "attend"}


def words(model: Path, folder: Path, *more: str) -> list[str]:
    return ["trace", "Once upon a time", "-m", str(model), "-n", "4", "-t", "2", "--temperature", "0",
            "-o", str(folder / "trace.json"), *more]  # fmt: skip


def seconds_in(part: dict[str, Any]) -> float:
    spent = sum(operation["seconds"] for operation in part["operations"].values())
    return float(spent + part["waiting_s"] + part["scheduling_s"] + part["calling_s"] + part["sampling_s"])


def test_the_seconds_of_a_summary_add_up_to_the_wall_time(
    real_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "trace.png"
    assert main([*words(real_model, tmp_path), "--summary", "--plot", str(picture), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    summary = document["summary"]
    named = sum(seconds_in(summary[name]) for name in ("prompt", "decode"))
    assert named + summary["between_steps_s"] == pytest.approx(summary["seconds"], rel=0.05)
    assert named == pytest.approx(sum(summary[name]["seconds"] for name in ("prompt", "decode")), rel=1e-6)
    file = json.loads((tmp_path / "trace.json").read_text())["llorch"]
    assert sum(step["seconds"] for step in file["steps"]) == pytest.approx(named, rel=1e-6)
    assert file["roofline"] == summary["roofline"]
    assert document["plot"] == str(picture)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_an_observed_trace_shows_the_passes_of_the_softmax(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words(tiny_model, tmp_path), "--observed", "--summary"]) == 0
    out = capsys.readouterr().out
    assert {line.split()[0] for line in out.splitlines() if line} > PASSES
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    slices = [e for e in events if e.get("cat") == "operation" and e["args"]["step"] == 0]
    assert {e["name"] for e in slices} > PASSES
    by_name = {e["name"]: e["args"] for e in slices}
    assert by_name["softmax_exponential"]["bytes"] > 0


def test_a_prompt_whose_scores_do_not_fit_into_memory_is_refused(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("llorch.trace.traced_run.available_memory", lambda: 1000)
    assert main([*words(tiny_model, tmp_path), "--observed"]) == 2
    assert "--batch-size" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["trace.jpg", "nowhere/trace.png", "both.png"])
def test_a_picture_that_cannot_be_is_refused_before_anything_runs(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = ["-o", str(tmp_path / "both.png"), "--plot", str(tmp_path / name)]
    assert main([*words(tmp_path / "absent.gguf", tmp_path), *both]) == 2
    assert "--plot:" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
