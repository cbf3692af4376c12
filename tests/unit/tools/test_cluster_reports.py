"""Tables of the comparison and of `docs/scale.md`, from invented measurements."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY
from tests.support.cluster import step_times
from tools.performance import scale_table, simulate_cluster
from tools.performance.cluster.capacity import CapacityError, Promise, Setup
from tools.performance.cluster.check_report import COMPARED, far_apart, markdown
from tools.performance.cluster.replica import HTTPCosts, ReplicaSettings
from tools.performance.cluster.walls import bill, router_entry_bytes
from tools.performance.cluster.workload import Mix

MIX = Mix(n_users=30, period_s=60, n_system=100, n_message=20, n_answer=40, n_ctx=512)


def comparison(**off: float) -> dict[str, Any]:
    """A comparison in which the simulation is off by these factors."""
    times = step_times()
    real = dict.fromkeys(COMPARED, 100.0)
    simulated = {key: value * off.get(key, 1.0) for key, value in real.items()}
    low, high = ({key: factor * value for key, value in real.items()} for factor in (0.95, 1.2))
    run = {"replicas": 2, "load": "burst", "real": real, "low": low, "high": high, "simulated": simulated}
    table = dataclasses.asdict(times) | {"n_decode": [0, 1, 8], "n_prompt": [0, 1, 512]}
    http = {"apart": dataclasses.asdict(HTTPCosts(1e-3, 5e-5, 1e-5, 90.0))}
    of_model = {"model": "m", "steps": table, "http": http, "rounds": [{}, {}, {}], "runs": [run]}
    return {"within": 0.15, "models": [of_model]}


def test_what_is_further_apart_than_allowed_is_named() -> None:
    assert far_apart(comparison(tokens_per_s=1.14, first_p95_ms=0.86)) == []
    assert far_apart(comparison(first_p95_ms=1.19)) == []  # real ones are as far from their median
    (line,) = far_apart(comparison(first_p95_ms=1.21))
    assert line == "m, 2 replicas, burst: first token p95, ms is 121 simulated, 100 real (95–120)"


def test_the_table_shows_both_and_how_far_they_are_apart() -> None:
    text = markdown(comparison(tokens_per_s=0.9))
    assert "| 2 | burst | 100 (95–120) → 90 (-10%) |" in text
    assert "real, median (least–most) of 3 → simulated" in text


def setup() -> Setup:
    return Setup(step_times(), HTTPCosts(1e-3, 5e-5, 0.0, 90.0), ReplicaSettings(8, 512), seconds=20)


def test_the_smallest_fleet_tried_that_keeps_the_promise_is_found() -> None:
    mix = dataclasses.replace(MIX, n_users=240)
    n, figures = setup().fewest(mix, Promise(first_p95_ms=300))
    assert n > 1
    assert figures["first_p95_ms"] <= 500
    assert not Promise(first_p95_ms=300).is_kept(setup().run(mix, max(n // 2, 1)))


@pytest.mark.parametrize(
    ("seconds", "promise", "message"),
    [(1e-6, Promise(), "finish nothing"), (20, Promise(gap_p50_ms=1), "not fast enough")],
)
def test_a_promise_that_no_fleet_can_keep_is_an_error(seconds: float, promise: Promise, message: str) -> None:
    with pytest.raises(CapacityError, match=message):
        dataclasses.replace(setup(), seconds=seconds).fewest(dataclasses.replace(MIX, n_users=9), promise)


def test_many_users_are_simulated_in_equal_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.performance.cluster.walls.SLICE_USERS", 9)
    one, many = (bill(setup(), dataclasses.replace(MIX, n_users=n), Promise()) for n in (9, 900))
    assert many.n_simulated == 9
    assert many.n_replicas == 100 * one.n_replicas
    assert many.tokens_per_s == pytest.approx(100 * one.tokens_per_s)
    assert many.n_proxy_cores == pytest.approx(many.event_loop * many.n_replicas)
    n_tokens, n_requests = (one.figures[key] for key in ("tokens_per_s", "finished"))
    assert one.figures["loop_s"] > 1e-3 * n_requests
    assert one.event_loop == pytest.approx(one.figures["loop_s"] / one.figures["replica_s"])
    assert one.event_loop * one.n_replicas > 5e-5 * n_tokens
    assert one.network_bytes_per_s == pytest.approx(90 * one.tokens_per_s)
    assert one.memory_bytes == one.n_replicas * ((100 << 20) + 8 * 512 * 1024 + (110 << 20))


def test_an_entry_of_the_router_takes_some_hundred_bytes() -> None:
    assert 50 < router_entry_bytes() < 500


def test_the_page_gets_its_figures_between_the_markers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(scale_table, "USERS", (10, 12, 14))
    document = comparison()
    table = document["models"][0]["steps"]
    for name in ("alone", "beside"):  # a row for four sequences, as `measure_steps` has one
        for of in ("forward", "outside"):
            table[name][of] = [*table[name][of][:2], table[name][of][1], table[name][of][2]]
    table["n_decode"] = [0, 1, 4, 8]
    check, page = tmp_path / "check.json", tmp_path / "scale.md"
    check.write_text(json.dumps(document))
    before, rest = (REPOSITORY / "docs" / "scale.md").read_text().split(scale_table.BEGIN)
    after = rest.split(scale_table.END)[1]
    page.write_text(f"{before}{scale_table.BEGIN}\nold figures\n{scale_table.END}{after}")
    assert scale_table.main([str(check), "--update", str(page), "--seconds", "20"]) == 0
    text = page.read_text()
    assert text.startswith(before)
    assert text.endswith(after)
    assert "old figures" not in text
    for words in ("| 14 |", "prefix, one replica dies", "| 2 | burst |", "KV cache, bytes a token"):
        assert words in text
    page.write_text("no markers")
    assert scale_table.main([str(check), "--update", str(page), "--seconds", "20"]) == 2
    assert "each once" in capsys.readouterr().err


def test_a_file_that_is_no_comparison_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "other.json").write_text("{}")
    assert scale_table.main([str(tmp_path / "other.json")]) == 2
    assert "expected a file of check_simulation" in capsys.readouterr().err


def test_the_command_line_simulates_failures_and_scaling(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = tmp_path / "steps.json"
    step_times().save(steps)
    words = ["--steps", str(steps), "--users", "20", "--seconds", "20", "--answer", "20", "--replicas", "2"]
    assert simulate_cluster.main([*words, "--fail-at", "5", "--autoscale", "3"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["finished"] > 3
    assert figures["refused"] == 0
    assert simulate_cluster.main(["--steps", str(tmp_path / "none.json")]) == 2
    assert "expected step times" in capsys.readouterr().err
