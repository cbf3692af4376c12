"""Suites of `compare_peers`: which files they take, and that the commands which make them are right."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.peer_scripts import llorch_speeds, place, words
from tools.performance.compare_peers import main
from tools.performance.suites import SUITES
from tools.performance.synthetic_blocks import FILE_TYPES
from tools.performance.synthetic_shapes import SHAPES

__all__ = ["llorch_speeds", "place"]


@pytest.mark.usefixtures("llorch_speeds")
def test_a_suite_measures_the_files_that_are_there_and_says_how_to_make_the_others(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "model.gguf").rename(place / "L7B-q8_0.gguf")
    programs = words(place, n_rounds=1)[3:]
    assert main(["--suite", "issue", "--models", str(place), *programs]) == 0
    out, err = capsys.readouterr()
    assert "| toy | Q8_0 | pp128 | 200 | 100 (2.00×) |" in out
    assert err.count("left out: there is no ") == 5
    assert f"make_synthetic llama-3.2-1B --out {place}/L3.2-1B-q8_0.gguf" in err
    (place / "L7B-q8_0.gguf").unlink()
    assert main(["--suite", "issue", "--models", str(place), *programs]) == 2
    assert "holds no file of the suite 'issue'" in capsys.readouterr().err


@pytest.mark.parametrize("name", SUITES)
def test_recipes_of_suites_name_their_files_and_known_shapes(name: str, place: Path) -> None:
    for model in SUITES[name]:
        words = model.recipe.format(models=place).split()
        if "tools.performance.make_synthetic" in words:
            at = words.index("tools.performance.make_synthetic")
            assert words[at + 1] in SHAPES
            assert words[words.index("--out") + 1] == str(place / model.file)
            kind = words[words.index("--type") + 1] if "--type" in words else "q8_0"
            assert kind in FILE_TYPES
            assert model.file.endswith(f"-{kind}.gguf")
