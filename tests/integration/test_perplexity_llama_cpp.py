"""llama-perplexity itself (`LLORCH_TEST_LLAMA_PERPLEXITY` names it): each program reads the other's files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from llorch.quality.logits_file import BaseFile
from tests.support.perplexity import figures, golden, perplexity, text_of
from tools.reference.extract_perplexity import complete_figures, run_llama

BINARY = os.environ.get("LLORCH_TEST_LLAMA_PERPLEXITY")
N_VOCAB = 512
MEAN_DIVERGENCE = 6
"""Its line among the statistics."""
FEW_CHUNKS = 1e-2
"""How far perplexities of four chunks may differ between orders of additions where activations are int8."""
pytestmark = [
    pytest.mark.reference,
    pytest.mark.skipif(not BINARY, reason="LLORCH_TEST_LLAMA_PERPLEXITY names no llama-perplexity"),
]


@pytest.fixture(scope="module")
def bases(
    model_path: Callable[[str], Path], models_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """The base file of the same model and text by both programs."""
    folder = tmp_path_factory.mktemp("bases")
    model, text = str(model_path("stories260K-f32.gguf")), folder / "text"
    text.write_bytes(text_of(golden("stories260K-f32"), models_dir))
    read = ("-m", model, "-f", str(text), "-c", "256", "--chunks", "4")
    ours, theirs = folder / "ours", folder / "theirs"
    done = perplexity(*read, "--kv-type", "f32", "--kl-divergence-base", str(ours))
    assert done.returncode == 0, done.stderr
    run_llama(Path(BINARY or ""), *read, "-b", "256", "--kl-divergence-base", str(theirs))
    return {"ours": ours, "theirs": theirs}


def test_both_programs_write_the_same_file_but_for_rounding(bases: dict[str, Path]) -> None:
    ours, theirs = (path.read_bytes() for path in bases.values())
    with BaseFile.open(bases["ours"], N_VOCAB) as base:
        begin = base.layout.offset(0)
    assert len(ours) == len(theirs)
    assert ours[:begin] == theirs[:begin]
    decoded = []
    for path in bases.values():
        with BaseFile.open(path, N_VOCAB) as base:
            scales, minima, values = base.rows(0, base.layout.n_rows)
            decoded.append(values * scales[:, None] + minima[:, None])
    assert np.abs(decoded[0] - decoded[1]).max() < 2e-3


@pytest.mark.parametrize("written_by", ["ours", "theirs"])
def test_both_programs_find_the_same_in_a_file_of_either(
    written_by: str, bases: dict[str, Path], model_path: Callable[[str], Path]
) -> None:
    model, base = str(model_path("stories260K-q8_0.gguf")), str(bases[written_by])
    arguments = ("-m", model, "--kl-divergence", "--kl-divergence-base", base)
    theirs, _ = complete_figures(Path(BINARY or ""), *arguments, "-c", "256", "-b", "256")
    ours = figures(*arguments, "--kv-type", "f32")
    assert len(ours["statistics"]) == len(theirs["statistics"])
    assert ours["running"] == pytest.approx(theirs["running"], rel=FEW_CHUNKS)
    (ours_mean, _), (theirs_mean, _) = (found["statistics"][MEAN_DIVERGENCE] for found in (ours, theirs))
    assert ours_mean == pytest.approx(theirs_mean, rel=0.1)
