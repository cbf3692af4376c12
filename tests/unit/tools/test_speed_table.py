"""The table of speeds: every peer by name, what is lost bold, and bundles of before there were verdicts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY
from tools.performance import readme_table
from tools.performance.performance_report import summarize
from tools.performance.speed_table import standing_by_kind, table


def case_with(own: list[float], peer: list[float], test: str, shares: list[float]) -> dict[str, Any]:
    """A case as bundles of before there were verdicts hold it."""
    model = {"name": "toy", "file": "toy-q8_0.gguf"}
    engines = {"llorch": summarize(own), "old": summarize(peer)}
    return {"model": model, "test": test, "engines": engines, "share_of_read_bandwidth": summarize(shares)}


@pytest.mark.parametrize(
    ("own", "peer", "test", "cells"),
    [
        ([95, 96, 97], [100, 99, 101], "tg64", "96.0 | 100 (**0.96×**) | **behind old 0.96×** (0.95 … 0.97) "
         "| 1.05× or 95 % of bandwidth: **missed** (80 %)"),
        ([101, 99, 100], [100, 100, 100], "tg64@8", "100 | 100 (1.00×) | level with old 1.00× (0.99 … 1.01) "
         "| 1.3×: **missed**"),
        ([150, 150, 150], [100, 100, 100], "pp8", "150 | 100 (1.50×) | ahead of old 1.50× (1.50 … 1.50) "
         "| 1.4×: reached"),
    ],
)  # fmt: skip
def test_cells_that_are_lost_are_bold_and_older_bundles_have_verdicts_too(
    own: list[float], peer: list[float], test: str, cells: str
) -> None:
    case = case_with(own, peer, test, [0.8, 0.7, 0.9])
    assert table([case], ["old"]).splitlines()[-1] == f"| toy | Q8_0 | {test} | {cells} |"


def test_a_bundle_of_three_peers_that_has_no_verdicts_is_shown_with_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    bundle = REPOSITORY / "proof_bundle" / "performance" / "20261127-021403-f6559648"
    assert readme_table.main([str(bundle)]) == 0
    out = capsys.readouterr().out
    assert "| llama.cpp (llorch's ratio) | ik_llama.cpp (llorch's ratio) | dasLLAMA (llorch's ratio) |" in out
    assert (
        "| Q8_0 | tg64 | 27.3 | 21.5 (1.27×) | 25.0 (1.09×) | 28.4 (**0.96×**) | **behind dasLLAMA 0.96×**"
        in out
    )
    assert "11 ahead, 2 level, 2 behind; 7 of 15 targets reached" in out


def test_a_page_has_the_newest_bundle_first_and_the_others_below_headings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = REPOSITORY / "proof_bundle" / "performance"
    newest, amx = runs / "20261127-073301-9a3991ec", runs / "20261121-124348-bc392945"
    page = tmp_path / "performance.md"
    marks = [readme_table.BEGIN, readme_table.END, readme_table.BEGIN_OLDER, readme_table.END_OLDER]
    page.write_text("top\n{}\nstale\n{}\nmiddle\n{}\nstale\n{}\nbottom\n".format(*marks))
    assert readme_table.main([str(newest), str(amx), "--update", str(page)]) == 0
    assert "updated" in capsys.readouterr().out
    text = page.read_text()
    assert "stale" not in text
    first, rest = text.split("\nmiddle\n")
    assert "OpenVINO GenAI" in first
    assert "###" not in first
    heading = (
        "### 2026-11-21, Intel(R) Xeon(R) Processor, amx kernels: "
        "synthetic 134M Q8_0, synthetic 1.1B Q8_0, synthetic 7B Q8_0"
    )
    assert rest.startswith(f"{readme_table.BEGIN_OLDER}\n\n{heading}\n\n| model |")
    assert rest.endswith(f"{readme_table.END_OLDER}\nbottom\n")
    assert readme_table.main([str(newest), str(amx), "--update", str(page)]) == 0
    assert "unchanged" in capsys.readouterr().out
    page.write_text(f"{marks[0]}\n{marks[1]}\n")
    assert readme_table.main([str(newest), str(amx), "--update", str(page)]) == 2
    assert "must hold these two lines" in capsys.readouterr().err


def test_what_is_won_and_lost_is_said_for_each_kind_of_test() -> None:
    cases = [
        case_with([150, 150, 150], [100, 100, 100], "pp512", [0.5]),
        case_with([130, 130, 130], [100, 100, 100], "pp128", [0.5]),
        case_with([95, 95, 95], [100, 100, 100], "tg64", [0.97, 0.97, 0.97]),
    ]
    assert standing_by_kind(cases) == [
        "* **prompts** (`pp128`, `pp512`): 1.30× to 1.50× the fastest peer of each test, least with toy Q8_0 (there "
        "old is the fastest); slower than it in 0 of 2; target 1.4× reached in 1.",
        "* **one sequence** (`tg64`): **0.95×** to **0.95×** the fastest peer of each test, least with toy Q8_0 (there "
        "old is the fastest); slower than it in 1 of 1; target 1.05× or 95 % of bandwidth reached in 1.",
    ]
    alone = {"model": {"name": "toy", "file": "toy-q8_0.gguf"}, "test": "tg4"}
    assert standing_by_kind([alone | {"engines": {"llorch": summarize([1.0])}}]) == []


def test_a_test_the_peer_cannot_run_has_no_ratio() -> None:
    case: dict[str, Any] = {"model": {"name": "toy", "file": "toy-q8_0.gguf"}, "test": "tg4@2"}
    case["engines"] = {"llorch": summarize([12.3])}
    assert table([case], ["llama.cpp"]).splitlines()[-1] == "| toy | Q8_0 | tg4@2 | 12.3 | – | – | – |"
