"""How a speed stands against the fastest of several peers: the ratio, its spread over rounds, and the target."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass

LEVEL = 0.02
"""Ratios this close to 1 are level: rounds of one program differ by more on a quiet machine."""
PROMPT_TARGET, ONE_SEQUENCE_TARGET, TOGETHER_TARGET = 1.4, 1.05, 1.3
SHARE_TARGET = 0.95
"""Generation of one sequence may instead read its weights at this share of what the memory gives in the same round."""


@dataclass(frozen=True)
class Verdict:
    """One test of one model against the fastest peer.

    Attributes:
        peer: the one with the highest median.
        ratio: own median divided by that peer's.
        least: the lowest ratio of a round.
        lower_quartile: of the ratios of all rounds, as `upper_quartile`.
        most: the highest ratio of a round.
        standing: ``"ahead"``, ``"level"`` or ``"behind"``.
        target: the ratio to reach.
        share: median share of the read bandwidth, for generation of one sequence; else None.
        is_reached: whether the ratio reaches the target, or the share its own.
    """

    peer: str
    ratio: float
    least: float
    lower_quartile: float
    upper_quartile: float
    most: float
    standing: str
    target: float
    share: float | None
    is_reached: bool


def target_of(test: str) -> float:
    """The ratio to reach in a test by llama-bench's name: ``pp512``, ``tg64`` or ``tg64@8``."""
    if test.startswith("pp"):
        return PROMPT_TARGET
    return TOGETHER_TARGET if "@" in test else ONE_SEQUENCE_TARGET


def verdict_of(
    test: str,
    own: Mapping[int, float],
    peers: Mapping[str, Mapping[int, float]],
    shares: Mapping[int, float],
) -> Verdict | None:
    """The verdict on one test.

    It is ``"ahead"`` or ``"behind"`` only where the medians differ by more than `LEVEL` and at least three quarters of
    the rounds say the same, so that one disturbed round of five decides nothing.

    Args:
        test: its name.
        own: tokens per second by round.
        peers: the same of each peer; a peer may lack rounds.
        shares: rate of reading weights divided by the read bandwidth of the round, by round.

    Returns:
        None where no peer has a round in common.
    """
    medians = {name: statistics.median(found.values()) for name, found in peers.items() if found}
    medians = {name: median for name, median in medians.items() if own.keys() & peers[name].keys()}
    if not medians:
        return None
    peer = max(medians, key=lambda name: medians[name])
    ratio = statistics.median(own.values()) / medians[peer]
    ratios = sorted(own[number] / peers[peer][number] for number in own.keys() & peers[peer].keys())
    lower, upper = _quartiles(ratios)
    standing = "level"
    if ratio > 1 + LEVEL and lower > 1:
        standing = "ahead"
    elif ratio < 1 - LEVEL and upper < 1:
        standing = "behind"
    target = target_of(test)
    share = statistics.median(shares.values()) if target == ONE_SEQUENCE_TARGET and shares else None
    is_reached = ratio >= target or (share is not None and share >= SHARE_TARGET)
    return Verdict(peer, ratio, ratios[0], lower, upper, ratios[-1], standing, target, share, is_reached)


def _quartiles(ordered: list[float]) -> tuple[float, float]:
    """Lower and upper quartile, extremes included: of five values the second and the fourth."""
    if len(ordered) == 1:
        return ordered[0], ordered[0]
    lower, _, upper = statistics.quantiles(ordered, n=4, method="inclusive")
    return lower, upper
