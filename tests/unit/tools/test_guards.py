"""Guard rails of the kernels' speed: which ratios are measured again, which are lost, what is recorded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from llorch.kernels.paths import PATHS
from llorch.kernels.team import Team
from tools.performance import record_guards
from tools.performance.guards import kernels, records
from tools.performance.guards.bench import Bench, Guard


class Noisy:
    """Guards that reach a share of what is recorded, give or take; the calls are kept.

    Args:
        shares: of the recorded ratio 2, by name.
        sd: of the noise, as a share.
    """

    def __init__(self, shares: dict[str, float], sd: float = 0.0, seed: int = 0) -> None:
        self.calls: list[frozenset[str] | None] = []
        self._shares, self._sd = shares, sd
        self._rng = np.random.default_rng(seed)

    def __call__(self, names: frozenset[str] | None) -> dict[str, list[float]]:
        self.calls.append(names)
        return {
            name: [2 * share * float(1 + self._sd * self._rng.standard_normal())]
            for name, share in self._shares.items()
            if names is None or name in names
        }


def judged(measure: Noisy) -> dict[str, records.Verdict]:
    names = measure(None)
    measure.calls.clear()
    return {v.name: v for v in records.judge(dict.fromkeys(names, 2.0), measure)}


def test_what_has_kept_its_speed_is_measured_once_and_what_is_in_doubt_again() -> None:
    measure = Noisy({"kept": 0.96, "doubtful": 0.92, "lost": 0.89, "faster": 1.3})
    verdicts = judged(measure)
    assert [name for name, verdict in verdicts.items() if verdict.is_lost] == ["lost"]
    assert measure.calls == [None, *[frozenset({"doubtful", "lost"})] * 4]
    assert len(verdicts["kept"].values) == 1
    assert len(verdicts["lost"].values) == records.N_VALUES


def test_a_slow_moment_is_no_loss() -> None:
    moments = iter([0.8, 0.85, 0.99, 0.8, 0.97])
    (verdict,) = records.judge({"a": 1.0}, lambda _: {"a": [next(moments)]})
    assert verdict.values == (0.8, 0.85, 0.99, 0.8, 0.97)
    assert verdict.share == 0.97
    assert not verdict.is_lost


def test_one_lucky_moment_does_not_hide_a_loss() -> None:
    moments = iter([0.85, 0.99, 0.86, 0.85, 0.84])
    (verdict,) = records.judge({"a": 1.0}, lambda _: {"a": [next(moments)]})
    assert verdict.is_lost


def test_a_loss_of_15_percent_is_found_through_noise_and_none_is_made_up() -> None:
    """The steadiness that `bench` has; a kernel that takes 15 % longer has 1 / 1.15 of its ratio."""
    n = 2000
    slower = judged(Noisy({str(i): 1 / 1.15 for i in range(n)}, sd=0.015))
    assert sum(v.is_lost for v in slower.values()) > 0.99 * n
    kept = judged(Noisy({str(i): 1.0 for i in range(n)}, sd=0.015))
    assert not any(v.is_lost for v in kept.values())


def test_guards_without_a_record_and_records_without_a_guard_are_refused() -> None:
    for recorded in ({"a": 1.0, "gone": 1.0}, {}):
        with pytest.raises(KeyError, match="record anew"):
            records.judge(recorded, lambda _: {"a": [1.0]})


def test_a_verdict_says_what_is_left() -> None:
    verdict = records.Verdict("norm", 0.5, (0.4, 0.46, 0.3))
    assert str(verdict) == "norm: 0.80 of the recorded 0.5 (0.4, 0.46, 0.3)"


def test_recording_replaces_the_paths_that_were_measured_and_nothing_else(tmp_path: Path) -> None:
    table = tmp_path / "guards.json"
    records.write("cpu", {"avx2": {"a": 0.123456}, "generic": {"a": 1.0}}, table)
    records.write("other", {"avx2": {"a": 2.0}}, table)
    records.write("cpu", {"avx2": {"b": 0.5}}, table)
    assert records.read("cpu", table) == {"avx2": {"b": 0.5}, "generic": {"a": 1.0}}
    assert records.read("other", table) == {"avx2": {"a": 2.0}}
    assert records.read("unknown", table) == {}


def test_the_records_are_ratios_of_the_guards_that_there_are(all_guards: list[Guard]) -> None:
    from tools.performance.guards.worker import INTEGERS

    names = {INTEGERS, *(guard.name for guard in all_guards)}
    for paths in json.loads(records.TABLE.read_text("utf-8")).values():
        assert paths.keys() <= set(PATHS)
        for ratios in paths.values():
            assert ratios.keys() == names
            assert all(0 < ratio < 100 for ratio in ratios.values())


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    made = Bench(kernels.scratch_bytes())
    yield made
    made.close()


@pytest.fixture(scope="module")
def all_guards() -> list[Guard]:
    patched = pytest.MonkeyPatch()
    patched.setattr(kernels, "ring_bytes", lambda: 8 << 20)
    team = Team(1, kernels.scratch_bytes())
    found = [guard for group in kernels.groups(team) for guard in group]
    team.close()
    patched.undo()
    return found


def test_guards_are_made_by_name_with_instructions_of_one_size(all_guards: list[Guard]) -> None:
    assert len({guard.name for guard in all_guards}) == len(all_guards) > 20
    for guard in all_guards:
        assert len(guard.program) >= 3
        assert guard.n_macs > 0
        assert (guard.n_bytes > 0) == (guard.stream > 0)


def test_only_the_guards_wanted_are_made(bench: Bench) -> None:
    wanted = frozenset({"norm", "Q4_K, 128 tokens, in the cache"})
    assert {guard.name for group in kernels.groups(bench.team, wanted) for guard in group} == wanted


def test_the_table_of_a_path_shows_what_is_recorded_spread_and_change() -> None:
    shown = record_guards.table("avx2", {"a": [1.0, 1.1, 0.9], "b": [2.0]}, {"a": 0.5})
    assert "| a | 1 | -10.0% +10.0% | 0.5 (+100%) |" in shown
    assert "| b | 2 | +0.0% +0.0% | – |" in shown
