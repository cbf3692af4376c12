"""Exports of every exporter compute what onnxruntime computes with them; its logits are stored."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.logits import worst
from tests.support.onnx_exports import export_names, golden_logits, unpack
from tests.support.small_models import Run, open_model

F32_TOLERANCE = 5e-6
F16_TOLERANCE = 2e-2
"""onnxruntime rounds every activation of these to half precision."""


@pytest.mark.parametrize("name", export_names())
def test_an_export_computes_onnxruntimes_logits(name: str, tmp_path: Path) -> None:
    prompt, expected = golden_logits(name)
    with open_model(unpack(name, tmp_path)) as model:
        logits = Run(model.llama).prefill(prompt)
    assert worst(logits, expected) <= (F16_TOLERANCE if name.endswith("f16") else F32_TOLERANCE)


@pytest.mark.parametrize("name", ["torchscript", "genai"])
def test_an_export_computes_the_same_bits_packed_and_mapped(name: str, tmp_path: Path) -> None:
    path = unpack(name, tmp_path)
    logits = []
    for residence in ("packed", "mapped"):
        with open_model(path, residence=residence) as model:
            logits.append(Run(model.llama).prefill([1, 5, 9]).tobytes())
    assert logits[0] == logits[1]
