from __future__ import annotations

import re
from pathlib import Path

import pytest

from llorch.bench.tests import BenchTest
from tests.conftest import REPOSITORY
from tools.performance import quality_table
from tools.reference.perplexity_output import printed_figures

TEXT = "Once upon a time the world was in the hands of an old man who had no hat. " * 12


def test_a_table_has_a_row_for_each_type_and_replaces_what_stood_between_the_markers(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quality_table, "TESTS", [BenchTest(kind, 4) for kind in ("pp", "tg")])
    text, page = tmp_path / "text.txt", tmp_path / "page.md"
    text.write_text(TEXT)
    page.write_text(f"before\n{quality_table.BEGIN}\nold\n{quality_table.END}\nafter\n")
    words = ["--model-type", "Q8_0", "--types", "F16,Q8_0", "-f", str(text), "-c", "32", "--chunks", "3"]
    assert quality_table.main([str(tiny_model), *words, "-t", "1", "--update", str(page)]) == 0
    made = page.read_text()
    assert made.startswith(f"before\n{quality_table.BEGIN}\n\n| type | bits a weight |")
    assert made.endswith(f"{quality_table.END}\nafter\n")
    assert "\nold\n" not in made
    number, spread = r"\d+\.\d\d", r"-?[\d.]+ ± [\d.]+"
    assert re.search(rf"\| F16 \| {number} \| {spread} \| – \| – \| \d+ \| \d+ \|", made)
    assert re.search(rf"\| Q8_0 \| {number} \| {spread} \| {spread} \| {spread} % \| \d+ \| \d+ \|", made)
    assert "3 chunks of 32 tokens" in made


def test_what_cannot_be_measured_is_said_in_a_line(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--model-type", "Q8_0", "--types", "Q8_0", "-f", str(tmp_path / "absent")]
    assert quality_table.main([str(tiny_model), *words]) == 2
    assert "absent" in capsys.readouterr().err


def test_readme_holds_the_markers_once() -> None:
    page = (REPOSITORY / "README.md").read_text("utf-8")
    assert page.count(quality_table.BEGIN) == page.count(quality_table.END) == 1


def test_figures_are_found_in_what_a_program_prints() -> None:
    plain = "noise 1.5\n[1]82.8598,[2]77.5344,\nFinal estimate: PPL = 77.5344 +/- 4.32777\n"
    assert printed_figures(plain) == {
        "running": [82.8598, 77.5344],
        "final": [77.5344, 4.32777],
        "statistics": [],
    }
    compared = (
        "   1   91.17 ±   23.83       0.00 ±    0.00       0.00 ±    0.00     0.70 ±  0.060 %    95.9 ±  0.716 %\n"
        "====== Perplexity statistics ======\nMean PPL(Q)     : 100.304652 ±  10.442412\n"
        "99.9%   KLD:   0.023281\nRMS Δp    :  0.806 ± 0.075 %\n"
    )
    assert printed_figures(compared) == {
        "running": [91.17], "final": None, "statistics": [[100.304652, 10.442412], [0.023281], [0.806, 0.075]]
    }  # fmt: skip
