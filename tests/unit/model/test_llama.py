"""The whole forward pass against float64 NumPy, its probe, its cache, its stamps and its end."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from llorch.errors import KernelError
from llorch.model.batch import Batch
from llorch.model.kv_cache import KVCache
from llorch.observe.probe import Recorder
from tests.support import naive
from tests.support.logits import (
    F32_TOLERANCE,
    FLIP_TOLERANCE,
    NO_FLIP_TOLERANCE,
    QUANTIZATION_TOLERANCE,
    token_ids_of,
    worst,
)
from tests.support.naive import NaiveLlama, bits
from tests.support.small_models import Run, open_model
from tests.support.tiny_models import write_tiny_llama

REAL = ["stories260K-f32", "stories260K-f16", "stories260K-q8_0", "stories260K-ffn192-q8_0",
        "tinystories-656k-f32", "tinystories-656k-f16", "tinystories-656k-q8_0"]  # fmt: skip


@pytest.mark.parametrize("name", REAL)
def test_logits_of_real_models_equal_float64(name: str, model_path: Callable[[str], Path]) -> None:
    path = model_path(f"{name}.gguf")
    with open_model(path, n_threads=2) as model:
        token_ids = token_ids_of(40, model.config.n_vocab)
        logits = Run(model.llama).prefill(token_ids)
    rounded = NaiveLlama(path, rounds_activations=True).forward(token_ids)
    errors = np.sort(np.abs(logits - rounded).max(-1) / np.abs(rounded).max())
    kind = name.rsplit("-", 1)[1].upper()
    assert errors[0 if kind == "F16" else 20] < NO_FLIP_TOLERANCE
    assert errors[-1] < FLIP_TOLERANCE[kind]
    exact = NaiveLlama(path, rounds_activations=False).forward(token_ids)
    assert worst(logits, exact) < (F32_TOLERANCE if "f32" in name else QUANTIZATION_TOLERANCE)


SHAPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "tied": {"tied": True},
    "three layers, no shared heads": {"n_layer": 3, "n_head": 4, "n_head_kv": 4},
    "one kv head": {"n_head": 8, "n_head_kv": 1, "n_embd": 128},
    "odd widths": {"n_ff": 172, "n_embd": 48, "n_head": 3, "n_head_kv": 1, "n_vocab": 301},
    "partial rope": {"overrides": {"llama.rope.dimension_count": 8}},
    "other base and eps": {
        "overrides": {"llama.rope.freq_base": 500000.0, "llama.attention.layer_norm_rms_epsilon": 1e-3}
    },
    "rope factors": {"tensor_overrides": {"rope_freqs.weight": np.linspace(1, 8, 8)}},
}


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0"])
@pytest.mark.parametrize("shape", SHAPES)
def test_logits_of_every_shape_and_type_equal_float64(kind: str, shape: str, tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    write_tiny_llama(path, type=kind, **SHAPES[shape])
    with open_model(path) as model:
        token_ids = token_ids_of(37, model.config.n_vocab)
        logits = Run(model.llama).prefill(token_ids)
    expected = NaiveLlama(path, rounds_activations=True).forward(token_ids)
    assert worst(logits, expected) < FLIP_TOLERANCE[kind]


def test_linear_rope_scaling_divides_positions(tmp_path: Path) -> None:
    """A scale of one half at twice the frequencies is no scale at all."""
    path = tmp_path / "tiny.gguf"
    scaling = {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 2.0}
    write_tiny_llama(path, type="F32", overrides=scaling)
    token_ids = token_ids_of(20)
    with open_model(path) as model:
        scaled = Run(model.llama).prefill(token_ids)
    write_tiny_llama(path, type="F32", tensor_overrides={"rope_freqs.weight": np.full(8, 2.0)})
    with open_model(path) as model:
        np.testing.assert_allclose(Run(model.llama).prefill(token_ids), scaled, atol=1e-5)


def test_types_may_be_mixed_within_a_layer(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    types = {"attn_q.weight": "F16", "attn_k.weight": "BF16", "ffn_up.weight": "F32", "output.weight": "F16",
             "token_embd.weight": "BF16", "ffn_down.weight": "F16"}  # fmt: skip
    write_tiny_llama(path, n_layer=2, types=types)
    token_ids = token_ids_of(20)
    expected = NaiveLlama(path, rounds_activations=True).forward(token_ids)
    for residence in ("packed", "mapped"):
        with open_model(path, residence=residence) as model:
            assert worst(Run(model.llama).prefill(token_ids), expected) < FLIP_TOLERANCE["Q8_0"]


@pytest.mark.parametrize("kv_type", ["f32", "f16"])
def test_the_cache_holds_the_keys_and_values_that_the_probe_saw(tiny: Path, kv_type: str) -> None:
    """Checkpoint 3b: after prefill and after decode steps, exactly."""
    with open_model(tiny, n_threads=2) as model:
        run = Run(model.llama, kv_type=kv_type)
        token_ids = token_ids_of(40)
        dtype = run.cache.keys.dtype
        seen = Recorder(frozenset({"Kcur_rope", "Vcur"}))
        run.forward([(2, i, t) for i, t in enumerate(token_ids[:37])], None, seen)
        values = [(range(37), seen.values)]
        for position in range(37, 40):
            seen = Recorder(frozenset({"Kcur_rope", "Vcur"}))
            run.forward([(2, position, token_ids[position])], None, seen)
            values.append((range(position, position + 1), seen.values))
        for positions, taps in values:
            for row, position in enumerate(positions):
                keys, vectors = run.cache_row(2, position)
                for layer in range(2):
                    expected = taps[f"Kcur_rope-{layer}"][row].astype(dtype)
                    np.testing.assert_array_equal(keys[layer], expected)
                    np.testing.assert_array_equal(vectors[layer], taps[f"Vcur-{layer}"][row].astype(dtype))


def test_a_probe_sees_every_stage_in_order_and_changes_no_bit(tiny: Path) -> None:
    class Order(Recorder):
        def tap(self, name: str, layer: int, value: NDArray[np.float32]) -> None:
            order.append(name if layer < 0 else f"{name}-{layer}")
            super().tap(name, layer, value)

    order: list[str] = []
    token_ids = token_ids_of(20)
    with open_model(tiny, n_threads=2) as model:
        c = model.config
        fused = Run(model.llama).prefill(token_ids)
        probe = Order()
        observed = Run(model.llama).prefill(token_ids, probe=probe)
    np.testing.assert_array_equal(bits(observed), bits(fused))
    in_layer = ["attn_norm", "Qcur", "Kcur", "Vcur", "Qcur_rope", "Kcur_rope", "kq", "kq_soft_max", "kqv_out",
                "attn_out", "ffn_inp", "ffn_norm", "ffn_gate", "ffn_up", "ffn_swiglu", "ffn_out", "l_out"]  # fmt: skip
    expected = ["inp_embd", *(f"{n}-{i}" for i in range(2) for n in in_layer), "result_norm", "result_output"]
    assert order == expected
    v = probe.values
    n = len(token_ids)
    assert v["Qcur-0"].shape == (n, c.n_head, c.head_dim)
    assert v["Kcur_rope-1"].shape == (n, c.n_head_kv, c.head_dim)
    assert v["kq-0"].shape == v["kq_soft_max-1"].shape == (c.n_head, n, n)
    assert v["ffn_swiglu-0"].shape == (n, c.n_ff)
    np.testing.assert_array_equal(bits(v["result_output"]), bits(fused))
    np.testing.assert_array_equal(bits(v["l_out-0"]), bits(v["ffn_out-0"] + v["ffn_inp-0"]))


def test_each_stage_follows_from_the_one_before_it(tiny: Path) -> None:
    with open_model(tiny) as model:
        c, layer = model.config, model.weights.layers[1]
        probe = Recorder()
        Run(model.llama).prefill(token_ids_of(20), probe=probe)
        v = {k.removesuffix("-1"): x for k, x in probe.values.items() if k.endswith("-1")}
        x = probe.values["l_out-0"]
        np.testing.assert_array_equal(
            bits(v["attn_norm"]), bits(naive.rms_norm(x, layer.attn_norm, c.norm_eps))
        )
        q = naive.matmul_q8_0(layer.attn_q, v["attn_norm"])
        np.testing.assert_array_equal(bits(v["Qcur"]), bits(q.reshape(v["Qcur"].shape)))
        turned = naive.rotate(v["Kcur"].astype(np.float64), np.arange(20), c.n_rot, c.rope_freq_base)
        np.testing.assert_allclose(v["Kcur_rope"], turned, atol=1e-5)
        k = np.repeat(v["Kcur_rope"], c.n_head // c.n_head_kv, 1).astype(np.float64)
        kq = np.einsum("qhd,khd->hqk", v["Qcur_rope"].astype(np.float64), k)
        causal = np.tril(np.ones((20, 20), bool))
        np.testing.assert_allclose(v["kq"], np.where(causal, kq, 0), atol=1e-5)
        np.testing.assert_allclose(v["kq_soft_max"].sum(-1), 1, atol=1e-6)
        assert (v["kq_soft_max"][:, ~causal] == 0).all()
        q64, k64, v64 = (v[name].astype(np.float64) for name in ("Qcur_rope", "Kcur_rope", "Vcur"))
        mixed = naive.attend(q64, k64, v64)
        np.testing.assert_allclose(v["kqv_out"], mixed.reshape(20, -1), atol=1e-5)
        out = naive.matmul_q8_0(layer.attn_output, v["kqv_out"])
        np.testing.assert_array_equal(bits(v["attn_out"]), bits(out))
        np.testing.assert_array_equal(bits(v["ffn_inp"]), bits(out + x))


def test_a_probe_may_replace_what_it_sees(tiny: Path) -> None:
    """Stage-local validation puts the reference's values in place of ours."""

    class Replacing(Recorder):
        def tap(self, name: str, layer: int, value: NDArray[np.float32]) -> None:
            super().tap(name, layer, value)
            if (name, layer) == ("l_out", 0):
                value[:] = replacement

    token_ids = token_ids_of(12)
    with open_model(tiny) as model:
        seen = Recorder()
        other = Run(model.llama).prefill(token_ids_of(12, seed=1), probe=seen)
        replacement = seen.values["l_out-0"]
        np.testing.assert_array_equal(
            bits(Run(model.llama).prefill(token_ids, probe=Replacing())), bits(other)
        )


def test_only_wanted_rows_get_logits(tiny: Path) -> None:
    token_ids = token_ids_of(30)
    with open_model(tiny) as model:
        rows = [(0, i, t) for i, t in enumerate(token_ids)]
        assert Run(model.llama).forward(rows[:20], []).shape == (0, model.config.n_vocab)  # nothing before
        everything = Run(model.llama).forward(rows)
        some = Run(model.llama).forward(rows, [0, 7, 29])
        np.testing.assert_array_equal(bits(some), bits(everything[[0, 7, 29]]))
        run = Run(model.llama)
        assert run.forward(rows[:20], []).shape == (0, model.config.n_vocab)
        np.testing.assert_array_equal(bits(run.forward(rows[20:])), bits(everything[20:]))
        assert Run(model.llama).forward(rows, [], Recorder()).shape == (0, model.config.n_vocab)


@pytest.mark.parametrize("n_threads", [1, 3])
def test_every_instruction_is_stamped_by_every_thread(tiny: Path, n_threads: int) -> None:
    with open_model(tiny, n_threads=n_threads) as model:
        stamps = model.llama.new_stamps()
        run = Run(model.llama)
        rows = np.zeros(1, np.int32)
        batch = Batch.of(rows + 5, rows, rows, run.tables, rows)
        model.llama.forward(batch, run.cache, stamps=stamps)
        ticks = stamps.ticks
        assert ticks.shape == (len(model.llama.labels), n_threads, 2)
        assert (ticks[..., 1] >= ticks[..., 0]).all()
        assert (ticks > 0).all()
        assert (np.diff(ticks[:, 0, 0]) >= 0).all()


def test_a_closed_model_refuses_to_compute(tiny: Path) -> None:
    with open_model(tiny, n_threads=2) as model:
        run = Run(model.llama)
        run.prefill([1, 2, 3])
        model.llama.close()
        with pytest.raises(KernelError):
            run.prefill([1, 2, 3])


def test_batches_that_do_not_fit_are_refused(tiny: Path) -> None:
    with open_model(tiny, n_batch=8) as model:
        run = Run(model.llama)
        with pytest.raises(ValueError, match="1 to 8 rows, got 9"):
            run.forward([(0, i, 5) for i in range(9)])
        empty = np.zeros(0, np.int32)
        with pytest.raises(ValueError, match="1 to 8 rows, got 0"):
            model.llama.forward(Batch.of(empty, empty, empty, run.tables, empty), run.cache)


def test_two_models_run_side_by_side(tiny: Path, tmp_path: Path) -> None:
    other_path = tmp_path / "other.gguf"
    write_tiny_llama(other_path, type="F16", n_embd=96, n_head=6, n_head_kv=3, seed=4)
    token_ids = token_ids_of(25)
    with open_model(tiny, n_threads=2) as a, open_model(other_path, n_threads=3) as b:
        expected = [Run(model.llama).prefill(token_ids) for model in (a, b)]
        runs = [Run(model.llama) for model in (a, b)]
        for i, token in enumerate(token_ids):
            for run, wanted in zip(runs, expected, strict=True):
                np.testing.assert_array_equal(bits(run.forward([(0, i, token)])[0]), bits(wanted[i]))


def test_the_rope_table_grows_in_the_middle_of_a_sequence(tmp_path: Path) -> None:
    path = tmp_path / "long.gguf"
    write_tiny_llama(path, n_ctx_train=4096)
    with open_model(path) as model:
        token_ids = token_ids_of(300)
        whole = Run(model.llama, n_positions=320).prefill(token_ids)
    with open_model(path) as model:
        run = Run(model.llama, n_positions=320)
        rows = [(0, i, t) for i, t in enumerate(token_ids)]
        parts = [run.forward(rows[i : i + 100]) for i in range(0, 300, 100)]
    np.testing.assert_array_equal(bits(np.concatenate(parts)), bits(whole))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("token_ids", -1),
        ("token_ids", 1 << 20),
        ("positions", -1),
        ("positions", 1 << 20),
        ("slots", 1),
        ("slots", -1),
        ("output_rows", 1),
        ("output_rows", -1),
    ],
)
def test_a_batch_that_points_outside_is_refused_before_a_kernel_runs(
    tmp_path: Path, field: str, value: int
) -> None:
    fields = {name: np.zeros(1, np.int32) for name in ("token_ids", "positions", "slots", "output_rows")}
    fields[field][0] = value
    batch = Batch.of(block_tables=np.zeros((1, 2), np.int32), **fields)
    write_tiny_llama(tmp_path / "tiny.gguf")
    with open_model(tmp_path / "tiny.gguf") as model:
        cache = KVCache(model.config, 2)
        with pytest.raises(ValueError, match=field):
            model.llama.forward(batch, cache)


def test_a_forked_process_is_told_that_compute_threads_do_not_follow(tmp_path: Path) -> None:
    write_tiny_llama(tmp_path / "tiny.gguf")
    with open_model(tmp_path / "tiny.gguf", n_threads=2) as model:
        Run(model.llama).prefill([1, 5])
        read_end, write_end = os.pipe()
        child = os.fork()
        if child == 0:  # pragma: no cover - the child leaves through _exit
            try:
                Run(model.llama).prefill([1, 5])
            except KernelError as error:
                os.write(write_end, str(error).encode())
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        os.close(write_end)
        with os.fdopen(read_end) as pipe:
            assert "do not follow a fork" in pipe.read()
