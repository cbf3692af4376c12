"""What is recognised in exports: sizes and constants, names and places of weights."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from llorch.formats.onnx.recognise import Recognised, recognise
from llorch.quant.tensor import dequantize
from tests.support.onnx_exports import export_names, opened


@pytest.fixture
def found(request: pytest.FixtureRequest, tmp_path: Path) -> Recognised:
    with closing(opened(request.param, tmp_path)) as graph:
        return recognise(graph.graph, request.param)


of = pytest.mark.parametrize


@of("found", export_names(), indirect=True)
def test_sizes_and_epsilon_are_those_of_the_exported_model(found: Recognised) -> None:
    for key, value in {
        "general.architecture": "llama",
        "llama.embedding_length": 32,
        "llama.block_count": 2,
        "llama.feed_forward_length": 48,
        "llama.attention.head_count": 4,
    }.items():
        assert found.metadata[key] == value
    assert found.metadata["llama.vocab_size"] == found.tensors["token_embd.weight"].shape[0] in (64, 96)
    assert found.metadata["llama.attention.layer_norm_rms_epsilon"] in (np.float32(1e-5), np.float32(1e-6))


@of(
    ("found", "heads", "width"),
    [("torchscript", 2, 8), ("torchscript_past", 1, 8), ("dynamo_latest", 2, 16)],
    indirect=["found"],
)
def test_heads_that_share_keys_are_counted(found: Recognised, heads: int, width: int) -> None:
    assert found.metadata["llama.attention.head_count_kv"] == heads
    assert found.metadata["llama.attention.key_length"] == width


@of(
    ("found", "base"),
    [("torchscript", 1e4), ("dynamo", 5e5), ("genai", 1e4), ("genai_f16", 1e4), ("dynamo_f16", 1e4)],
    indirect=["found"],
)
def test_the_base_of_rope_is_read_from_its_angles(found: Recognised, base: float) -> None:
    assert found.metadata["llama.rope.freq_base"] == base


@of("found", ["torchscript_linear"], indirect=True)
def test_linear_scaling_is_a_factor(found: Recognised) -> None:
    assert found.metadata["llama.rope.scaling.type"] == "linear"
    assert found.metadata["llama.rope.scaling.factor"] == 2.0
    assert "rope_freqs.weight" not in found.tensors


@of("found", ["dynamo_past", "optimum_past", "dynamo_attention"], indirect=True)
def test_other_scalings_are_divisors_of_the_frequencies(found: Recognised) -> None:
    divisors = dequantize(found.tensors["rope_freqs.weight"])
    assert divisors.shape == (4,)
    assert not np.allclose(divisors, 1.0)


@of("found", ["dynamo_attention"], indirect=True)
def test_yarns_factor_on_scores_is_kept(found: Recognised) -> None:
    assert found.metadata["llama.rope.scaling.attn_factor"] == pytest.approx(
        0.1 * np.log(4.0) + 1.0, rel=1e-5
    )


@of("found", ["torchscript_unfolded", "dynamo"], indirect=True)
def test_a_tied_head_is_no_tensor_of_its_own(found: Recognised) -> None:
    assert "output.weight" not in found.tensors


@of("found", ["torchscript_biases"], indirect=True)
def test_biases_of_all_products_are_found(found: Recognised) -> None:
    names = {name for name in found.tensors if name.startswith("blk.1.") and name.endswith(".bias")}
    parts = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    assert names == {f"blk.1.{part}.bias" for part in parts}


@of("found", ["genai"], indirect=True)
def test_projections_that_share_a_matrix_are_rows_of_it(found: Recognised) -> None:
    q, k, v = (found.tensors[f"blk.0.attn_{part}.weight"] for part in "qkv")
    assert q.data.ctypes.data == k.data.ctypes.data == v.data.ctypes.data
    assert q.placement is not None
    assert k.placement is not None
    assert v.placement is not None
    assert q.placement.n_stored == 128
    assert q.placement.row_order[:4].tolist() == [0, 8, 1, 9]
    assert k.placement.row_order[:4].tolist() == [64, 72, 65, 73]
    assert v.placement.row_order[:4].tolist() == [96, 97, 98, 99]


@of("found", ["torchscript"], indirect=True)
def test_matrices_are_views_of_the_file(found: Recognised) -> None:
    matrices = [tensor for tensor in found.tensors.values() if len(tensor.shape) == 2]
    assert matrices
    assert all(not tensor.data.flags.owndata and not tensor.data.flags.writeable for tensor in matrices)
