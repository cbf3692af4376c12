"""Texts and runs of `llorch perplexity`, in a process of its own where the order of additions matters."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.conftest import REPOSITORY
from tools.reference.extract_perplexity import Text
from tools.reference.perplexity_output import printed_figures

FOLDER = REPOSITORY / "tests" / "golden" / "perplexity"


def golden(name: str) -> dict[str, Any]:
    """What llama-perplexity printed for a model."""
    document: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    return document


def text_of(document: dict[str, Any], models: Path) -> bytes:
    """The text that a golden file is of."""
    about = document["text"]
    return Text(about["n_bytes"], about["letters_only"]).of((models / about["file"]).read_bytes())


def perplexity(*arguments: str, sums: str = "llorch", **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "llorch", "perplexity", *arguments],
        cwd=REPOSITORY,
        env=os.environ | {"LLORCH_SUMS": sums} | variables,
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )


def figures(*arguments: str, sums: str = "llorch") -> dict[str, Any]:
    """The figures that a run prints."""
    done = perplexity(*arguments, sums=sums)
    assert done.returncode == 0, done.stderr
    return printed_figures(done.stdout)


def naive_loss(logits: NDArray[np.float32], token_id: int) -> float:
    """The negative log-likelihood of a token, in float64."""
    wide = logits.astype(np.float64)
    return float(np.log(np.exp(wide - wide.max()).sum()) + wide.max() - wide[token_id])
