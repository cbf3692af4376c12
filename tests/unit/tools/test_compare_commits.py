"""Two clones are measured by turns, in processes that import each its own llorch."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from llorch.kernels import object_cache
from tests.conftest import REPOSITORY
from tools.performance import held_model
from tools.performance.compare_commits import Timer, compare, main, start

pytestmark = pytest.mark.slow  # each test starts processes that import llorch


def test_a_copy_is_compared_with_this_clone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(REPOSITORY / "llorch", tmp_path / "llorch", ignore=shutil.ignore_patterns("__pycache__"))
    tests = ["pp8", "tg4@2"]
    words = [str(tmp_path), "--json", "--pairs", "2", "-t", "1"]
    assert main(words + [word for test in tests for word in ("--test", test)]) == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert list(document["tests"]) == tests
    for result in document["tests"].values():
        assert result["n_pairs"] == 2
        assert 0 < result["speed_quartile_1"] <= result["speed"] <= result["speed_quartile_3"]
    assert captured.err.count(" times as fast ") == 2


def test_no_prompt_of_a_held_model_has_a_prefix_in_common_with_an_earlier_one() -> None:
    """A cached prefix would not be read again: a prompt of 512 tokens would then take the time of a few."""
    prompts = [held_model.new_prompt(512) for _ in range(600)]
    assert len({prompt[0] for prompt in prompts[:250]}) == 250
    assert len({tuple(prompt[:2]) for prompt in prompts}) == 600
    assert {len(prompt) for prompt in prompts} == {512}
    assert len(held_model.new_prompt(1)) == 1


def test_pairs_alternate_and_their_ratios_are_reported() -> None:
    order: list[str] = []

    def timer(name: str, seconds: list[float]) -> Timer:
        def run() -> float:
            order.append(name)
            return seconds.pop(0)

        return run

    found = compare(timer("ours", [9.0, 1.0, 2.0, 4.0]), timer("theirs", [9.0, 2.0, 2.0, 2.0]), 3)
    assert order == ["ours", "theirs", "ours", "theirs", "theirs", "ours", "ours", "theirs"]
    assert found["speed"] == 1.0
    assert found["speed_of_sums"] == 6 / 7
    assert (found["this_s"], found["other_s"]) == (2.0, 2.0)


def test_a_start_is_timed_with_a_cache_of_its_own() -> None:
    assert start(REPOSITORY, "demo", object_cache.cache_root()) > 0


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--test", "tg2"], "imports llorch of"),
        (["--test", "fast"], "'fast' is not a test"),
        (["--test", "start", "-m", "missing.gguf"], "missing.gguf"),
    ],
)
def test_what_cannot_be_measured_is_said_in_one_line(
    words: list[str], problem: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path), "--pairs", "1", *words]) == 2
    last = capfd.readouterr().err.splitlines()[-1]
    assert last.startswith("compare_commits: ")
    assert problem in last
