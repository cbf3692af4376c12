"""The observed program: attention written out pass by pass, stamped, and equal to the fast path."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from llorch.kernels import paths
from llorch.model.batch import Batch
from llorch.model.llama import Llama
from llorch.observe.probe import Recorder
from llorch.observe.stamps import Stamps
from tests.support.logits import token_ids_of
from tests.support.naive import bits
from tests.support.small_models import Run, open_model
from tests.support.tiny_models import write_tiny_llama

WRITTEN_OUT = ["scores", "softmax_maximum", "softmax_exponential", "softmax_normalise", "values"]
N = 40
CLOSE = 2e-6
"""Of the largest value: sums of at most 40 float32 in another order."""


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Llama]:
    path = tmp_path_factory.mktemp("observed") / "tiny.gguf"
    write_tiny_llama(path, n_head=4, n_head_kv=2)
    with open_model(path, n_threads=2) as model:
        yield model.llama


def batch_of(run: Run, n: int = N, n_outputs: int = N) -> Batch:
    rows = np.arange(n, dtype=np.int32)
    return Batch.of(np.array(token_ids_of(n), np.int32), rows, rows * 0, run.tables, rows[:n_outputs])


def forward(llama: Llama, stamps: Stamps | None, probe: Recorder | None = None) -> NDArray[Any]:
    """Bits of all logits of one prompt."""
    run = Run(llama)
    return bits(llama.forward(batch_of(run), run.cache, probe, stamps).copy())


def test_the_labels_name_every_pass_of_attention_of_every_layer(llama: Llama) -> None:
    labels = llama.labels_of(observed=True)
    assert llama.labels_of(observed=False) == llama.labels
    for layer in range(llama.config.n_layer):
        names = [label for label, i in labels if i == layer]
        first = names.index("scores")
        assert names[first - 2 : first + 7] == ["rope", "store", *WRITTEN_OUT, "attend", "prepare"]


def test_an_observed_step_is_stamped_and_gives_the_same_bits(llama: Llama) -> None:
    stamps = llama.new_stamps(observed=True)
    np.testing.assert_array_equal(forward(llama, stamps), forward(llama, None))
    ticks = stamps.ticks
    assert ticks.shape == (len(llama.labels_of(observed=True)), 2, 2)
    assert (ticks[..., 0] > 0).all()
    assert (np.diff(ticks.transpose(1, 0, 2).reshape(2, -1)) >= 0).all()


def test_a_probe_and_stamps_go_together(llama: Llama) -> None:
    alone, probe, stamps = Recorder(), Recorder(), llama.new_stamps(observed=True)
    np.testing.assert_array_equal(forward(llama, stamps, probe), forward(llama, None, alone))
    assert (stamps.ticks > 0).all()
    assert probe.values.keys() == alone.values.keys()
    for name, value in probe.values.items():
        np.testing.assert_array_equal(bits(value), bits(alone.values[name]))
    with pytest.raises(ValueError, match="observed program"):
        forward(llama, llama.new_stamps(), Recorder())


def test_a_step_without_outputs_stops_before_them(llama: Llama) -> None:
    run, stamps = Run(llama), llama.new_stamps(observed=True)
    assert llama.forward(batch_of(run, n_outputs=0), run.cache, stamps=stamps).shape[0] == 0
    labels = llama.labels_of(observed=True)[: len(stamps.ticks)]
    assert labels[-1] == ("add", llama.config.n_layer - 1)


class Values(Recorder):
    """Looks at what `values` has left, before `attend` replaces it."""

    def __init__(self, llama: Llama) -> None:
        super().__init__(frozenset({"kq", "kq_soft_max", "kqv_out"}))
        self.llama, self.written_out = llama, dict[int, NDArray[np.float32]]()

    def tap(self, name: str, layer: int, value: NDArray[np.float32]) -> None:
        super().tap(name, layer, value)
        if name == "kq_soft_max":
            self.written_out[layer] = self.llama._state.mixed.rows.view(value.shape[1]).copy()


def test_the_passes_compute_what_attention_computes(llama: Llama) -> None:
    probe = Values(llama)
    forward(llama, None, probe)
    causal = np.tril(np.ones((N, N), bool))
    for layer in range(llama.config.n_layer):
        raw, weights = probe.values[f"kq-{layer}"], probe.values[f"kq_soft_max-{layer}"]
        scaled = np.where(causal, raw.astype(np.float64) / np.sqrt(llama.config.head_dim), -np.inf)
        expected = np.exp(scaled - scaled.max(-1, keepdims=True))
        np.testing.assert_allclose(weights, expected / expected.sum(-1, keepdims=True), atol=CLOSE)
        out = probe.values[f"kqv_out-{layer}"]
        np.testing.assert_allclose(probe.written_out[layer], out, atol=CLOSE * np.abs(out).max())
        if paths.sums() == "llama.cpp":
            np.testing.assert_array_equal(bits(probe.written_out[layer]), bits(out))


def test_what_nobody_wants_to_see_is_left_out(llama: Llama, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(Llama, "_room_for_scores", refuse)
    assert forward(llama, None, Recorder(frozenset({"l_out"}))).size


def test_observed_steps_decode_over_a_long_context(tmp_path: Path) -> None:
    """Positions beyond one block and one part of attention."""
    path = tmp_path / "tiny.gguf"
    write_tiny_llama(path, n_layer=1)
    with open_model(path, n_threads=2, kv_type="f16") as model:
        llama = model.llama
        run = Run(llama, n_positions=320, kv_type="f16")
        run.prefill(token_ids_of(300))
        last = np.array([300], np.int32)
        batch = Batch.of(last * 0 + 7, last, last * 0, run.tables, last * 0)
        fused = llama.forward(batch, run.cache).copy()
        observed = llama.forward(batch, run.cache, stamps=llama.new_stamps(observed=True))
        np.testing.assert_array_equal(bits(observed), bits(fused))
        probe = Values(llama)
        llama.forward(batch, run.cache, probe)
        out = probe.values["kqv_out-0"]
        np.testing.assert_allclose(probe.written_out[0], out, atol=10 * CLOSE * np.abs(out).max())
