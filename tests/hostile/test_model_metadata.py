"""Models with false metadata: one clear error that names the key or tensor, quickly, before any kernel runs."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from llorch.errors import ModelError
from llorch.formats.source import open_source
from tests.support.refusals import refusal
from tests.support.small_models import Run, open_model
from tests.support.tiny_models import write_tiny_llama

RESIDENCES = pytest.mark.parametrize("residence", ["packed", "mapped"])


HUGE = 2**31 - 1

BAD_METADATA: list[tuple[str, Any, str]] = [
    ("general.architecture", "gpt2", "'gpt2' is not supported"),
    ("general.architecture", "q" * 1000, "... is not supported"),
    ("llama.embedding_length", 0, "llama.embedding_length"),
    ("llama.embedding_length", HUGE, "llama.embedding_length"),
    ("llama.embedding_length", 65, "4 heads do not share llama.embedding_length 65"),
    ("llama.embedding_length", 128, "token_embd.weight"),
    ("llama.embedding_length", None, "llama.embedding_length"),
    ("llama.block_count", 0, "llama.block_count"),
    ("llama.block_count", HUGE, "llama.block_count"),
    ("llama.block_count", 1 << 24, "blk.1."),
    ("llama.block_count", 2, "blk.1."),
    ("llama.block_count", None, "llama.block_count"),
    ("llama.attention.head_count", 0, "llama.attention.head_count"),
    ("llama.attention.head_count", 3, "head_count"),
    ("llama.attention.head_count", 8, "llama.rope.dimension_count"),
    ("llama.attention.head_count", HUGE, "llama.attention.head_count"),
    ("llama.attention.head_count", None, "llama.attention.head_count"),
    ("llama.attention.head_count_kv", 0, "llama.attention.head_count_kv"),
    ("llama.attention.head_count_kv", 3, "llama.attention.head_count_kv"),
    ("llama.attention.head_count_kv", 8, "llama.attention.head_count_kv"),
    ("llama.attention.head_count_kv", 4, "attn_k.weight"),
    ("llama.attention.key_length", 0, "llama.attention.key_length"),
    ("llama.attention.key_length", 1 << 20, "attn"),
    ("llama.attention.value_length", 8, "llama.attention.value_length"),
    ("llama.feed_forward_length", 0, "llama.feed_forward_length"),
    ("llama.feed_forward_length", 64, "ffn_gate.weight"),
    ("llama.feed_forward_length", HUGE, "llama.feed_forward_length"),
    ("llama.context_length", 0, "llama.context_length"),
    ("llama.rope.dimension_count", 0, "llama.rope.dimension_count"),
    ("llama.rope.dimension_count", 7, "llama.rope.dimension_count"),
    ("llama.rope.dimension_count", 18, "llama.rope.dimension_count"),
    ("llama.rope.dimension_count", HUGE, "llama.rope.dimension_count"),
    ("llama.rope.freq_base", float("nan"), "llama.rope.freq_base"),
    ("llama.rope.freq_base", float("inf"), "llama.rope.freq_base"),
    ("llama.rope.freq_base", 0.0, "llama.rope.freq_base"),
    ("llama.rope.freq_base", -10000.0, "llama.rope.freq_base"),
    (
        "llama.rope.scaling.type",
        "longrope",
        "'longrope' is not supported, expected 'none', 'linear' or 'yarn'",
    ),
    ("llama.rope.scaling.type", 7, "llama.rope.scaling.type: 7 is not supported"),
    ("llama.rope.scaling.type", ["yarn"], "llama.rope.scaling.type: "),
    ("llama.rope.scaling.attn_factor", 0.0, "llama.rope.scaling.attn_factor"),
    ("llama.rope.scaling.attn_factor", float("nan"), "llama.rope.scaling.attn_factor"),
    ("llama.rope.scaling.factor", float("nan"), "llama.rope.scaling.factor"),
    ("llama.rope.scaling.factor", -2.0, "llama.rope.scaling.factor"),
    ("llama.attention.layer_norm_rms_epsilon", float("nan"), "layer_norm_rms_epsilon"),
    ("llama.attention.layer_norm_rms_epsilon", float("inf"), "layer_norm_rms_epsilon"),
    ("llama.attention.layer_norm_rms_epsilon", -1e-5, "layer_norm_rms_epsilon"),
    ("llama.attention.layer_norm_rms_epsilon", 0.0, "layer_norm_rms_epsilon"),
    ("llama.attention.layer_norm_rms_epsilon", None, "layer_norm_rms_epsilon"),
    ("llama.expert_count", 8, "llama.expert_count"),
]


@pytest.mark.parametrize(("key", "value", "named"), BAD_METADATA, ids=lambda v: str(v)[:40])
def test_a_size_or_constant_that_cannot_be_is_refused(
    tmp_path: Path, key: str, value: Any, named: str
) -> None:
    assert named in refusal(tmp_path / "bad.gguf", overrides={key: value})


@pytest.mark.parametrize("value", ["four", True, 4.0])
def test_a_size_of_the_wrong_type_is_refused(tmp_path: Path, value: Any) -> None:

    kind = gguf.GGUFValueType.get_type(value)
    message = refusal(tmp_path / "bad.gguf", overrides={"llama.attention.head_count": (kind, value)})
    assert "llama.attention.head_count" in message


TINY = ["token_embd.weight", "output_norm.weight", "blk.0.attn_norm.weight", "blk.0.attn_q.weight",
        "blk.0.attn_k.weight", "blk.0.attn_v.weight", "blk.0.attn_output.weight", "blk.0.ffn_norm.weight",
        "blk.0.ffn_gate.weight", "blk.0.ffn_up.weight", "blk.0.ffn_down.weight"]  # fmt: skip


@pytest.mark.parametrize("name", TINY)
def test_a_missing_tensor_is_named(tmp_path: Path, name: str) -> None:
    message = refusal(tmp_path / "bad.gguf", tensor_overrides={name: None})
    assert repr(name) in message
    assert "missing" in message


@pytest.mark.parametrize("name", [*TINY, "output.weight"])
@pytest.mark.parametrize("change", ["transposed", "one row less", "a dimension more", "flat"])
def test_a_tensor_of_another_shape_is_named(tmp_path: Path, name: str, change: str) -> None:
    n_out = {"token_embd.weight": 320, "output.weight": 320, "blk.0.attn_k.weight": 32, "blk.0.attn_v.weight": 32,
             "blk.0.ffn_gate.weight": 96, "blk.0.ffn_up.weight": 96}  # fmt: skip
    shape: tuple[int, ...] = (64,) if "norm" in name else (n_out.get(name, 64), 96 if "down" in name else 64)
    shapes: Mapping[str, tuple[int, ...]] = {
        "transposed": shape[::-1] if len(set(shape)) > 1 else (2 * shape[0], *shape[1:]),
        "one row less": (shape[0] - 1, *shape[1:]),
        "a dimension more": (1, *shape) if len(shape) == 1 else (*shape, 32),
        "flat": (int(np.prod(shape)) * 2,),
    }
    message = refusal(
        tmp_path / "bad.gguf", type="F32", tensor_overrides={name: np.zeros(shapes[change], np.float32)}
    )
    assert repr(name) in message
    assert "shape" in message


@pytest.mark.parametrize(
    "name",
    [
        "blk.1.attn_q.bias",
        "blk.0.attn_norm.bias",
        "output.bias",
        "blk.1.attn_q.weight",
        "blk.0.ffn_gate_inp.weight",
        "x",
    ],
)
def test_a_tensor_that_does_not_belong_is_named(tmp_path: Path, name: str) -> None:
    message = refusal(tmp_path / "bad.gguf", tensor_overrides={name: np.zeros(32, np.float32)})
    assert repr(name) in message


@pytest.mark.parametrize("name", ["blk.0.attn_rot_embd.weight", "blk.0.attn.rotary_emb.inv_freq"])
def test_tables_that_old_converters_left_are_ignored(tmp_path: Path, name: str) -> None:
    path = tmp_path / "old.gguf"
    write_tiny_llama(path, tensor_overrides={name: np.zeros(8, np.float32)})
    with open_model(path) as model:
        assert np.isfinite(Run(model.llama).prefill([1, 2, 3])).all()


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_rope_factors_that_divide_by_nothing_are_refused(tmp_path: Path, bad: float) -> None:
    factors = np.ones(8, np.float32)
    factors[5] = bad
    message = refusal(tmp_path / "bad.gguf", tensor_overrides={"rope_freqs.weight": factors})
    assert "rope_freqs.weight" in message


def test_rope_factors_of_another_number_are_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path / "bad.gguf", tensor_overrides={"rope_freqs.weight": np.ones(16, np.float32)})
    assert "rope_freqs.weight" in message


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["blk.0.attn_norm.weight", "output_norm.weight"])
def test_a_norm_that_is_no_number_is_named(tmp_path: Path, name: str, bad: float) -> None:
    values = np.ones(64, np.float32)
    values[17] = bad
    message = refusal(tmp_path / "bad.gguf", tensor_overrides={name: values})
    assert repr(name) in message
    assert "17" in message


def spoil(path: Path, name: str, element: int, value: int) -> None:
    """Overwrite a float16 in the data of a tensor: the scale of a Q8_0 block, or an element."""
    with closing(open_source(path)) as source:
        tensor = source.tensors[name]
        content = path.read_bytes()
        start = content.find(tensor.data.tobytes())
    assert start > 0
    size = tensor.type.block_bytes
    spoilt = bytearray(content)
    spoilt[start + element * size : start + element * size + 2] = value.to_bytes(2, "little")
    path.write_bytes(spoilt)


@RESIDENCES
@pytest.mark.parametrize("scale", [0x7C00, 0xFC00, 0x7E01], ids=["inf", "-inf", "nan"])
@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("blk.0.attn_q.weight", 0),
        ("blk.0.ffn_down.weight", 191),
        ("output.weight", 77),
        ("token_embd.weight", 639),
    ],
)
def test_a_block_scale_that_is_no_number_is_named(
    tmp_path: Path, residence: str, name: str, block: int, scale: int
) -> None:
    path = tmp_path / "bad.gguf"
    write_tiny_llama(path)
    spoil(path, name, block, scale)
    with pytest.raises(ModelError) as caught, open_model(path, residence=residence):
        pass
    assert repr(name) in str(caught.value)
    assert f"block {block} " in str(caught.value)


@RESIDENCES
@pytest.mark.parametrize(
    ("kind", "value"), [("F16", 0x7E00), ("F16", 0xFC00), ("BF16", 0x7F80), ("BF16", 0xFFC1)]
)
@pytest.mark.parametrize("name", ["blk.0.attn_k.weight", "token_embd.weight"])
def test_a_float_weight_that_is_no_number_is_named(
    tmp_path: Path, residence: str, kind: str, value: int, name: str
) -> None:
    path = tmp_path / "bad.gguf"
    write_tiny_llama(path, type=kind)
    spoil(path, name, 333, value)
    with pytest.raises(ModelError) as caught, open_model(path, residence=residence):
        pass
    assert repr(name) in str(caught.value)
    assert "333" in str(caught.value)


@RESIDENCES
def test_a_bad_scale_in_a_tied_embedding_is_named(tmp_path: Path, residence: str) -> None:
    path = tmp_path / "bad.gguf"
    write_tiny_llama(path, tied=True)
    spoil(path, "token_embd.weight", 100, 0x7C00)
    with (
        pytest.raises(ModelError, match=r"'token_embd.weight'.*block 100 "),
        open_model(path, residence=residence),
    ):
        pass


@RESIDENCES
def test_denormal_and_huge_but_finite_scales_are_computed_with(tmp_path: Path, residence: str) -> None:
    """The logits may overflow, but nothing hangs or crashes."""
    path = tmp_path / "odd.gguf"
    write_tiny_llama(path)
    spoil(path, "blk.0.attn_q.weight", 3, 0x0001)
    spoil(path, "blk.0.attn_v.weight", 4, 0x7BFF)
    with open_model(path, residence=residence) as model:
        assert Run(model.llama).prefill([1, 5, 9]).shape == (3, 320)


@pytest.mark.parametrize(
    ("key", "value"),
    [("llama.rope.freq_base", 1e-40), ("llama.rope.freq_base", 3e38), ("llama.rope.scaling.factor", 1e-45),
     ("llama.attention.layer_norm_rms_epsilon", 1e-45), ("llama.rope.scaling.factor", 3e38),
     ("llama.rope.scaling.attn_factor", 3e38), ("llama.rope.scaling.original_context_length", 1 << 24)],
)  # fmt: skip
@pytest.mark.parametrize("scaling", ["linear", "yarn"])
def test_absurd_but_finite_constants_are_computed_with_quietly(
    tmp_path: Path, key: str, value: float, scaling: str
) -> None:
    """No warning either: warnings are errors here. NaN logits are the engine's to report."""
    path = tmp_path / "odd.gguf"
    write_tiny_llama(path, overrides={"llama.rope.scaling.type": scaling, key: value})
    with open_model(path) as model:
        assert Run(model.llama).prefill([1, 5, 9]).shape == (3, 320)
