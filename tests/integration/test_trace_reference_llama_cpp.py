"""Traces of real models against fresh dumps of llama.cpp. Needs llama-cpp-python (the `reference` extra)."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest

from llorch.cli.main import main
from tests.support.reference_dumps import extract
from tests.support.traces import operations_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.reference,
    pytest.mark.skipif(not importlib.util.find_spec("llama_cpp"), reason="llama-cpp-python is not installed"),
]

PROMPT = "Once upon a time there was a little girl named Lily. She"


def test_a_real_model_is_traced_and_held_against_the_layers_that_were_dumped(
    real_model: Path, tmp_path: Path
) -> None:
    extract(real_model, tmp_path / "dump", PROMPT, "--layers", "0,2", "--decode-stages", "kv")
    path, page = tmp_path / "trace.json", tmp_path / "report.html"
    words = ["-m", str(real_model), "--reference", str(tmp_path / "dump"), "-o", str(path), "-n", "4"]
    assert main(["trace", PROMPT, *words, "--temperature", "0"]) == 0
    document = json.loads(path.read_text())
    assert document["llorch"]["truth"]["passed"] is True
    prompt = [o for o in operations_of(document) if o["args"]["step"] == 0]
    layers = {o["args"]["layer"] for o in prompt} - {-1}
    for operation in prompt:
        layer = operation["args"]["layer"]
        found = set(operation["args"].get("difference", {})) - {"cache_k", "cache_v"}
        produced = set(operation["args"].get("tensor", {}))
        assert found == (produced if layer in (-1, 0, 2) else produced & {"l_out"}), operation["name"]
    assert main(["report", str(path), "-o", str(page)]) == 0
    data = re.search(r'id="data">(.*?)</script>', page.read_text(), re.S)
    assert data is not None
    cells = json.loads(data[1])["cells"]
    assert {cell["layer"] for cell in cells} == layers | {-1}
    assert f"holds 2 of {len(layers)} layers in full" in page.read_text()
    assert page.stat().st_size < 2 << 20
