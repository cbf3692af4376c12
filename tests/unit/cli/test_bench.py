"""`llorch bench` measures, names its tests as llama-bench does, and prints three ways."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from llorch.bench import tests as bench
from llorch.bench.tests import BenchTest
from llorch.cli.main import main
from llorch.model.batch import Batch
from llorch.model.kv_cache import KVCache
from llorch.model.llama import Llama


@pytest.fixture(autouse=True)
def _small_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llorch.bench.bandwidth.BUFFER_BYTES", 64 << 20)


@pytest.fixture
def model(tiny_model: Path) -> str:
    return str(tiny_model)


def run_json(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, Any]]:
    assert main(["bench", *words, "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    results = json.loads(out)
    assert isinstance(results, list)
    return results


def test_a_real_model_is_measured_as_llama_bench_would(
    model_path: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = model_path("stories260K-q8_0.gguf")
    words = ["-m", str(path), "-p", "16,40", "-n", "3", "-b", "1,4", "-t", "1", "-r", "2", "-ub", "32"]
    results = run_json(capsys, *words)
    assert [r["test"] for r in results] == ["pp16", "pp40", "tg3", "tg3@4"]
    for result in results:
        samples = result["samples_tokens_per_s"]
        assert isinstance(samples, list)
        assert len(samples) == 2
        assert min(samples) <= result["tokens_per_s"] <= max(samples)
        assert result["stddev"] >= 0
        assert result["n_threads"] == 1
        assert result["read_gb_per_s"] > 0
    # What is read and multiplied follows from the speed and the sizes of the matrices.
    tg = results[2]
    seconds = sum(3 / speed for speed in tg["samples_tokens_per_s"]) / 2
    assert tg["weight_gb_per_s"] == pytest.approx(3 * tg["model_bytes"] / seconds / 1e9)


def test_a_prompt_longer_than_the_context_is_measured(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    (result,) = run_json(capsys, "-m", model, "-p", "200", "-n", "0", "-r", "1")
    assert (result["test"], result["n_tokens"], result["stddev"]) == ("pp200", 200, 0)


def test_each_number_of_threads_is_measured(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    results = run_json(capsys, "-m", model, "-p", "4", "-n", "0", "-r", "1", "-t", "1,2")
    assert [r["n_threads"] for r in results] == [1, 2]


def test_the_curve_over_threads_is_drawn(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "curve.png"
    words = ("-m", model, "-p", "4", "-n", "2", "-r", "2", "-t", "1,2,4", "--plot", str(picture))
    results = run_json(capsys, *words)
    assert [(r["test"], r["n_threads"]) for r in results] == [
        (t, n) for n in (1, 2, 4) for t in ("pp4", "tg2")
    ]
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_speeds_are_drawn_over_all_that_varies_with_their_limits(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    heights: list[int] = []
    for words in ("-n 2", "-n 2 -b 1,3", "-n 2 -b 1,3 -d 0,6 -t 1,2"):
        picture = tmp_path / f"{len(heights)}.png"
        run_json(capsys, "-m", model, "-p", "4", "-r", "1", *words.split(), "--plot", str(picture))
        with Image.open(picture) as image:
            heights.append(image.height)
    assert heights == [460, 460, 100 + 3 * 360]


def test_a_context_before_a_test_is_read_and_slows_it_by_what_it_costs_to_read(
    model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    results = run_json(capsys, "-m", model, "-p", "4", "-n", "2", "-b", "2", "-r", "1", "-d", "0,30")
    assert [(r["test"], r["depth"]) for r in results] == [
        *(("pp4", 0), ("tg2@2", 0), ("pp4 @ d30", 30), ("tg2@2 @ d30", 30)),
    ]
    limits = [r["limit_tokens_per_s"] for r in results]  # all under the same roofline
    assert 0 < limits[3] < limits[1]
    assert 0 < limits[2] < limits[0]


@pytest.mark.parametrize(
    ("file", "message"),
    [("curve.pdf", "ends in .png"), ("absent/curve.png", "no folder"), ("folder.png", "is no regular file")],
)
def test_a_picture_that_cannot_be_written_is_one_line(
    model: str, tmp_path: Path, file: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder.png").mkdir()
    assert main(["bench", "-m", model, "-p", "2", "-n", "0", "-r", "1", "--plot", str(tmp_path / file)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1


def test_a_picture_without_matplotlib_is_refused_before_anything_is_measured(
    model: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llorch.bench.picture.find_spec", lambda name: None)
    assert main(["bench", "-m", model, "--plot", "curve.png"]) == 2
    assert "llorch[plots]" in capsys.readouterr().err


@pytest.mark.parametrize("flag", [[], ["--markdown"]])
def test_the_table_names_every_test(model: str, flag: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "-m", model, "-p", "4", "-n", "2", "-b", "1,2", "-r", "1", *flag]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for word in ("tiny llama", "pp4", "tg2", "tg2@2", "GMAC/s"):
        assert word in out
    if flag:
        table = [line for line in out.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in table}) == 1
        assert len(table) == 2 + 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-p", "x"], "'x' is not a whole number"),
        (["-p", "-1"], "-1 is not between 0"),
        (["-b", "0"], "0 is not between 1"),
        (["-r", "0"], "0 is not between 1"),
        (["-p", "0", "-n", "0"], "nothing to measure"),
        (["-n", "2", "-b", "600"], "600 sequences do not fit the batch size 512"),
        (["--json", "--markdown"], "exclude each other"),
        (["--kv-type", "q8_0"], "kv-type: expected"),
        (["-p", "1048576", "-n", "0", "--kv-type", "f32"], None),
    ],
)
def test_what_cannot_be_measured_is_one_line_and_exit_code_2(
    model: str,
    words: list[str],
    message: str | None,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if message is None:
        monkeypatch.setattr(bench, "available_memory", lambda: 1 << 20)
        message = "of memory are free"
    try:
        code = main(["bench", "-m", model, *words])
    except SystemExit as exit_:
        code = exit_.code  # type: ignore[assignment]
    out, err = capsys.readouterr()
    assert code == 2
    assert out == ""
    assert message in err
    assert err.count("\n") == 1


def test_tests_are_named_as_llama_bench_names_them() -> None:
    tests = bench.tests_for([512, 0], [128], [1, 8], [0, 64])
    assert tests[:3] == [BenchTest("pp", 512), BenchTest("tg", 128, 1), BenchTest("tg", 128, 8)]
    assert [test.name for test in tests] == [
        *("pp512", "tg128", "tg128@8"),
        *("pp512 @ d64", "tg128 @ d64", "tg128@8 @ d64"),
    ]


def test_sequences_generated_together_do_not_see_each_other(
    model: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[list[int], list[int], int]] = []
    forward = Llama.forward

    def spy(self: Llama, batch: Batch, cache: KVCache, probe: None) -> object:
        tables = batch.block_tables
        assert len(set(tables.ravel().tolist())) == tables.size <= cache.n_blocks
        seen.append((batch.slots.tolist(), batch.positions.tolist(), len(batch.output_rows)))
        return forward(self, batch, cache, probe)

    monkeypatch.setattr(Llama, "forward", spy)
    run_json(capsys, "-m", model, "-p", "0", "-n", "2", "-b", "3", "-r", "1")
    warm_up, first, second = seen
    assert warm_up == first == ([0, 1, 2], [0, 0, 0], 3)
    assert second == ([0, 1, 2], [1, 1, 1], 3)
