"""The picture of one block: measured, scheduled, drawn."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tools.trace import check_simulation, seed_picture

PARTS = {
    "norm", "prepare", "attn_q", "attn_k", "attn_v", "rope", "store", "scores", "softmax_maximum",
    "softmax_exponential", "softmax_normalise", "values", "attn_output", "add", "ffn_gate", "ffn_up", "swiglu",
    "ffn_down",
}  # fmt: skip


@pytest.mark.slow
def test_one_block_of_llama_is_measured_and_scheduled_on_four_engines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seed_picture, "N_RUNS", 5)
    timelines, picture = tmp_path / "block.json", tmp_path / "block.png"
    assert seed_picture.main(["-o", str(timelines), "--png", str(picture)]) == 0
    trace = json.loads(timelines.read_bytes())
    processes = [e["args"]["name"] for e in trace["traceEvents"] if e["name"] == "process_name"]
    assert [name.removeprefix("simulated: ") for name in processes] == [
        "1 engine, none", "1 engine, shared", "4 engines, operations", "4 engines, heads", "4 engines, 2 tokens",
        "4 engines, 4 tokens", "4 engines, shared",
    ]  # fmt: skip
    slices = [e for e in trace["traceEvents"] if e["ph"] == "X"]
    assert {e["name"] for e in slices} >= PARTS
    heads = {e["args"].get("part", "") for e in slices if e["name"] == "softmax_maximum"}
    assert {f"heads {i}/8" for i in range(1, 9)} <= heads
    assert picture.read_bytes().startswith(b"\x89PNG")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "5 steps on one thread: medians"
    weights = next(line for line in lines if line.strip().startswith("attn_q"))
    assert int(weights.split()[-2]) == pytest.approx(2048 * 2048 * 34 / 32, rel=0.01), "Q8_0 of D x D"


@pytest.mark.slow
def test_predictions_are_printed_for_every_pair_of_thread_counts(
    tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check_simulation.main([str(tiny_model), "-t", "1"]) == 0
    heading, row = capsys.readouterr().out.splitlines()
    assert heading.split() == [
        "threads",
        "from",
        "steps",
        "undisturbed",
        "off",
        "core",
        "predicted",
        "measured",
        "difference",
    ]
    assert row.split()[:3] == ["1", "1", "39"]


def test_what_cannot_be_measured_or_written_is_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    absent = tmp_path / "absent"
    for main, words, message in (
        (seed_picture.main, ["-o", str(absent / "block.json")], f"there is no folder {absent}"),
        (check_simulation.main, [str(absent)], str(absent)),
        (check_simulation.main, [str(absent), "-t", "two"], "invalid numbers value: 'two'"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 2
        assert message in capsys.readouterr().err.splitlines()[-1]
