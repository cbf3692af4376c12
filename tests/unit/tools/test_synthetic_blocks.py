"""Random blocks decode to plain weights, and each file type has the formats that `llama-quantize` gives it."""

from __future__ import annotations

import collections
from pathlib import Path

import gguf
import numpy as np
import pytest

from tests.support.tiny_models import write_tiny_llama
from tools.performance import synthetic_blocks
from tools.performance.gguf_keys import file_type
from tools.performance.make_synthetic import SyntheticError, make_synthetic
from tools.performance.synthetic_blocks import FILE_TYPES, WEIGHT_STD, BlockType
from tools.performance.synthetic_shapes import Shape

SMALL = Shape("x", n_embd=256, n_layer=22, n_head=4, n_head_kv=2, n_ff=512, n_vocab=320, n_ctx_train=64)
MORE_BITS = (0, 1, 4, 7, 10, 13, 16, 19, 20, 21)
"""Layers of 22 whose `attn_v` and `ffn_down` are Q6_K in the Q4_K_M that llama-quantize makes."""

SCALES = {"Q8_0": (0,), "Q4_0": (0,), "Q4_K": (0, 2), "Q6_K": (208,)}
"""Offsets of the float16 scales in a block."""


@pytest.mark.parametrize("name", SCALES)
def test_random_blocks_are_plain_weights_with_normal_scales(name: str) -> None:
    blocks: BlockType = getattr(synthetic_blocks, name)
    pool = blocks.random(np.random.default_rng(0), 1000)
    assert pool.shape == (1000, blocks.block_bytes)
    quant = gguf.GGMLQuantizationType(blocks.ggml_id)
    assert quant.name == name
    assert gguf.GGML_QUANT_SIZES[quant] == (blocks.block_size, blocks.block_bytes)
    for offset in SCALES[name]:
        scales = pool[:, offset : offset + 2].copy().view("<f2").astype(np.float32)
        assert np.isfinite(scales).all()
        assert scales.min() > np.finfo(np.float16).tiny
    values = gguf.quants.dequantize(pool.reshape(1, -1), quant)
    assert np.isfinite(values).all()
    assert 0.7 * WEIGHT_STD < values.std() < 1.6 * WEIGHT_STD
    assert abs(values.mean()) < WEIGHT_STD / 2


def made(folder: Path, shape: Shape, kind: str) -> Path:
    vocabulary, out = folder / "vocabulary.gguf", folder / "out.gguf"
    write_tiny_llama(vocabulary, n_vocab=320)
    make_synthetic(shape, vocabulary, out, name="x", file_type=kind)
    return out


@pytest.mark.parametrize("kind", FILE_TYPES)
def test_a_file_of_each_type_has_the_formats_of_llama_quantize(tmp_path: Path, kind: str) -> None:
    out = made(tmp_path, SMALL, kind)
    assert file_type(out) == kind.upper()
    types = {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(str(out)).tensors}
    usual = {"q4_k_m": "Q4_K"}.get(kind, kind.upper())
    expected = {name: "F32" if "norm" in name else usual for name in types}
    expected["output.weight"] = "Q8_0" if kind == "q8_0" else "Q6_K"
    if kind == "q4_k_m":
        expected |= {f"blk.{i}.{role}.weight": "Q6_K" for i in MORE_BITS for role in ("attn_v", "ffn_down")}
    assert types == expected


def test_rows_that_are_no_whole_blocks_are_refused_or_get_another_format(tmp_path: Path) -> None:
    """A Q4_0 file of such rows has its logits in Q8_0, as llama-quantize makes it."""
    shape = Shape("x", n_embd=96, n_layer=1, n_head=3, n_head_kv=3, n_ff=96, n_vocab=320, n_ctx_train=64)
    with pytest.raises(SyntheticError, match="rows of 96 values are not whole blocks of 256"):
        made(tmp_path, shape, "q4_k_m")
    tensors = gguf.GGUFReader(str(made(tmp_path, shape, "q4_0"))).tensors
    assert collections.Counter(tensor.tensor_type.name for tensor in tensors) == {
        "F32": 3,
        "Q4_0": 8,
        "Q8_0": 1,
    }
