"""onnxruntime beside llorch: stored logits, passes with a past, every stage of a run. Skipped where it is missing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from llorch.cli.main import main
from tests.support.logits import worst
from tests.support.onnx_exports import export_names, golden_logits, unpack
from tests.support.small_models import Run, open_model

pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install 'llorch[oracles]'")
pytest.importorskip("onnx", reason="needs onnx: pip install 'llorch[oracles]'")


@pytest.mark.parametrize("name", export_names())
def test_the_stored_logits_are_onnxruntimes(name: str, tmp_path: Path) -> None:
    from tools.onnx_exports.onnxruntime_logits import logits_of

    prompt, stored = golden_logits(name)
    assert worst(logits_of(unpack(name, tmp_path), prompt), stored) <= (
        1e-2 if name.endswith("f16") else 2e-6
    )


@pytest.mark.parametrize(
    "name", ["torchscript_past", "dynamo_past", "dynamo_attention", "genai", "optimum_past"]
)
def test_a_pass_that_takes_a_past_computes_what_llorch_does(name: str, tmp_path: Path) -> None:
    from tools.onnx_exports.onnxruntime_logits import feed_of, session_of

    path = unpack(name, tmp_path)
    prompt, _ = golden_logits(name)
    session = session_of(path)
    names = [output.name for output in session.get_outputs()]
    first = dict(zip(names, session.run(names, feed_of(session, prompt[:-1], width=16)), strict=True))
    past = {name.replace("present", "past_key_values"): first[name] for name in names if "present" in name}
    (second,) = session.run(["logits"], feed_of(session, prompt[-1:], past))
    with open_model(path) as model:
        logits = Run(model.llama).prefill(prompt)
    assert worst(logits[-1:], np.asarray(second[0])) <= 5e-6


@pytest.mark.slow
@pytest.mark.parametrize("name", ["torchscript_biases", "dynamo_attention", "genai", "optimum_past"])
def test_every_stage_of_an_export_is_onnxruntimes(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tools.reference.extract_checkpoints_onnx import main as extract

    path = unpack(name, tmp_path)
    dump = tmp_path / "dump"
    assert extract(["-m", str(path), "-p", "1 5 9 33 7 60 2", "-o", str(dump), "--n-decode", "10"]) == 0
    capsys.readouterr()
    words = [
        "validate",
        "-m",
        str(path),
        "--reference",
        str(dump),
        "--proof-dir",
        str(tmp_path / "proof"),
        "--json",
    ]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["passed"]


@pytest.mark.slow
def test_operations_layers_and_logits_are_pytorchs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch", reason="needs torch: pip install 'llorch[oracles]'")
    pytest.importorskip("transformers", reason="needs transformers: pip install 'llorch[oracles]'")
    from tools.onnx_exports.operation_table import main as table

    assert table(["-m", str(unpack("torchscript", tmp_path)), "--variant", "plain"]) == 0
    assert "| logits |" in capsys.readouterr().out
