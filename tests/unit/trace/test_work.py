"""Bytes and multiply-adds of every instruction, against counts made in other ways."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from llorch.bench.work import Work
from llorch.model.kv_cache import KVCache
from llorch.model.llama import Llama
from llorch.open_model import OpenModel
from llorch.trace import work as work_module
from llorch.trace.records import ChunkRecord, EngineState, StepRecord
from llorch.trace.work import StepWork
from tests.support.small_models import open_model
from tests.support.tiny_models import write_tiny_llama

PRODUCTS = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down", "output")
IDLE = EngineState(0, 0, 0, 0, 0, 0)


@pytest.fixture(autouse=True)
def no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny models fit into the last cache, and nothing of them would come from memory."""
    monkeypatch.setattr(work_module, "last_cache_bytes", lambda: 0)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("work") / "tiny.gguf"
    write_tiny_llama(path, n_layer=2, n_ff=160)
    return path


@pytest.fixture(scope="module")
def opened(path: Path) -> Iterator[OpenModel]:
    with open_model(path) as opened:
        yield opened


def step_of(*chunks: tuple[int, int], n_outputs: int = 1, n_run: int = 1 << 20) -> StepRecord:
    """A step with the rows (first position, number) of some sequences."""
    records = tuple(
        ChunkRecord(job_id=f"{i}", turn=i, n_tokens=n, first_position=first, is_prompt=n > 1, n_chosen=1)
        for i, (first, n) in enumerate(chunks)
    )
    return StepRecord(0, (0, 1), 1, records, n_outputs, np.zeros((n_run, 1, 2), np.int64), IDLE)


def work_of(llama: Llama, step: StepRecord, *, observed: bool = False) -> dict[tuple[str, int], list[Work]]:
    found: dict[tuple[str, int], list[Work]] = {}
    works = StepWork(llama, "f16", observed=observed).of(step)
    for label, work in zip(llama.labels_of(observed=observed), works, strict=True):
        found.setdefault(label, []).append(work)
    return found


def streamed(found: dict[tuple[str, int], list[Work]], labels: tuple[str, ...]) -> int:
    return sum(w.n_streamed for (label, _), works in found.items() if label in labels for w in works)


@pytest.mark.parametrize("tied", [True, False])
def test_a_packed_step_streams_what_the_residence_holds_less_the_embedding_rows(
    tied: bool, tmp_path: Path
) -> None:
    path = tmp_path / "tiny.gguf"
    write_tiny_llama(path, tied=tied, n_vocab=320)
    with open_model(path) as opened:
        found = work_of(opened.llama, step_of((0, 1)))
        rows = opened.weights.token_embd.n_bytes
        assert rows % 64 == 0, "no padding hides in the difference"
        assert streamed(found, PRODUCTS) == opened.llama.residence.n_bytes - rows


def test_a_mapped_step_streams_the_matrices_of_the_file(path: Path) -> None:
    with open_model(path, residence="mapped") as opened:
        expected = sum(tensor.n_bytes for tensor in opened.weights.matrices())
        assert streamed(work_of(opened.llama, step_of((0, 5))), PRODUCTS) == expected


def macs_of(found: dict[tuple[str, int], list[Work]], labels: tuple[str, ...]) -> int:
    return sum(w.n_macs for (label, _), works in found.items() if label in labels for w in works)


def test_a_prompt_has_the_multiply_adds_of_the_formula(opened: OpenModel) -> None:
    c, n = opened.config, 50
    found = work_of(opened.llama, step_of((0, n)))
    of_layer = 2 * c.n_embd * c.n_embd_q + 2 * c.n_embd * c.n_embd_kv + 3 * c.n_embd * c.n_ff
    assert macs_of(found, PRODUCTS) == n * c.n_layer * of_layer + c.n_vocab * c.n_embd
    assert macs_of(found, ("attend",)) == c.n_layer * 2 * c.n_head * c.head_dim * n * (n + 1) // 2


def test_a_prompt_in_chunks_or_in_company_has_the_same_multiply_adds(opened: OpenModel) -> None:
    labels = (*PRODUCTS, "attend", "rope_store", "swiglu")
    whole = macs_of(work_of(opened.llama, step_of((0, 70), n_outputs=0)), labels)
    parts = [step_of((0, 33), n_outputs=0), step_of((33, 37), n_outputs=0)]
    assert sum(macs_of(work_of(opened.llama, part), labels) for part in parts) == whole
    both = macs_of(work_of(opened.llama, step_of((0, 70), (0, 70), n_outputs=0)), labels)
    assert both == 2 * whole


def test_a_decoded_token_reads_the_blocks_of_its_context_once(opened: OpenModel) -> None:
    found = work_of(opened.llama, step_of((64, 1), (31, 1)))
    blocks = KVCache.blocks_for(65) + KVCache.blocks_for(32)
    expected = blocks * KVCache.bytes_per_block(opened.config, "f16")
    assert streamed(found, ("attend",)) == expected
    rows = 2 * 2 * opened.config.n_embd_q * 4 * opened.config.n_layer
    assert sum(w.n_bytes for i in range(opened.config.n_layer) for w in found["attend", i]) == expected + rows


def test_only_what_ran_is_counted(opened: OpenModel) -> None:
    labels = opened.llama.labels
    n_run = labels.index(("select", -1))
    works = StepWork(opened.llama, "f16").of(step_of((0, 8), n_outputs=0, n_run=n_run))
    assert len(works) == n_run
    logits = StepWork(opened.llama, "f16").of(step_of((0, 8), n_outputs=3))[-1]
    assert logits.n_macs == 3 * opened.config.n_vocab * opened.config.n_embd


def test_products_meet_the_peak_of_their_arithmetic(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    write_tiny_llama(path, types={"ffn_up.weight": "F16", "attn_q.weight": "F32", "attn_v.weight": "BF16"})
    with open_model(path) as opened:
        found = work_of(opened.llama, step_of((0, 3)))
        kinds = {label: found[label, 0][0].kind for label in ("attn_q", "attn_k", "attn_v", "ffn_up")}
        assert kinds == {"attn_q": "float", "attn_k": "integer", "attn_v": "bfloat", "ffn_up": "float"}
        assert found["attn_k", 0][0].shape == "3x64 @ 64x32 Q8_0"


def test_the_observed_program_has_the_same_products_and_the_passes_of_attention(opened: OpenModel) -> None:
    c, step = opened.config, step_of((10, 4))
    fused, observed = work_of(opened.llama, step), work_of(opened.llama, step, observed=True)
    assert macs_of(observed, PRODUCTS) == macs_of(fused, PRODUCTS)
    assert macs_of(observed, ("scores", "values")) == macs_of(fused, ("attend",))
    seen = 11 + 12 + 13 + 14
    for label in ("softmax_maximum", "softmax_exponential", "softmax_normalise"):
        (work,) = observed[label, 0]
        assert work.n_bytes == 2 * 4 * c.n_head * seen
    assert macs_of(observed, ("rope",)) == macs_of(fused, ("rope_store",))


def test_a_model_that_the_last_cache_holds_streams_nothing(
    opened: OpenModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work_module, "last_cache_bytes", lambda: 1 << 30)
    works = StepWork(opened.llama, "f16").of(step_of((0, 4)))
    assert {work.n_streamed for work in works} == {0}
    assert all(work.n_bytes > 0 for work in works)
