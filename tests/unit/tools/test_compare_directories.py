"""The table of the forms of a model: which are compared, with what, and one real run of two of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.hf_directories import write_directory
from tools.performance import compare_directories
from tools.performance.compare_directories import shown, table
from tools.performance.model_forms import FORMS, make_forms, present_forms
from tools.performance.peer_runs import SpeedTest

F32_GGUF, F32 = FORMS[0], FORMS[1]


def test_forms_that_are_absent_are_named_and_left_out(tmp_path: Path) -> None:
    (tmp_path / "f32").mkdir()
    said: list[str] = []
    assert present_forms(tmp_path, said.append) == [F32]
    assert len(said) == len(FORMS) - 1
    assert f"GGUF F32 is left out: there is no {tmp_path / 'f32.gguf'}" in said


def test_a_form_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    for form in FORMS:
        (tmp_path / form.file).touch()
    (tmp_path / "w8a8").unlink()
    said: list[str] = []
    make_forms(tmp_path / "none.gguf", tmp_path, said.append)
    assert len(said) == 1
    assert said[0].startswith("w8a8 could not be made: ")


def test_speeds_are_compared_within_a_round_and_shown_as_median_and_extremes(tmp_path: Path) -> None:
    (tmp_path / "f32.gguf").write_bytes(bytes(2_000_000))
    (tmp_path / "f32").mkdir()
    values: dict[tuple[str, str], list[float]] = {}
    for form, speeds in ((F32_GGUF, [10.0, 20.0, 40.0]), (F32, [10.0, 10.0, 60.0])):
        values |= {
            (form.file, "pp8"): speeds,
            (form.file, "peak_bytes"): [5e6] * 3,
            (form.file, "load_s"): [0.5] * 3,
        }
    rows = table(tmp_path, [F32_GGUF, F32], [SpeedTest.parse("pp8")], values, {"f32": 1.5e-6}).splitlines()
    assert rows[2] == "| GGUF F32 | 2 | 5 | 0.50 | 20.0 (10.0 to 40.0) | 1.00 | no oracle |"
    assert rows[3] == "| directory F32 | 0 | 5 | 0.50 | 10.0 (10.0 to 60.0) | 1.00 (0.50 to 1.50) | 1.5e-06 |"
    assert all(row.count("|") == rows[0].count("|") for row in rows)
    del values["f32.gguf", "pp8"]
    assert "| no GGUF |" in table(tmp_path, [F32], [SpeedTest.parse("pp8")], values, {})
    assert shown([1.0, 1.0], 1) == "1.0"


def test_a_folder_without_forms_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare_directories.main([str(tmp_path)]) == 2
    assert "holds no form of a model" in capsys.readouterr().err


@pytest.mark.slow
def test_a_directory_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_directory(tmp_path / "f32")
    shutil.copytree(tmp_path / "f32", tmp_path / "w8a8")
    assert compare_directories.main([str(tmp_path), "-t", "1", "-r", "1", "--tests", "pp8,tg4"]) == 0
    output = capsys.readouterr()
    assert "| directory F32 | " in output.out
    assert "ONNX fp32 is left out" in output.err
