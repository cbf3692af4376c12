"""`llorch trace --reference`: every slice says what its tensor is like, and how far it is from llama.cpp's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llorch.cli.main import main
from llorch.conversation import Conversation
from llorch.observe.probe import Recorder
from llorch.open_model import open_model
from llorch.report.slice_truth import SliceTruth
from llorch.report.truth import truth_of
from llorch.trace.records import ChunkRecord, EngineState, StepRecord
from llorch.validation.dumps import Reference
from llorch.validation.tolerances import BY_NUMBER, stage_key
from tests.conftest import REPOSITORY
from tests.support.faults import faulty_subject, one_value_off
from tests.support.perfetto.trace_processor import loaded_trace
from tests.support.proof import GOLDEN, error_of
from tests.support.traces import TINY_MODEL, TINY_REFERENCE, operations_of


@pytest.fixture(scope="module")
def traced(tiny_trace: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(tiny_trace.read_text())
    return document


@pytest.fixture(scope="module")
def prompt_values() -> dict[str, Any]:
    """Our own tensors of the prompt, by another probe."""
    ids = Reference.load(TINY_REFERENCE).manifest.prompt.token_ids
    with open_model(TINY_MODEL, n_threads=1, kv_type="f32") as model:
        recorder = Recorder()
        Conversation(model.llama, len(ids)).feed(ids, all_rows=True, probe=recorder)
    return dict(recorder.values)


def test_every_tensor_of_the_prompt_stands_on_a_slice_with_its_statistics(
    traced: dict[str, Any], prompt_values: dict[str, Any]
) -> None:
    found = {
        stage_key(stage, operation["args"]["layer"]): statistics
        for operation in operations_of(traced)
        if operation["args"]["step"] == 0
        for stage, statistics in operation["args"].get("tensor", {}).items()
    }
    assert found.keys() == prompt_values.keys()
    for key, statistics in found.items():
        values = prompt_values[key].astype(np.float64)
        if key.split("-")[0] in ("kq", "kq_soft_max"):
            values = values[:, np.tri(*values.shape[1:], dtype=np.bool_)]
        assert tuple(statistics["shape"]) == prompt_values[key].shape
        assert statistics["min"] == values.min()
        assert statistics["max"] == values.max()
        assert statistics["mean"] == pytest.approx(values.mean(), rel=1e-9, abs=1e-12)
        assert statistics["rms"] == pytest.approx(np.sqrt((values**2).mean()), rel=1e-9)
        assert statistics["zeros"] == np.mean(values == 0)
        assert statistics["n_nan"] == statistics["n_inf"] == 0


def test_differences_end_to_end_are_those_of_our_values_and_the_dump(
    traced: dict[str, Any], prompt_values: dict[str, Any]
) -> None:
    found = {
        stage_key(stage, operation["args"]["layer"]): ways["end_to_end"]
        for operation in operations_of(traced)
        if operation["args"]["step"] == 0
        for stage, ways in operation["args"].get("difference", {}).items()
        if not stage.startswith("cache")
    }
    assert found.keys() == prompt_values.keys()
    with np.load(TINY_REFERENCE / "prefill.npz") as dump:
        for key, figures in found.items():
            ours, theirs = (v.astype(np.float64) for v in (prompt_values[key], dump[f"prefill/{key}"]))
            if key.startswith("kq-"):
                mask = np.tri(*ours.shape[1:], dtype=np.bool_)
                ours, theirs = np.where(mask, ours, 0), np.where(mask, theirs, 0)
            gap = np.abs(ours - theirs)
            assert figures["max_abs"] == gap.max()
            assert gap[tuple(figures["worst_index"])] == gap.max()
            assert figures["nmse"] == pytest.approx((gap**2).sum() / (theirs**2).sum(), rel=1e-9)


def test_stage_by_stage_names_the_tolerance_of_its_checkpoint(traced: dict[str, Any]) -> None:
    (norm, *_) = (o for o in operations_of(traced) if o["name"] == "norm" and o["args"]["layer"] == 0)
    found = norm["args"]["difference"]["attn_norm"]["stage_by_stage"]
    assert found["tolerance"] == str(BY_NUMBER["1"].tolerance)
    assert found["within"] is True
    assert found["pass"] == "prefill"


def test_both_norms_of_a_layer_carry_their_own_tensor(traced: dict[str, Any]) -> None:
    norms = [o for o in operations_of(traced) if o["name"] == "norm" and o["args"]["step"] == 0]
    assert [list(norm["args"]["tensor"]) for norm in norms] == [
        ["attn_norm"], ["ffn_norm"], ["attn_norm"], ["ffn_norm"], ["result_norm"]
    ]  # fmt: skip


def test_decode_steps_carry_the_pass_that_computed_the_same_rows(traced: dict[str, Any]) -> None:
    outputs = [o for o in operations_of(traced) if o["name"] == "output"]
    assert [next(iter(o["args"]["difference"]["result_output"].values()))["pass"] for o in outputs] == [
        "prefill",
        "decode/0",
        "decode/1",
        "decode/2",
    ]


def test_the_file_keeps_the_table_of_checkpoints(traced: dict[str, Any]) -> None:
    truth = traced["llorch"]["truth"]
    assert truth["passed"] is True
    assert {row["number"] for row in truth["rows"]} == set(BY_NUMBER)
    assert traced["llorch"]["model"]["sha256"] == truth["reference"]["model_sha256"]


def step_of(position: int, *, is_prompt: bool = False) -> StepRecord:
    chunk = ChunkRecord("a", 1, 1, position, is_prompt, 1)
    state = EngineState(1, 0, 1, 1, 0, 0)
    return StepRecord(0, (0, 1), 2, (chunk,), 1, np.zeros((1, 1, 2), np.int64), state)


def test_a_generation_that_leaves_the_reference_carries_nothing_from_there_on() -> None:
    reference = Reference.load(TINY_REFERENCE)
    with faulty_subject(TINY_MODEL, reference) as subject:
        truth, labels = truth_of(subject, reference), subject.llama.labels
    theirs = reference.manifest.greedy.token_ids
    n = len(reference.manifest.prompt.token_ids)
    other = (*theirs[:2], (theirs[2] + 1) % 300, *theirs[3:])
    slices = SliceTruth(truth, labels, other)
    assert slices.pass_of(step_of(0, is_prompt=True)) == "prefill"
    assert [slices.pass_of(step_of(n + i)) for i in range(4)] == ["decode/0", "decode/1", None, None]
    assert slices.arguments(step_of(n + 2), 1) == {}
    beyond = SliceTruth(truth, labels, theirs)
    assert beyond.pass_of(step_of(n + reference.manifest.n_decode)) is None


def test_a_planted_fault_shows_on_the_slice_of_its_operation_and_on_no_other() -> None:
    reference = Reference.load(TINY_REFERENCE)
    change = one_value_off("blk.0.ffn_down.weight")
    with faulty_subject(TINY_MODEL, reference, tensors=change) as subject:
        truth, labels = truth_of(subject, reference), subject.llama.labels
    slices = SliceTruth(truth, labels, reference.manifest.greedy.token_ids)
    step = step_of(0, is_prompt=True)
    outside = [
        (*labels[index], key)
        for index in range(len(labels))
        for key, ways in slices.arguments(step, index).get("difference", {}).items()
        if not ways["stage_by_stage"]["within"]
    ]
    assert outside == [("ffn_down", 0, "ffn_out")]
    assert truth.record().passed is False


def test_a_divergence_on_the_references_prompt_exits_1_and_the_file_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import dataclasses

    from llorch.model.config import ModelConfig

    right = ModelConfig.from_metadata

    def wrong(metadata: Any, oddities: Any = None) -> ModelConfig:
        return dataclasses.replace(right(metadata, oddities), norm_eps=1e-3)

    monkeypatch.setattr(ModelConfig, "from_metadata", wrong)
    path = tmp_path / "trace.json"
    prompt = Reference.load(TINY_REFERENCE).manifest.prompt.text
    words = [
        "trace",
        prompt,
        "-m",
        str(TINY_MODEL),
        "--reference",
        str(GOLDEN),
        "-o",
        str(path),
        "-n",
        "1",
        "-t",
        "1",
    ]
    assert main([*words, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["passed"] is False
    assert json.loads(path.read_text())["llorch"]["truth"]["passed"] is False


def test_what_cannot_be_meant_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "trace.json"
    words = ["-o", str(path), "--reference"]
    tiny = ["trace", "-m", str(TINY_MODEL), *words, str(TINY_REFERENCE)]
    error = error_of(capsys, [*tiny, "quite another secret prompt"])
    assert "leave the prompt out to take the reference's" in error
    assert "secret" not in error
    assert "was made from tiny.gguf" in error_of(capsys, ["trace", *words, str(TINY_REFERENCE)])
    assert "holds no manifest.json" in error_of(capsys, [*tiny[:-1], str(REPOSITORY / "docs")])
    assert not path.exists()


@pytest.mark.trace_processor
def test_perfetto_reads_tensors_and_differences_of_every_slice(
    traced: dict[str, Any], tiny_trace: Path
) -> None:
    with loaded_trace(tiny_trace) as trace:
        rows = trace.rows(
            "SELECT EXTRACT_ARG(arg_set_id, 'args.layer') AS layer, "
            "EXTRACT_ARG(arg_set_id, 'args.tensor.ffn_out.rms') AS rms, "
            "EXTRACT_ARG(arg_set_id, 'args.difference.ffn_out.stage_by_stage.max_abs') AS difference "
            "FROM slice WHERE name = 'ffn_down' ORDER BY ts LIMIT 2"
        )
    expected = [o["args"] for o in operations_of(traced) if o["name"] == "ffn_down"][:2]
    for row, args in zip(rows, expected, strict=True):
        difference = args["difference"]["ffn_out"]["stage_by_stage"]["max_abs"]
        assert row == pytest.approx((args["layer"], args["tensor"]["ffn_out"]["rms"], difference), rel=1e-12)
