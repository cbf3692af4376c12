"""Every real test model against llama.cpp, dumped afresh. Needs llama-cpp-python (the `reference` extra).

With llama.cpp built for AVX2, without llamafile's products, our run in llama.cpp's order must also equal the dumps
in every bit; `tools/setup/llama_cpp.sh` builds it.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from llorch.cli.main import main
from llorch.model_files import DEMO_PATH
from tests.support.llama_cpp_order import assert_equal_in_every_bit, dumped_in_the_order_we_know
from tests.support.reference_dumps import extract

pytestmark = [
    pytest.mark.slow,
    pytest.mark.reference,
    pytest.mark.skipif(not importlib.util.find_spec("llama_cpp"), reason="llama-cpp-python is not installed"),
]

MODELS = [
    "stories260K-f32",
    "stories260K-f16",
    "stories260K-q8_0",
    "stories260K-ffn192-q8_0",
    "tinystories-656k-f32",
    "tinystories-656k-f16",
    "tinystories-656k-q8_0",
]
PROMPT = "Once upon a time there was a little girl named Lily. She"
TRAINED_LOGITS_NMSE = 1e-4
"""Closer than the tolerance: what trained models of few layers keep to over the positions of a prompt."""


def logits_drift(bundle: Path) -> float:
    """The largest NMSE of the prompt's logits, end to end."""
    worst = 0.0
    for path in bundle.glob("checks-*.ndjson"):
        for check in map(json.loads, path.read_text().splitlines()[1:]):
            if (check["way"], check["run"], check["stage"]) == ("end_to_end", "prefill", "result_output"):
                worst = max(worst, check["comparison"]["nmse"])
    return worst


def assert_validates(model: Path, references: Path, proof: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 0, every checkpoint in every way passed, and the bundle verifies."""
    words = [
        "validate",
        "-m",
        str(model),
        "--reference",
        str(references),
        "--proof-dir",
        str(proof),
        "--json",
    ]
    code = main(words)
    document = json.loads(capsys.readouterr().out)
    failed = [row for row in document["checkpoints"] if row["verdict"] != "pass"]
    assert (code, failed) == (0, [])
    assert logits_drift(Path(document["bundle"])) <= TRAINED_LOGITS_NMSE
    assert main(["validate", "--verify", document["bundle"]]) == 0
    if dumped_in_the_order_we_know(references):
        paths = ["-m", str(model), "--reference", str(references), "--proof-dir", str(proof / "order")]
        assert_equal_in_every_bit(*paths)


@pytest.mark.parametrize("name", MODELS)
def test_a_real_model_passes_in_both_profiles(
    name: str, model_path: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = model_path(f"{name}.gguf")
    extract(model, tmp_path / "references" / "native", PROMPT)
    extract(model, tmp_path / "references" / "f32", PROMPT, "--f32")
    assert_validates(model, tmp_path / "references", tmp_path / "proof", capsys)


def test_a_reference_of_few_layers_covers_the_others_as_wholes(
    model_path: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = model_path("stories260K-q8_0.gguf")
    extract(model, tmp_path / "few", PROMPT, "--layers", "0,3", "--decode-stages", "kv", "--n-decode", "3")
    assert_validates(model, tmp_path / "few", tmp_path / "proof", capsys)


def test_the_demo_model_passes_in_both_profiles(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not DEMO_PATH.exists():
        pytest.skip("the demo model is not in this checkout")
    extract(DEMO_PATH, tmp_path / "references" / "native", PROMPT)
    extract(DEMO_PATH, tmp_path / "references" / "f32", PROMPT, "--f32")
    assert_validates(DEMO_PATH, tmp_path / "references", tmp_path / "proof", capsys)
