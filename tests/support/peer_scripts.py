"""Small scripts in place of llama.cpp's programs, and a comparison of llorch with them."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.proof import GOLDEN
from tools.performance import compare_peers, rounds
from tools.performance.peer_runs import Run, SpeedTest

LLAMA_BENCH = """
if "--version" in sys.argv:
    print("version: 9.9 (commit abc)", file=sys.stderr)
else:
    assert sys.argv[sys.argv.index("-o") + 1] == "json"
    print('[{"avg_ts": 100.0, "model_filename": "/somewhere/model.gguf"}]')
"""
BATCHED_BENCH = """
n, together = (sys.argv[sys.argv.index(flag) + 1] for flag in ("-ntg", "-npl"))
first = n.split(",")[0]
print('{"tg": %s, "pl": %s, "speed_tg": 50.0}' % (first, together))
print('{"tg": 1, "pl')
"""


def script(path: Path, body: str) -> Path:
    path.write_text(f"#!{sys.executable}\nimport sys\n{body}")
    path.chmod(0o755)
    return path


@pytest.fixture
def llorch_speeds(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Speeds that llorch's runs report, in order; the last one repeats."""
    speeds = [200.0, 400.0, 300.0]

    def run(model: Path, test: SpeedTest, n_threads: int, extra: tuple[str, ...], timeout_s: float) -> Run:
        speed = speeds.pop(0) if len(speeds) > 1 else speeds[0]
        output = {"model": "toy", "weight_gb_per_s": 9.0, "read_gb_per_s": 10.0, "gmac_per_s": 5.0}
        return Run("llorch", f"llorch bench -m {model.name}", speed, 1.0, output)

    monkeypatch.setattr(rounds, "run_llorch", run)
    monkeypatch.setattr(compare_peers, "_warm_up", lambda models: None)
    monkeypatch.setattr(rounds, "_busy_share", lambda: 0.02)
    return speeds


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLORCH_PROOF_DIR", str(tmp_path / "proof"))
    monkeypatch.setenv("LLORCH_RUN_ID", "run-1")
    shutil.copy(GOLDEN / "tiny.gguf", tmp_path / "model.gguf")
    script(tmp_path / "llama-bench", LLAMA_BENCH)
    script(tmp_path / "llama-batched-bench", BATCHED_BENCH)
    return tmp_path


def words(place: Path, tests: str = "pp8,tg4,tg4@2", n_rounds: int = 3) -> list[str]:
    programs = [
        "--llama-bench",
        f"{place}/llama-bench",
        "--llama-batched-bench",
        f"{place}/llama-batched-bench",
    ]
    return ["--case", f"{place}/model.gguf", tests, *programs, "-t", "1", "-r", str(n_rounds)]


def documents(place: Path) -> tuple[dict[str, Any], list[dict[str, Any]], Path]:
    folder = place / "proof" / "performance" / "run-1"
    runs = [json.loads(line) for line in (folder / "runs.ndjson").read_text().splitlines()]
    return json.loads((folder / "performance.json").read_text()), runs, folder
