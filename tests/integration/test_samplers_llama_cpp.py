"""Sampling steps against llama.cpp's own, on random logits: the same candidates stay, with the same logits."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from llorch.engine.adaptive import AdaptiveP
from llorch.engine.breakers import BreakerFinder
from llorch.engine.dry import Repeats
from llorch.engine.mirostat import Mirostat
from llorch.engine.narrowing import Candidates
from llorch.engine.params import SamplingParams
from llorch.engine.rare_steps import dynamic_temperature, top_n_sigma, typical_p, xtc
from llorch.formats.gguf.file import GGUFFile
from llorch.text.tokenizer import load_tokenizer

if importlib.util.find_spec("llama_cpp"):
    from tests.support.llama_cpp_samplers import c_strings, llama_cpp_step
    from tests.support.llama_cpp_vocab import llama_cpp_tokenizer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.reference,
    pytest.mark.skipif(not importlib.util.find_spec("llama_cpp"), reason="llama-cpp-python is not installed"),
]

N_VOCAB = 300
ROWS = [
    (np.random.default_rng(i).standard_normal(N_VOCAB) * scale).astype(np.float32)
    for i, scale in enumerate([0.3, 1, 3, 6] * 5)
]


def check(ours: Candidates, theirs: dict[int, float], *, tolerance: float = 1e-4) -> None:
    possible = {token_id for token_id, logit in theirs.items() if logit > -np.inf}
    is_possible = ours.logits > -np.inf
    assert set(ours.token_ids[is_possible].tolist()) == possible
    wanted = [theirs[token_id] for token_id in ours.token_ids[is_possible].tolist()]
    np.testing.assert_allclose(ours.logits[is_possible], wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9, 1.0])
def test_typical_p(p: float) -> None:
    for row in ROWS:
        with llama_cpp_step("typical", p, 0) as step:
            check(typical_p(Candidates.from_logits(row), p), step.apply(row)[0])


@pytest.mark.parametrize("n", [-1.0, 0.0, 0.5, 1.0, 2.5])
def test_top_n_sigma(n: float) -> None:
    for row in ROWS:
        row = np.where(row < -2, np.float32(-np.inf), row)
        with llama_cpp_step("top_n_sigma", n) as step:
            check(top_n_sigma(Candidates.from_logits(row), n), step.apply(row)[0])


@pytest.mark.parametrize("threshold", [0.0, 0.02, 0.1, 0.4, 0.6])
def test_xtc_when_it_strikes(threshold: float) -> None:
    for row in ROWS:
        with llama_cpp_step("xtc", 1.0, threshold, 0, 1) as step:
            check(xtc(Candidates.from_logits(row), 1.0, threshold, lambda: 0.0), step.apply(row)[0])


@pytest.mark.parametrize(
    ("temperature", "spread", "exponent"), [(1.0, 0.5, 1.0), (0.8, 0.8, 2.0), (0.5, 1.5, 0.5)]
)
def test_dynamic_temperature(temperature: float, spread: float, exponent: float) -> None:
    for row in ROWS:
        ours = dynamic_temperature(Candidates.from_logits(row), temperature, spread, exponent)
        with llama_cpp_step("temp_ext", temperature, spread, exponent) as step:
            check(ours, step.apply(row)[0], tolerance=1e-3)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("target", [1.0, 3.0, 5.0])
def test_mirostat_over_a_text(version: int, target: float) -> None:
    """Each step keeps as many candidates; both learn from the token that llama.cpp draws."""
    ours = Mirostat(SamplingParams(mirostat=version, mirostat_tau=target, mirostat_eta=0.2))
    name = "mirostat" if version == 1 else "mirostat_v2"
    arguments = (N_VOCAB, 7, target, 0.2, 100) if version == 1 else (7, target, 0.2)
    with llama_cpp_step(name, *arguments) as step:
        for row in ROWS:
            kept = ours.cut(Candidates.from_logits(row), N_VOCAB)
            theirs, chosen = step.apply(row)
            assert chosen is not None
            check(kept, theirs)
            ours.learn(kept, chosen)


@pytest.mark.parametrize("target", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9, 0.99])
def test_adaptive_p_over_a_text(target: float, decay: float) -> None:
    """Each step makes the same logits; both learn from the token that llama.cpp draws."""
    ours = AdaptiveP(SamplingParams(adaptive_target=target, adaptive_decay=decay))
    with llama_cpp_step("adaptive_p", target, decay, 7) as step:
        for row in ROWS:
            candidates = Candidates.from_logits(np.where(row < -4, np.float32(-np.inf), row))
            bent = ours.bend(candidates)
            theirs, chosen = step.apply(candidates.logits)
            assert chosen is not None
            check(bent, theirs)
            ours.learn(candidates, chosen)
            step.accept([chosen])


def repeating_text(seed: int, n_vocab: int, n: int) -> list[int]:
    """Tokens with long repeats in them."""
    chance = np.random.default_rng(seed)
    token_ids: list[int] = chance.integers(0, n_vocab, 12).tolist()
    while len(token_ids) < n:
        begin = int(chance.integers(0, len(token_ids)))
        token_ids += token_ids[begin : begin + int(chance.integers(1, 9))]
        token_ids += chance.integers(0, n_vocab, int(chance.integers(0, 2))).tolist()
    return token_ids[:n]


@pytest.mark.parametrize("last_n", [3, 40, 1000])
@pytest.mark.parametrize(("base", "allowed"), [(1.75, 2), (1.0, 0), (1.2, 4)])
def test_dry_after_every_token_of_a_text(
    last_n: int, base: float, allowed: int, model_path: Callable[[str], Path]
) -> None:
    path = model_path("ggml-vocab-llama-bpe.gguf")
    tokenizer = load_tokenizer(GGUFFile(path).metadata)
    n_vocab = tokenizer.vocab.n_vocab
    breakers = ("\n", ":", '"', "*", "and then", " the end")
    params = SamplingParams(
        dry_multiplier=0.8, dry_base=base, dry_allowed_length=allowed, dry_penalty_last_n=last_n,
        dry_sequence_breakers=breakers,
    )  # fmt: skip
    text = 'The cat sat on the mat and then the cat sat on the sofa: "the end"\n* the cat sat on the mat and then '
    token_ids = repeating_text(1, 200, 60) + tokenizer.encode(text * 2, add_bos=False)
    begin = 5
    repeats = Repeats(params, BreakerFinder(tokenizer, n_vocab).find(breakers), token_ids[:begin])
    seen = np.unique(token_ids)
    zeros = np.zeros(len(seen), np.float32)
    strings = c_strings(*breakers)
    with (
        llama_cpp_tokenizer(path) as reference,
        llama_cpp_step("dry", reference.vocab, 0.8, base, allowed, last_n, strings, len(breakers)) as step,
    ):
        step.accept(token_ids[:begin])
        n_penalized = 0
        for token_id in token_ids[begin:]:
            theirs, _ = step.apply(zeros, seen.tolist())
            penalized, amounts = repeats.penalties()
            ours = zeros.copy()
            ours[np.searchsorted(seen, penalized)] -= amounts
            check(Candidates(seen.astype(np.int32), ours), theirs)
            n_penalized += len(penalized)
            step.accept([token_id])
            repeats.append(token_id)
    assert n_penalized > 0 or last_n < 10
