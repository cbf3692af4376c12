"""Stored tensors are matched with the config, and appear as GGUF has them without a copy of a matrix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llorch.errors import ModelError
from llorch.formats.hugging_face.compressed import Int8Channels
from llorch.formats.hugging_face.config import read_config
from llorch.formats.hugging_face.stored_tensors import StoredTensor, match_tensors, rope_row_order
from llorch.formats.safetensors.file import SafetensorsFile
from llorch.quant.tensor import dequantize
from tests.support.hf_directories import CONFIG, random_tensors
from tests.support.safetensors_writer import write_safetensors

Q, K = "model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.k_proj"


def stored(
    folder: Path,
    entries: dict[str, Any] | None = None,
    change: dict[str, Any] | None = None,
    int8: Int8Channels | None = None,
) -> dict[str, StoredTensor]:
    """The tensors of a tiny model, some of them changed; None takes one away."""
    config = {**CONFIG, **(entries or {})}
    tensors = {**random_tensors(config, {"": "F32"}), **(change or {})}
    path = folder / "model.safetensors"
    write_safetensors(path, {name: tensor for name, tensor in tensors.items() if tensor is not None})
    return match_tensors(
        [SafetensorsFile(path)], read_config(config, "config.json").sizes, int8, "config.json"
    )


def permuted(values: Any, n_head: int) -> Any:
    """Rows as GGUF has them, by the definition: of a head, row i and row half + i become neighbours."""
    heads = np.split(values, n_head)
    pairs = [np.stack(np.split(head, 2), axis=1).reshape(head.shape) for head in heads]
    return np.concatenate(pairs)


def test_rows_of_queries_and_keys_come_in_ggufs_order_without_a_copy(tmp_path: Path) -> None:
    found = stored(tmp_path, {"attention_bias": True})
    values = {
        name: tensor
        for name, (_, tensor) in random_tensors({**CONFIG, "attention_bias": True}, {"": "F32"}).items()
    }
    for gguf, name, n_head in (("blk.0.attn_q", Q, 4), ("blk.1.attn_k", K, 2)):
        matrix, bias = (found[f"{gguf}.{kind}"].tensor() for kind in ("weight", "bias"))
        assert np.array_equal(dequantize(matrix), permuted(values[f"{name}.weight"], n_head))
        assert np.array_equal(dequantize(bias), permuted(values[f"{name}.bias"], n_head))
        assert not matrix.data.flags.owndata
        assert matrix.data.ctypes.data == found[f"{gguf}.weight"].file.raw(f"{name}.weight").ctypes.data
    assert found["blk.0.attn_v.weight"].tensor().placement is None


def test_layers_share_the_order_of_their_rows() -> None:
    assert rope_row_order(64, 4) is rope_row_order(64, 4)
    assert rope_row_order(8, 2).tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


def test_what_is_listed_is_what_is_stored(tmp_path: Path) -> None:
    infos = stored(tmp_path, change={f"{Q}.weight": ("F64", np.zeros((64, 64)))})
    info = infos["blk.0.attn_q.weight"]
    assert (info.name, info.type_name, info.shape, info.n_bytes) == (
        "blk.0.attn_q.weight",
        "F64",
        (64, 64),
        32768,
    )


@pytest.mark.parametrize("keeps_embedding", [True, False])
def test_a_tied_head_may_be_stored_under_either_name(tmp_path: Path, keeps_embedding: bool) -> None:
    table = random_tensors(CONFIG, {"": "F32"})["model.embed_tokens.weight"]
    other = ("F32", np.zeros((384, 64), np.float32))
    both = {"model.embed_tokens.weight": table, "lm_head.weight": other}
    change = both if keeps_embedding else {"model.embed_tokens.weight": None, "lm_head.weight": table}
    found = stored(tmp_path, {"tie_word_embeddings": True}, change)
    assert "output.weight" not in found
    assert np.array_equal(dequantize(found["token_embd.weight"].tensor()), table[1])


def test_tables_of_old_versions_are_passed_over(tmp_path: Path) -> None:
    table = ("F32", np.ones(8, np.float32))
    found = stored(tmp_path, change={"model.layers.0.self_attn.rotary_emb.inv_freq": table})
    assert not any("rot" in name for name in found)


@pytest.mark.parametrize(
    ("entries", "change", "fault"),
    [
        ({}, {"model.norm.weight": None}, "tensor 'model.norm.weight' is missing, which config.json implies"),
        ({}, {"lm_head.weight": None}, "tensor 'lm_head.weight' is missing"),
        (
            {"num_hidden_layers": 3},
            {"model.layers.2.mlp.up_proj.weight": None},
            "'model.layers.2.mlp.up_proj.weight'",
        ),
        ({"attention_bias": True}, {f"{Q}.bias": None}, f"tensor '{Q}.bias' is missing"),
        ({}, {f"{Q}.bias": ("F32", np.ones(64, np.float32))}, "attention_bias is not true"),
        (
            {},
            {"model.layers.2.input_layernorm.weight": ("F32", np.ones(64, np.float32))},
            "num_hidden_layers is 2",
        ),
        (
            {},
            {"model.layers.0.self_attn.q_norm.weight": ("F32", np.ones(64, np.float32))},
            "not part of a Llama",
        ),
        (
            {},
            {f"{Q}.weight": ("F32", np.ones((64, 32), np.float32))},
            "model.safetensors: tensor 'model.layers.0.self_attn.q_proj.weight' has shape (64, 32), but config.json "
            "implies (64, 64) (num_attention_heads * head_dim × hidden_size)",
        ),
        (
            {},
            {"model.norm.weight": ("F32", np.ones((64, 1), np.float32))},
            "has shape (64, 1), but config.json",
        ),
        ({}, {f"{Q}.weight_scale": ("F32", np.ones((64, 1), np.float32))}, "not part of a Llama"),
    ],
)
def test_a_tensor_that_contradicts_the_config_is_named(
    tmp_path: Path, entries: dict[str, Any], change: dict[str, Any], fault: str
) -> None:
    with pytest.raises(ModelError) as caught:
        stored(tmp_path, entries, change)
    assert fault in str(caught.value)


@pytest.mark.parametrize(
    ("dtype", "array", "fault"),
    [
        ("F64", np.ones((64, 64)), "has dtype F64, which llorch does not run; write the model again in BF16"),
        (
            "F8_E4M3",
            np.ones((64, 64), np.uint8),
            "has dtype F8_E4M3, and config.json has no quantization_config",
        ),
        ("I8", np.ones((64, 64), np.int8), "has dtype I8, and config.json has no quantization_config"),
        ("U8", np.ones((64, 64), np.uint8), "has dtype U8, which llorch does not run"),
    ],
)
def test_a_type_that_llorch_cannot_run_is_named_with_the_next_step(
    tmp_path: Path, dtype: str, array: Any, fault: str
) -> None:
    found = stored(tmp_path, change={f"{Q}.weight": (dtype, array)})
    with pytest.raises(ModelError) as caught:
        found["blk.0.attn_q.weight"].tensor()
    assert fault in str(caught.value)


def test_int8_weights_take_their_scales_in_the_order_of_their_rows(tmp_path: Path) -> None:
    weight = np.arange(64 * 64, dtype=np.int64).reshape(64, 64).astype(np.int8)
    scales = np.arange(1, 65, dtype=np.float32).reshape(64, 1)
    change = {f"{Q}.weight": ("I8", weight), f"{Q}.weight_scale": ("F32", scales)}
    found = stored(tmp_path, change=change, int8=Int8Channels("config.json"))
    values = dequantize(found["blk.0.attn_q.weight"].tensor())
    assert np.array_equal(values, permuted(weight.astype(np.float32) * scales, 4))


@pytest.mark.parametrize("shape", [(), (63,), (64, 2), (1, 64), (64, 1, 1)])
def test_int8_weights_with_another_number_of_scales_are_refused(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    change = {
        f"{Q}.weight": ("I8", np.ones((64, 64), np.int8)),
        f"{Q}.weight_scale": ("F32", np.ones(shape, np.float32)),
    }
    with pytest.raises(ModelError, match="instead of one scale a row"):
        stored(tmp_path, change=change, int8=Int8Channels("config.json"))


def test_int8_weights_without_scales_are_refused(tmp_path: Path) -> None:
    change = {f"{Q}.weight": ("I8", np.ones((64, 64), np.int8))}
    with pytest.raises(ModelError, match=f"there is no '{Q}.weight_scale'"):
        stored(tmp_path, change=change, int8=Int8Channels("config.json"))
