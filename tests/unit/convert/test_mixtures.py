"""Which tensor gets which type."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from llorch.convert.mixtures import ALIASES, FILE_TYPES, choose_type, file_type
from llorch.errors import InputError
from llorch.model.config import ModelConfig
from llorch.quant.types import SUPPORTED
from tests.support.model_configs import SMALLEST


def config_of(n_layer: int = 32, n_head: int = 8, n_head_kv: int = 8) -> ModelConfig:
    return replace(SMALLEST, n_layer=n_layer, n_head=n_head, n_head_kv=n_head_kv)


def chosen(
    name: str,
    wanted: str,
    n_in: int = 256,
    *,
    config: ModelConfig | None = None,
    is_tied: bool = False,
    is_pure: bool = False,
) -> str | None:
    quant = choose_type(
        name, (512, n_in), file_type(wanted), config or config_of(), is_tied=is_tied, is_pure=is_pure
    )
    return quant.name if quant else None


def layers_with(quant: str, role: str, wanted: str, n_layer: int = 32) -> list[int]:
    config = config_of(n_layer)
    return [i for i in range(n_layer) if chosen(f"blk.{i}.{role}.weight", wanted, config=config) == quant]


@pytest.mark.parametrize("wanted", ["Q4_K_M", "Q5_K_M"])
@pytest.mark.parametrize("role", ["attn_v", "ffn_down"])
def test_medium_mixtures_give_more_bits_to_the_first_and_last_layers_and_every_third(
    wanted: str, role: str
) -> None:
    assert layers_with("Q6_K", role, wanted) == [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31]
    assert layers_with(wanted[:4], role, wanted) == [
        4,
        5,
        7,
        8,
        10,
        11,
        13,
        14,
        16,
        17,
        19,
        20,
        22,
        23,
        25,
        26,
    ]
    assert layers_with(wanted[:4], "attn_q", wanted) == list(range(32))


@pytest.mark.parametrize(
    ("wanted", "role", "quant", "layers"),
    [
        ("Q3_K_M", "attn_v", "Q5_K", [0, 1]),
        ("Q3_K_M", "ffn_down", "Q5_K", [0, 1]),
        ("Q3_K_M", "attn_output", "Q4_K", list(range(32))),
        ("Q3_K_M", "attn_k", "Q3_K", list(range(32))),
        ("Q3_K_L", "ffn_down", "Q5_K", list(range(32))),
        ("Q3_K_S", "ffn_down", "Q3_K", list(range(32))),
        ("Q4_K_S", "attn_v", "Q5_K", [0, 1, 2, 3]),
        ("Q4_K_S", "ffn_down", "Q5_K", [0, 1, 2, 3]),
        ("Q5_K_S", "ffn_down", "Q5_K", list(range(32))),
        ("Q6_K", "ffn_down", "Q6_K", list(range(32))),
        ("Q4_0", "ffn_down", "Q4_0", list(range(32))),
    ],
)
def test_other_mixtures(wanted: str, role: str, quant: str, layers: list[int]) -> None:
    assert layers_with(quant, role, wanted) == layers


@pytest.mark.parametrize(
    ("name", "wanted", "options", "quant"),
    [
        ("output.weight", "Q4_K_M", {}, "Q6_K"),
        ("output.weight", "Q4_0", {}, "Q6_K"),
        ("output.weight", "Q8_0", {}, "Q8_0"),
        ("output.weight", "F16", {}, "F16"),
        ("token_embd.weight", "Q4_K_M", {}, "Q4_K"),
        ("token_embd.weight", "Q4_K_M", {"is_tied": True}, "Q6_K"),
        ("token_embd.weight", "Q4_K_M", {"is_tied": True, "is_pure": True}, "Q4_K"),
        ("output.weight", "Q4_0", {"is_pure": True}, "Q4_0"),
        ("blk.0.ffn_down.weight", "Q4_K_M", {"is_pure": True}, "Q4_K"),
        ("output.weight", "Q4_K_M", {"n_in": 288}, "Q8_0"),
        ("output.weight", "Q4_0", {"n_in": 288}, "Q8_0"),
        ("blk.0.attn_q.weight", "Q3_K_M", {"n_in": 288}, "Q4_0"),
        ("blk.0.attn_q.weight", "Q4_K_M", {"n_in": 288}, "Q5_0"),
        ("blk.0.attn_q.weight", "Q5_K_M", {"n_in": 288}, "Q5_1"),
        ("blk.0.attn_q.weight", "Q6_K", {"n_in": 288}, "Q8_0"),
        ("blk.0.attn_q.weight", "Q6_K", {"n_in": 24}, "F16"),
        ("blk.0.attn_q.weight", "Q4_0", {"n_in": 24}, "F16"),
        ("blk.0.attn_q.weight", "BF16", {"n_in": 24}, "BF16"),
        ("blk.0.attn_norm.weight", "Q4_0", {}, None),
        ("blk.0.attn_q.bias", "Q4_0", {}, None),
    ],
)
def test_single_tensors(name: str, wanted: str, options: dict[str, Any], quant: str | None) -> None:
    assert chosen(name, wanted, **options) == quant


def test_vectors_stay_as_they_are_whatever_their_name() -> None:
    for shape in [(256,), (1, 256)]:
        wanted = file_type("Q4_0")
        assert (
            choose_type("rope_freqs.weight", shape, wanted, config_of(), is_tied=False, is_pure=False) is None
        )


def test_shared_values_of_the_70b_models_get_more_bits() -> None:
    shared, apart = config_of(80, 64, 8), config_of(80, 64, 64)
    assert chosen("blk.12.attn_v.weight", "Q4_K_M", config=shared) == "Q6_K"
    assert chosen("blk.10.attn_v.weight", "Q4_K_M", config=shared) == "Q5_K"
    assert chosen("blk.10.attn_v.weight", "Q4_K_M", config=apart) == "Q4_K"
    assert chosen("blk.10.attn_q.weight", "Q4_K_M", config=shared) == "Q4_K"


def test_names_are_found_in_upper_and_lower_case_and_short() -> None:
    for row in FILE_TYPES:
        assert file_type(row.name.lower()) is row
        assert row.quant in SUPPORTED.values()
    assert [file_type(alias).name for alias in ALIASES] == ["Q3_K_M", "Q4_K_M", "Q5_K_M"]


@pytest.mark.parametrize("name", ["IQ2_XXS", "q9", "", "Q4_K_M "])
def test_an_unknown_type_is_refused_with_the_list(name: str) -> None:
    with pytest.raises(InputError, match=r"cannot be written; choose one of F32, F16, .*Q4_K_M"):
        file_type(name)
