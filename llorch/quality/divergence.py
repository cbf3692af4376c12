"""How far a model's predictions are from those of a base model, in llama-perplexity's figures.

All are of the predictions that count. The divergence is Kullback and Leibler's, of the base model's distribution from
this model's; Δp is the probability of the token that does follow, less what the base model gives it.

Source: `tools/perplexity/perplexity.cpp` (`kl_divergence`) of llama.cpp; float32 and float64 where it has them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llorch.quality.estimate import Mean, mean_of, perplexity_of
from llorch.quality.log_softmax import log_sums
from llorch.quality.logits_file import BaseFile

LEAST_LOGPROB = np.float32(-16)
"""Tokens that the base model holds less probable do not count in the divergence."""
LEAST_COUNT = 11
"""With fewer values, llama-perplexity gives no standard error."""
DIVERGENCE_PERCENTILES = (99.9, 99.0, 95.0, 90.0, 50.0, 10.0, 5.0, 1.0, 0.1)
DIFFERENCE_PERCENTILES = (99.9, 99.0, 95.0, 90.0, 75.0, 50.0, 25.0, 10.0, 5.0, 1.0, 0.1)


class Divergence:
    """A judge that compares predictions with those in a base file.

    Attributes:
        losses, base_losses: float32 (n_predictions,), negative log-likelihoods of the tokens.
        divergences: float64 (n_predictions,).
        differences: float32 (n_predictions,), Δp.
        agrees: bool (n_predictions,), whether both hold the same token most probable.
    """

    def __init__(self, base: BaseFile, n_predictions: int) -> None:
        self._base = base
        self.losses = np.zeros(n_predictions, np.float32)
        self.base_losses = np.zeros(n_predictions, np.float32)
        self.divergences = np.zeros(n_predictions)
        self.differences = np.zeros(n_predictions, np.float32)
        self.agrees = np.zeros(n_predictions, np.bool_)

    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """What it found, by name; a value for each prediction."""
        names = ("losses", "base_losses", "divergences", "differences", "agrees")
        return {name: getattr(self, name) for name in names}

    def take(self, first: int, logits: NDArray[np.float32], wanted: NDArray[np.int32]) -> None:
        """See `Judge`."""
        n = len(wanted)
        at, each = slice(first, first + n), np.arange(n)
        largest, sums = log_sums(logits)
        log_sum = sums.astype(np.float32)
        scales, minima, values = self._base.rows(first, n)
        base = values * scales[:, None]
        base += minima[:, None]  # log-probabilities, (n, n_vocab)
        loss = (largest + log_sum) - logits[each, wanted]
        base_loss = -base[each, wanted]
        self.agrees[at] = logits.argmax(axis=1) == base.argmax(axis=1)
        terms = base - logits
        terms += (largest + log_sum)[:, None]
        is_rare = base <= LEAST_LOGPROB
        terms *= np.exp(base, out=base)
        terms[is_rare] = 0
        self.divergences[at] = terms.sum(axis=1, dtype=np.float64)
        self.differences[at] = np.exp(-loss) - np.exp(-base_loss)
        self.losses[at], self.base_losses[at] = loss, base_loss

    def figures(self) -> Figures:
        """What all predictions together say."""
        return _figures(self)


@dataclass(frozen=True, slots=True)
class Figures:
    """Statistics over all predictions; percentages are 0 to 1 here.

    Attributes:
        perplexity, base_perplexity: of this model and of the base model.
        correlation: of the logarithms of both; None where one of them does not vary.
        log_ratio: ln(perplexity / base perplexity).
        ratio, difference: of the two perplexities.
        divergence: mean divergence; `divergences` its largest, percentiles and smallest, by name.
        p_difference: mean Δp; `p_differences` its largest, percentiles and smallest, by name.
        p_difference_rms: root of the mean square of Δp.
        same_top: share of predictions whose most probable token is the same.
    """

    perplexity: Mean
    base_perplexity: Mean
    correlation: float | None
    log_ratio: Mean
    ratio: Mean
    difference: Mean
    divergence: Mean
    divergences: dict[str, float]
    p_difference: Mean
    p_differences: dict[str, float]
    p_difference_rms: Mean
    same_top: Mean

    def to_json(self) -> dict[str, Any]:
        """As `--json` lists it."""
        names = self.__dataclass_fields__
        values = {name: getattr(self, name) for name in names if name != "perplexity"}
        return {name: v.to_json() if isinstance(v, Mean) else v for name, v in values.items()}


def _figures(found: Divergence) -> Figures:
    n = len(found.losses)
    log_p = mean_of(found.losses, np.square(found.losses), least=LEAST_COUNT)
    log_base = mean_of(found.base_losses, np.square(found.base_losses), least=LEAST_COUNT)
    covariance = _covariance(found.losses, found.base_losses)
    errors = log_p.stderr * log_base.stderr
    log_ratio = Mean(log_p.value - log_base.value, _error_of_difference(log_p, log_base, covariance))
    ratio = perplexity_of(log_ratio)
    perplexity, base_perplexity = perplexity_of(log_p), perplexity_of(log_base)
    difference = Mean(
        perplexity.value - base_perplexity.value,
        _error_of_difference(
            perplexity, base_perplexity, perplexity.value * base_perplexity.value * covariance
        ),
    )
    squares = np.square(found.differences)
    mean_square = mean_of(squares, np.square(squares, dtype=np.float64), least=LEAST_COUNT)
    rms = math.sqrt(mean_square.value)
    share = float(found.agrees.mean())
    return Figures(
        perplexity=perplexity,
        base_perplexity=base_perplexity,
        correlation=covariance / errors if errors else None,
        log_ratio=log_ratio,
        ratio=ratio,
        difference=difference,
        divergence=mean_of(found.divergences, least=LEAST_COUNT),
        divergences=_spread(found.divergences.astype(np.float32), DIVERGENCE_PERCENTILES),
        p_difference=mean_of(found.differences, squares, least=LEAST_COUNT),
        p_differences=_spread(found.differences, DIFFERENCE_PERCENTILES),
        p_difference_rms=Mean(rms, 0.5 / rms * mean_square.stderr if rms else 0.0),
        same_top=Mean(share, math.sqrt(share * (1 - share) / max(1, n - 1))),
    )


def _covariance(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Covariance of two means; 0, which means that it is unknown, of fewer than ten values."""
    n = len(a)
    if n < LEAST_COUNT - 1:
        return 0.0
    product, of_a, of_b = (float(values.sum(dtype=np.float64)) / n for values in (a * b, a, b))
    return (product - of_a * of_b) / (n - 1)


def _error_of_difference(a: Mean, b: Mean, covariance: float) -> float:
    return math.sqrt(max(0.0, a.stderr**2 + b.stderr**2 - 2 * covariance))


def _spread(values: NDArray[np.float32], percentiles: tuple[float, ...]) -> dict[str, float]:
    """The largest value, percentiles between, and the smallest."""
    ordered = np.sort(values)
    between = {f"{percent:g}": _percentile(ordered, percent) for percent in percentiles}
    return {"max": float(ordered[-1]), **between, "min": float(ordered[0])}


def _percentile(ordered: NDArray[np.float32], percent: float) -> float:
    """Between the two nearest values, in float32 as llama-perplexity does it."""
    at = np.float32(percent / 100) * np.float32(len(ordered) - 1)
    below = int(at)
    share = at - np.float32(below)
    above = ordered[min(below + 1, len(ordered) - 1)]
    return float((np.float32(1) - share) * ordered[below] + share * above)
