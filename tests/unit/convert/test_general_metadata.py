"""Names and sizes of models are those that llama.cpp's converter writes."""

from __future__ import annotations

import gguf
import pytest

from llorch.convert.general_metadata import size_label, title_of


@pytest.mark.parametrize(
    "count", [0, 1, 999, 1_000, 9_949, 655_872, 1_000_000, 1_000_001, 134_515_008, 999_999_999, 1_100_048_384,
              8_030_261_248, 70_553_706_496, 405_853_388_800, 1_000_000_000_001],
)  # fmt: skip
def test_sizes_are_rounded_as_by_the_gguf_package(count: int) -> None:
    assert size_label(count) == gguf.size_label(count, count, 0, 0)


@pytest.mark.parametrize(
    "name",
    [
        "SmolLM2-135M-Instruct",
        "tinystories-656k",
        "tiny-llama-v1.0",
        "a--b",
        "Llama_2 7b",
        "phi-3d-x",
        "v2x-1",
        "ünï",
    ],
)
def test_names_are_the_words_of_the_gguf_package(name: str) -> None:
    assert title_of(name) == gguf.Metadata.id_to_title(name)


def test_the_owner_of_a_repository_is_left_out() -> None:
    assert title_of("meta-llama/llama-2-7b") == "Llama 2 7b"
