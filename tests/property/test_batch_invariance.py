"""Batch invariance: the bits of a row depend on its own sequence only, not on chunks, neighbours, threads or residence.

The bits of the logits and of the cache are compared with those of a single prefill by one thread.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from llorch.model.llama import Llama
from llorch.observe.probe import Recorder
from llorch.open_model import OpenModel
from tests.support.naive import bits
from tests.support.small_models import Row, Run, open_model
from tests.support.tiny_models import write_tiny_llama

REAL = ["stories260K-q8_0", "stories260K-f16", "stories260K-f32", "tinystories-656k-q8_0"]
N_SEQUENCES = 3
LENGTHS = (70, 33, 45)
"""Blocks of 32 positions are entered and left, groups of 16 rows are filled and split."""

VARIANTS = [(1, "packed", 512), (2, "packed", 512), (3, "mapped", 512), (2, "mapped", 7), (1, "mapped", 64)]
"""(threads, residence, n_batch) of the models that must agree with the first."""

Chunks = list[tuple[int, int]]


class Family:
    """One file opened in several ways, and what the first of them computes in single prefills."""

    def __init__(self, path: Path, stack: ExitStack) -> None:
        self.models: list[OpenModel] = [
            stack.enter_context(open_model(path, n_threads=t, residence=r, n_batch=b)) for t, r, b in VARIANTS
        ]
        n_vocab = self.models[0].config.n_vocab
        rng = np.random.default_rng(0)
        self.token_ids = [rng.integers(3, n_vocab, n).tolist() for n in LENGTHS]

    @functools.cache  # noqa: B019
    def expected(self, kv_type: str) -> tuple[list[NDArray[np.float32]], Run]:
        run = Run(self.models[0].llama, n_sequences=N_SEQUENCES, n_positions=96, kv_type=kv_type)
        return [run.prefill(ids, sequence) for sequence, ids in enumerate(self.token_ids)], run

    def check(self, llama: Llama, kv_type: str, batches: list[list[Row]], observed: bool, seed: int) -> None:
        """Run the batches, in which every row of every sequence stands once, and compare all bits."""
        logits, reference = self.expected(kv_type)
        run = Run(llama, n_sequences=N_SEQUENCES, n_positions=96, kv_type=kv_type, seed=seed)
        for rows in batches:
            probe = Recorder(frozenset({"kq", "Qcur", "l_out"})) if observed else None
            for row, (sequence, position, _) in zip(run.forward(rows, None, probe), rows, strict=True):
                np.testing.assert_array_equal(bits(row), bits(logits[sequence][position]))
        for sequence, ids in enumerate(self.token_ids):
            for position in range(len(ids)):
                for ours, theirs in zip(
                    run.cache_row(sequence, position), reference.cache_row(sequence, position), strict=True
                ):
                    np.testing.assert_array_equal(ours, theirs)


SMOLLM2 = pytest.param("smollm2", marks=[pytest.mark.smollm2, pytest.mark.slow])


@pytest.fixture(scope="module", params=["tiny", "tiny-f16", *REAL, SMOLLM2])
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Family]:
    """The tiny files are written here, so that the test runs without the test models too."""
    if request.param.startswith("tiny") and not request.param.startswith("tinystories"):
        path = tmp_path_factory.mktemp("models") / "tiny.gguf"
        kind = "F16" if request.param.endswith("f16") else "Q8_0"
        write_tiny_llama(path, n_layer=2, n_ff=172, types={"attn_v.weight": kind, "attn_k.weight": "BF16"})
    elif request.param == "smollm2":
        path = request.getfixturevalue("smollm2")
    else:
        model_path: Callable[[str], Path] = request.getfixturevalue("model_path")
        path = model_path(f"{request.param}.gguf")
    with ExitStack() as stack:
        yield Family(path, stack)


def interleave(family: Family, n_batch: int, longest: int, seed: int) -> list[list[Row]]:
    """Batches that take up to `longest` rows at a time from random sequences until all are consumed."""
    rng = np.random.default_rng(seed)
    done = [0] * N_SEQUENCES
    batches: list[list[Row]] = [[]]
    while unfinished := [s for s in range(N_SEQUENCES) if done[s] < LENGTHS[s]]:
        sequence = int(rng.choice(unfinished))
        n = min(
            int(rng.integers(1, longest + 1)), LENGTHS[sequence] - done[sequence], n_batch - len(batches[-1])
        )
        if n == 0 or rng.random() < 0.25:
            batches.append([])
            continue
        ids = family.token_ids[sequence]
        batches[-1] += [(sequence, i, ids[i]) for i in range(done[sequence], done[sequence] + n)]
        done[sequence] += n
    return [batch for batch in batches if batch]


@given(
    variant=st.integers(0, len(VARIANTS) - 1),
    longest=st.sampled_from([1, 3, 17, 70]),
    kv_type=st.sampled_from(["f32", "f16"]),
    observed=st.booleans(),
    seed=st.integers(0, 999),
)
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
def test_any_way_to_cut_and_mix_sequences_gives_the_same_bits(
    family: Family, variant: int, longest: int, kv_type: str, observed: bool, seed: int
) -> None:
    llama = family.models[variant].llama
    family.check(llama, kv_type, interleave(family, llama.n_batch, longest, seed), observed, seed)


@pytest.mark.parametrize("variant", range(len(VARIANTS)), ids=lambda i: "-".join(map(str, VARIANTS[i])))
def test_single_steps_of_all_sequences_together_give_the_same_bits(family: Family, variant: int) -> None:
    batches = [
        [(s, position, ids[position]) for s, ids in enumerate(family.token_ids) if position < len(ids)]
        for position in range(max(LENGTHS))
    ]
    family.check(family.models[variant].llama, "f32", batches, False, seed=5)


def test_a_prefill_observed_stage_by_stage_gives_the_same_bits(family: Family) -> None:
    batches = [[(s, i, token) for i, token in enumerate(ids)] for s, ids in enumerate(family.token_ids)]
    family.check(family.models[1].llama, "f32", batches, True, seed=2)
