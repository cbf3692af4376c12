"""Results in the lines of llama-perplexity, so that both programs' can be laid side by side."""

from __future__ import annotations

from collections.abc import Iterator

from llorch.quality.divergence import Figures
from llorch.quality.estimate import Mean


def perplexity_lines(running: list[float], perplexity: Mean) -> Iterator[str]:
    """The running perplexity after each chunk, and the estimate."""
    yield ",".join(f"[{i}]{value:.4f}" for i, value in enumerate(running, 1))
    yield f"Final estimate: PPL = {perplexity.value:.4f} +/- {perplexity.stderr:.5f}"


def divergence_lines(figures: Figures) -> Iterator[str]:
    """All statistics of a comparison."""
    yield "====== Perplexity statistics ======"
    for name, mean in (
        ("Mean PPL(Q)", figures.perplexity),
        ("Mean PPL(base)", figures.base_perplexity),
        ("Cor(ln(PPL(Q)), ln(PPL(base)))", figures.correlation),
        ("Mean ln(PPL(Q)/PPL(base))", figures.log_ratio),
        ("Mean PPL(Q)/PPL(base)", figures.ratio),
        ("Mean PPL(Q)-PPL(base)", figures.difference),
    ):
        if isinstance(mean, Mean):
            yield f"{name:<30}: {mean.value:10.6f} ± {mean.stderr:10.6f}"
        elif mean is not None:
            yield f"{name}: {100 * mean:6.2f}%"
    yield "\n====== KL divergence statistics ======"
    yield f"Mean    KLD: {figures.divergence.value:10.6f} ± {figures.divergence.stderr:10.6f}"
    for name, value in figures.divergences.items():
        yield f"{_spread_name(name)} KLD: {value:10.6f}"
    yield "\n====== Token probability statistics ======"
    yield f"Mean    Δp: {_percent(figures.p_difference)}"
    for name, value in figures.p_differences.items():
        yield f"{_spread_name(name)} Δp: {100 * value:6.3f}%"
    yield f"RMS Δp    : {_percent(figures.p_difference_rms)}"
    yield f"Same top p: {_percent(figures.same_top)}"


def _spread_name(name: str) -> str:
    words = {"max": "Maximum", "50": "Median ", "min": "Minimum"}
    return words.get(name) or f"{float(name):4.1f}%  "


def _percent(mean: Mean) -> str:
    return f"{100 * mean.value:6.3f} ± {100 * mean.stderr:5.3f} %"
