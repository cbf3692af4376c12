"""The soak test itself, for two minutes; `python -m tools.performance.soak --minutes 30` is the long one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tools.performance import soak
from tools.performance.soaking.bad_clients import BAD
from tools.performance.soaking.good_clients import GOOD


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_nothing_grows_is_lost_or_fails_under_mixed_load_and_faults(tmp_path: Path) -> None:
    out = tmp_path / "soak"
    # The clock of a machine that runs other tests says nothing about probes.
    code = soak.main(["--minutes", "2", "--out", str(out), "--health-p99-ms", "30000"])
    summary = json.loads(out.with_suffix(".json").read_text())
    assert summary["faults"] == []
    assert code == 0
    assert summary["golden"] > 16  # compared during the load, too
    assert {name.partition(":")[0] for name in summary["outcomes"]} >= {c.__name__ for c in (*GOOD, *BAD)}
    series = [json.loads(line) for line in out.with_suffix(".ndjson").read_text().splitlines()]
    assert max(sample["n_busy_slots"] for sample in series) > 0
    assert summary["last"]["kv_used"] == 0
