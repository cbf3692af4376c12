from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from llorch.quality.chunks import Chunks
from llorch.quality.divergence import Divergence, Figures
from llorch.quality.logits_file import BaseFile, writing_base

N_VOCAB = 40
CHUNKS = Chunks(np.zeros((4, 12), np.int32), None)
N = 4 * CHUNKS.n_counted
RNG = np.random.default_rng(3)
BASE = RNG.normal(0, 2, (N, N_VOCAB)).astype(np.float32)
OTHER = (BASE + RNG.normal(0, 0.3, BASE.shape)).astype(np.float32)
WANTED = RNG.integers(N_VOCAB, size=N).astype(np.int32)


def compare(path: Path, logits: NDArray[np.float32]) -> Divergence:
    with writing_base(path, CHUNKS, N_VOCAB) as writer:
        writer.take(0, BASE, WANTED)
    with BaseFile.open(path, N_VOCAB) as base:
        judge = Divergence(base, N)
        judge.take(0, logits[:7], WANTED[:7])
        judge.take(7, logits[7:], WANTED[7:])
        return judge


def figures(path: Path) -> Figures:
    return compare(path, OTHER).figures()


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = logits.astype(np.float64)
    return np.asarray(wide - np.log(np.exp(wide).sum(axis=1, keepdims=True)))


def test_divergence_and_agreement_are_those_in_float64(tmp_path: Path) -> None:
    found = figures(tmp_path / "base")
    p, q = log_softmax(BASE), log_softmax(OTHER)
    naive = (np.exp(p) * (p - q)).sum(axis=1)
    assert found.divergence.value == pytest.approx(naive.mean(), rel=2e-3)
    assert found.divergences["max"] == pytest.approx(naive.max(), rel=5e-3)
    assert found.divergences["50"] == pytest.approx(np.median(naive), rel=5e-3)
    assert found.same_top.value == pytest.approx((p.argmax(1) == q.argmax(1)).mean())


def test_differences_of_probability_are_of_the_token_that_follows(tmp_path: Path) -> None:
    found = figures(tmp_path / "base")
    each = np.arange(N)
    p, q = (np.exp(log_softmax(logits))[each, WANTED] for logits in (BASE, OTHER))
    assert found.p_difference.value == pytest.approx((q - p).mean(), abs=1e-5)
    assert found.p_difference_rms.value == pytest.approx(np.sqrt(((q - p) ** 2).mean()), rel=1e-3)
    assert found.p_differences["min"] == pytest.approx((q - p).min(), abs=1e-4)


def test_perplexities_of_both_models_and_their_ratio_are_those_in_float64(tmp_path: Path) -> None:
    found = figures(tmp_path / "base")
    each = np.arange(N)
    base, other = (np.exp(-log_softmax(logits)[each, WANTED].mean()) for logits in (BASE, OTHER))
    assert found.base_perplexity.value == pytest.approx(base, rel=1e-4)
    assert found.perplexity.value == pytest.approx(other, rel=1e-4)
    assert found.ratio.value == pytest.approx(other / base, rel=1e-4)
    assert found.difference.value == pytest.approx(other - base, rel=2e-2)
    assert found.correlation is not None
    assert 0.9 < found.correlation <= 1


def test_a_model_compared_with_itself_does_not_diverge(tmp_path: Path) -> None:
    found = compare(tmp_path / "base", BASE).figures()
    assert abs(found.divergence.value) < 1e-5
    assert found.same_top.value == 1
    assert found.same_top.stderr == 0
    assert found.ratio.value == pytest.approx(1, abs=1e-4)
