"""Perplexity and divergence against what llama-perplexity prints.

In llama.cpp's order of additions every digit is the same. In llorch's own order the last bits of sums differ, which
moves a perplexity by less than 0.1 %.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.support.perplexity import FOLDER, figures, golden, perplexity, text_of

TOLERANCE = 1e-3


@pytest.fixture(scope="module")
def letters(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The text of the small models."""
    path = tmp_path_factory.mktemp("text") / "letters.txt"
    path.write_bytes(text_of(golden("stories260K-f32"), models_dir))
    return path


def test_in_llama_cpp_s_order_a_perplexity_has_the_digits_that_llama_perplexity_prints_after_every_chunk(
    model_path: Callable[[str], Path], letters: Path
) -> None:
    wanted = golden("tinystories-656k-q8_0")
    model = str(model_path("tinystories-656k-q8_0.gguf"))
    found = figures(*("-m", model, "-f", str(letters), "-c", "256", "--kv-type", "f32"), sums="llama.cpp")
    assert found["running"] == wanted["running"]
    assert found["final"] == wanted["final"]


@pytest.mark.parametrize("name", ["stories260K-f32", "tinystories-656k-q8_0"])
def test_in_our_order_a_perplexity_is_within_a_thousandth_of_llama_perplexity_s(
    name: str, model_path: Callable[[str], Path], letters: Path
) -> None:
    found = figures("-m", str(model_path(f"{name}.gguf")), "-f", str(letters), "-c", "256")
    assert found["final"][0] == pytest.approx(golden(name)["final"][0], rel=TOLERANCE)


def compared(
    model: Path, base: Path, text: Path, folder: Path, n_chunks: int, n_ctx: int
) -> dict[str, object]:
    """What llorch prints of a model compared with a base model, both in llama.cpp's order."""
    common = ("--kv-type", "f32", "--kl-base", str(folder / "base"))
    chunks = ("-f", str(text), "-c", str(n_ctx), "--chunks", str(n_chunks))
    written = perplexity("-m", str(base), *chunks, *common, sums="llama.cpp")
    assert written.returncode == 0, written.stderr
    return figures("-m", str(model), "--kl", *common, sums="llama.cpp")


def test_in_llama_cpp_s_order_all_figures_of_a_comparison_have_the_digits_that_llama_perplexity_prints(
    model_path: Callable[[str], Path], letters: Path, tmp_path: Path
) -> None:
    wanted = golden("stories260K-q8_0")
    found = compared(
        model_path("stories260K-q8_0.gguf"), model_path("stories260K-f32.gguf"), letters, tmp_path, 6, 256
    )
    assert found["running"] == wanted["running"]
    assert found["statistics"] == wanted["statistics"]


SMOLLM2 = sorted(path.stem.removeprefix("smol-") for path in FOLDER.glob("smol-*.json"))


@pytest.fixture(scope="module")
def quantized(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """SmolLM2 in a type."""
    from tests.support.commands import llorch

    folder = tmp_path_factory.mktemp("smollm2")

    def of(name: str) -> Path:
        if name == "Q4_1":
            return smollm2
        path = folder / f"{name}.gguf"
        if not path.exists():
            done = llorch("quantize", str(smollm2), str(path), name, "--allow-requantize")
            assert done.returncode == 0, done.stderr
        return path

    return of


@pytest.mark.slow
@pytest.mark.smollm2
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", SMOLLM2)
def test_smollm2_in_a_type_on_wikitext_has_llama_perplexity_s_digits(
    name: str, quantized: Callable[[str], Path], models_dir: Path, tmp_path: Path
) -> None:
    wanted = golden(f"smol-{name}")
    text = tmp_path / "wiki"
    text.write_bytes(text_of(wanted, models_dir))
    n_chunks = 1
    found = figures(
        *("-m", str(quantized(name)), "-f", str(text), "--chunks", str(n_chunks), "--kv-type", "f32"),
        sums="llama.cpp",
    )
    assert found["running"] == wanted["running"][:n_chunks]


def test_five_types_of_smollm2_are_among_the_golden_files() -> None:
    assert {"Q4_0", "Q4_1", "Q4_K_M", "Q6_K", "Q8_0"} <= set(SMOLLM2)
    assert FOLDER.is_relative_to(REPOSITORY)
