"""The verdict's arithmetic: the fastest peer, the ratio and its spread, what decides, and the targets."""

from __future__ import annotations

import pytest

from llorch.bench.verdicts import Verdict, target_of, verdict_of


def rounds(*speeds: float) -> dict[int, float]:
    return dict(enumerate(speeds, 1))


def judged(
    own: dict[int, float], peer: dict[int, float], test: str = "pp512", share: float | None = None
) -> Verdict:
    shares = {} if share is None else dict.fromkeys(own, share)
    verdict = verdict_of(test, own, {"peer": peer}, shares)
    assert verdict is not None
    return verdict


def test_the_fastest_peer_by_median_is_the_one_that_counts() -> None:
    peers = {"slow": rounds(50, 50, 900), "fast": rounds(80, 100, 90), "absent": rounds()}
    verdict = verdict_of("pp512", rounds(180, 180, 180), peers, {})
    assert verdict is not None
    assert (verdict.peer, verdict.ratio, verdict.least, verdict.most) == ("fast", 2, 1.8, 2.25)


def test_ratios_are_of_one_round_and_quartiles_hold_the_second_and_fourth_of_five() -> None:
    verdict = judged(rounds(10, 20, 30, 40, 50), rounds(10, 10, 10, 10, 10))
    assert (verdict.least, verdict.lower_quartile, verdict.upper_quartile, verdict.most) == (1, 2, 4, 5)
    assert verdict.ratio == 3


def test_a_peer_may_lack_rounds() -> None:
    verdict = judged(rounds(10, 20, 30), {3: 10.0})
    assert (verdict.ratio, verdict.least, verdict.most) == (2, 3, 3)


@pytest.mark.parametrize("peers", [{}, {"peer": {}}, {"peer": {7: 1.0}}])
def test_without_a_common_round_there_is_no_verdict(peers: dict[str, dict[int, float]]) -> None:
    assert verdict_of("pp512", rounds(1, 2), peers, {}) is None


@pytest.mark.parametrize(
    ("own", "standing"),
    [
        ((103, 103, 103, 103, 103), "ahead"),
        ((102, 102, 102, 102, 102), "level"),
        ((98, 98, 98, 98, 98), "level"),
        ((97, 97, 97, 97, 97), "behind"),
        ((97, 106, 107, 108, 109), "ahead"),  # one disturbed round of five decides nothing
        ((96, 97, 110, 111, 112), "level"),  # two do
        ((90, 91, 92, 93, 104), "behind"),
        ((90, 91, 92, 104, 105), "level"),
        ((103,), "ahead"),
        ((97,), "behind"),
    ],
)
def test_what_is_ahead_level_and_behind(own: tuple[float, ...], standing: str) -> None:
    assert judged(rounds(*own), rounds(*[100.0] * len(own))).standing == standing


@pytest.mark.parametrize(
    ("test", "target"), [("pp512", 1.4), ("pp128", 1.4), ("tg64", 1.05), ("tg64@8", 1.3)]
)
def test_each_kind_of_test_has_its_target(test: str, target: float) -> None:
    assert target_of(test) == target
    peer = rounds(100.0)
    assert judged(rounds(100 * target + 0.1), peer, test).is_reached
    assert not judged(rounds(100 * target - 0.1), peer, test).is_reached


def test_only_generation_of_one_sequence_may_reach_its_target_by_bandwidth() -> None:
    slower, peer = rounds(90.0), rounds(100.0)
    near = judged(slower, peer, "tg64", share=0.95)
    assert (near.standing, near.share, near.is_reached) == ("behind", 0.95, True)
    assert not judged(slower, peer, "tg64", share=0.94).is_reached
    for test in ("pp512", "tg64@8"):
        other = judged(slower, peer, test, share=0.99)
        assert (other.share, other.is_reached) == (None, False)


def test_the_share_is_the_median_of_the_rounds() -> None:
    verdict = verdict_of("tg64", rounds(1, 1, 1), {"peer": rounds(1, 1, 1)}, rounds(0.5, 0.97, 0.96))
    assert verdict is not None
    assert verdict.share == 0.96
