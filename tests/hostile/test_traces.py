"""`llorch trace` where it cannot work: places, signals, prompts, and steps that are too many."""

from __future__ import annotations

import os
import signal
import subprocess
from functools import partial
from pathlib import Path

import pytest

from llorch.cli.main import main
from llorch.engine.engine import open_configured
from llorch.engine.params import SamplingParams
from llorch.engine.request import Request
from llorch.settings import Settings
from llorch.trace.traced_run import record_run
from tests.support.commands import LLORCH, namespace, refused_here, start, wait_for

Captured = pytest.CaptureFixture[str]


def refused(capsys: Captured, *words: object) -> str:
    return refused_here(capsys, "trace", *words)


def test_places_that_no_file_can_take_are_refused_before_the_model_is_loaded(
    tiny_model: Path, tmp_path: Path, capsys: Captured
) -> None:
    for place, reason in (
        ("-", "the timeline goes into a file"),
        (tmp_path, "is no regular file"),
        ("/dev/null", "is no regular file"),
        (tmp_path / "none" / "t.json", "there is no folder"),
        (tiny_model, "is the file that is read"),
        ("a\0b", "is not a usable path"),
    ):
        assert reason in refused(capsys, "Once", "-m", tiny_model, "-o", place), place
    assert "there is no folder" in refused(capsys, "Once", "-m", tmp_path / "no.gguf", "-o", "/no/t.json")


def test_a_folder_that_is_read_only_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    script = 'mount -t tmpfs -o ro none "$0" && "$@"'
    words = ["trace", "Once", "-m", str(tiny_model), "-o", str(tmp_path / "t.json")]
    done = subprocess.run(
        [*namespace("--map-root-user", "--mount"), "sh", "-c", script, str(tmp_path), *LLORCH, *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "cannot be written to" in done.stderr


def test_a_full_disk_leaves_the_old_file_alone(tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "t.json"
    out.write_bytes(b"old")
    words = ["trace", "Once", "-m", str(tiny_model), "-n", "3", "-o", str(out)]
    done = subprocess.run(
        ["sh", "-c", 'ulimit -f 8; "$@"', "sh", *LLORCH, *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert "cannot be written there: File too large" in done.stderr.splitlines()[-1]
    assert os.listdir(tmp_path) == ["t.json"]
    assert out.read_bytes() == b"old"


def test_an_interrupted_trace_leaves_the_old_file_alone(long_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "t.json"
    out.write_bytes(b"old")
    words = ["trace", "Once", "-m", str(long_model), "-n", "60000", "-o", str(out)]
    with start(*words) as process:
        wait_for(lambda: long_model.name in Path(f"/proc/{process.pid}/maps").read_text())
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 128 + signal.SIGINT
        assert process.stdout is not None
        assert process.stdout.read() == b""
    assert os.listdir(tmp_path) == ["t.json"]
    assert out.read_bytes() == b"old"


def test_a_prompt_that_fills_the_context_is_refused_with_both_sizes(
    tiny_model: Path, tmp_path: Path, capsys: Captured
) -> None:
    prompt = "word " * 400
    line = refused(capsys, prompt, "-m", tiny_model, "-c", "64", "-o", tmp_path / "t.json")
    assert "64" in line
    assert "word" not in line
    assert os.listdir(tmp_path) == []


def test_what_is_no_number_of_runs_or_tokens_is_refused(
    tiny_model: Path, tmp_path: Path, capsys: Captured
) -> None:
    out = ("-m", tiny_model, "-o", tmp_path / "t.json")
    assert "--warm: expected 0 or more runs, got -1" in refused(capsys, "Once", *out, "--warm", "-1")
    assert "n_predict >= 1, or -1, got 0" in refused(capsys, "Once", *out, "-n", "0")
    assert "the prompt is empty" in refused(capsys, "", *out)
    assert os.listdir(tmp_path) == []


def test_steps_that_are_too_many_are_left_out_and_the_run_ends_as_usual(tiny_model: Path) -> None:
    request = Request("a", (5, 6, 7), SamplingParams(temperature=0), 12, ignore_eos=True)
    with open_configured(Settings(model=str(tiny_model), threads=1)) as loaded:
        size = len(loaded.llama.labels) * 16 + 128  # whole cache lines, and a head
        traced = record_run(loaded, Settings(ctx_size=64), request, n_warm=0, max_bytes=4 * size + 64)
    assert (len(traced.recording.steps), traced.recording.n_dropped) == (4, 8)
    assert traced.end.usage.completion_tokens == 12


def test_steps_that_are_left_out_are_said(
    tiny_model: Path, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llorch.cli.trace.record_run", partial(record_run, max_bytes=100))
    assert (
        main(["trace", "Once", "-m", str(tiny_model), "-t", "1", "-o", str(tmp_path / "t.json"), "-n", "30"])
        == 0
    )
    log = capsys.readouterr().err
    assert "later steps are not in it" in log
