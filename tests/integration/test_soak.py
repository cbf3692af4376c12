"""The soak test itself, for two minutes; `python -m tools.performance.soak --minutes 30` is the long one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tools.performance import soak
from tools.performance.soaking.bad_clients import BAD
from tools.performance.soaking.good_clients import GOOD

ALL = {client.__name__ for client in (*GOOD, *BAD)}
N_GOLDEN = 16
"""Golden requests before and after the load."""


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_nothing_grows_is_lost_or_fails_under_mixed_load_and_faults(tmp_path: Path) -> None:
    out = tmp_path / "soak"
    for minutes in ("2", "15"):  # the second only where a busy machine needs longer for some of each client
        # The clock of a machine that runs other tests says nothing about probes.
        code = soak.main(["--minutes", minutes, "--out", str(out), "--health-p99-ms", "30000"])
        summary = json.loads(out.with_suffix(".json").read_text())
        assert summary["faults"] == []
        assert code == 0
        seen = {name.partition(":")[0] for name in summary["outcomes"]}
        if summary["golden"] > N_GOLDEN and seen >= ALL:
            break
    assert summary["golden"] > N_GOLDEN  # compared during the load, too
    assert seen >= ALL
    series = [json.loads(line) for line in out.with_suffix(".ndjson").read_text().splitlines()]
    assert max(sample["n_busy_slots"] for sample in series) > 0
    assert summary["last"]["kv_used"] == 0
