"""Comparisons alternate, keep every run, and fail in one clear line. The peers here are small scripts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llorch.validation.bundle import SEALS
from llorch.validation.records import sha256_of_file
from llorch.validation.verify import verify
from tests.support.peer_scripts import (
    BATCHED_BENCH,
    LLAMA_BENCH,
    documents,
    llorch_speeds,
    place,
    script,
    words,
)
from tools.performance import compare_peers, readme_table, rounds
from tools.performance.compare_peers import main
from tools.performance.peer_runs import PeerError, Run, SpeedTest
from tools.performance.performance_report import summarize

__all__ = ["llorch_speeds", "place"]


@pytest.mark.usefixtures("llorch_speeds")
def test_every_run_is_kept_and_summed_up(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words(place, "pp8")) == 0
    out, err = capsys.readouterr()
    assert (
        "| toy | Q8_0 | pp8 | 300 | 100 (3.00×) | ahead of llama.cpp 3.00× (2.00 … 4.00) | 1.4×: reached |"
        in out
    )
    assert err.count("tokens/s") == 6
    document, (mark, *runs), folder = documents(place)
    assert "generated" in mark["generated_by"]
    assert [(r["round"], r["engine"]) for r in runs] == [
        (1, "llorch"), (1, "llama.cpp"), (2, "llama.cpp"), (2, "llorch"), (3, "llorch"), (3, "llama.cpp"),
    ]  # fmt: skip
    (case,) = document["cases"]
    assert case["engines"]["llorch"] == summarize([200.0, 400.0, 300.0])
    assert case["ratios"] == {"llama.cpp": {"ratio": 3, "min": 2, "max": 4}}
    assert case["share_of_read_bandwidth"]["median"] == pytest.approx(0.9)
    assert case["model"]["sha256"] == sha256_of_file(place / "model.gguf")
    assert [peer["version"] for peer in document["peers"]] == ["version: 9.9 (commit abc)"]
    for path in folder.iterdir():
        if path.suffix != ".png":
            assert path.name in SEALS or "generated" in path.read_text()
            assert str(place) not in path.read_text()


@pytest.mark.usefixtures("llorch_speeds")
def test_a_bundle_fingerprints_the_machine_and_every_engine_and_model(place: Path) -> None:
    (place / "libllama.so.1").write_bytes(b"a library beside the programs")
    (place / "libllama.so").symlink_to("libllama.so.1")
    assert main(words(place, "pp8", n_rounds=1)) == 0
    folder = documents(place)[2]
    index = json.loads((folder / "bundle.json").read_text())
    assert verify(folder).problems == []
    assert index["hardware"]["cpu"]["name"]
    assert index["hardware"]["memory_bytes"] > 1 << 28
    assert [package["name"] for package in index["packages"]] == ["numpy", "numba", "llvmlite"]
    (model,) = index["models"]
    assert model["tensor_types"] == {"F32": 5, "Q8_0": 16}
    (peer,) = index["peers"]
    files = ["llama-bench", "libllama.so.1", "llama-batched-bench"]
    assert peer["programs"] == [
        {
            "file": file,
            "sha256": sha256_of_file(place / file),
            "bytes": (place / file).stat().st_size,
        }
        for file in files
    ]


@pytest.mark.usefixtures("llorch_speeds")
def test_the_chart_is_drawn_or_the_summary_says_how_to_get_it(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(words(place, "pp8,tg4@2")) == 0
    document, _, folder = documents(place)
    assert document["has_chart"]
    assert b"generated" in (folder / "chart.png").read_bytes()
    assert "![bar chart](chart.png)" in (folder / "summary.md").read_text()
    monkeypatch.setattr("llorch.bench.plots.find_spec", lambda name: None)
    monkeypatch.setenv("LLORCH_PROOF_DIR", str(place / "bare"))
    assert main(words(place, "pp8")) == 0
    folder = place / "bare" / "performance" / "run-1"
    assert not (folder / "chart.png").exists()
    assert "pip install 'llorch[plots]'" in (folder / "summary.md").read_text()


@pytest.mark.usefixtures("llorch_speeds")
def test_sequences_together_go_to_the_batched_program(place: Path) -> None:
    assert main(words(place, "tg4,tg4@2")) == 0
    document, _, _ = documents(place)
    assert [c["engines"]["llama.cpp"]["median"] for c in document["cases"]] == [100, 50]
    assert "llama-batched-bench -m model.gguf -c 512 -npp 1 -ntg 4,1 -npl 2" in "\n".join(
        document["commands"]
    )


@pytest.mark.usefixtures("llorch_speeds")
def test_without_peers_llorch_alone_is_measured(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--case", f"{place}/model.gguf", "tg4", "-r", "1"]) == 0
    assert "| toy | Q8_0 | tg4 | 200 |" in capsys.readouterr().out
    document, _, _ = documents(place)
    assert document["peers"] == []


@pytest.mark.usefixtures("llorch_speeds")
def test_no_round_is_begun_that_does_not_fit_the_budget(place: Path) -> None:
    assert main([*words(place, "pp8"), "--budget", "1e-9"]) == 0
    document, runs, _ = documents(place)
    assert (document["rounds_done"], document["rounds_wanted"], len(runs)) == (1, 3, 1 + 2)


def test_the_share_is_of_the_highest_bandwidth_that_was_measured_in_the_round(
    place: Path, llorch_speeds: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = vars(rounds)["run_llorch"]

    def disturbed(model: Path, test: SpeedTest, *rest: Any) -> Run:
        found = run(model, test, *rest)
        found.output["read_gb_per_s"] = 6.0 if test.name == "tg4" else 12.0
        return found

    monkeypatch.setattr(rounds, "run_llorch", disturbed)
    assert main(words(place, n_rounds=2)) == 0
    document, _, folder = documents(place)
    assert document["cases"][1]["test"] == "tg4"
    assert document["cases"][1]["verdict"]["share"] == 9 / 12
    assert document["cases"][1]["share_of_read_bandwidth"]["median"] == 9 / 6
    assert verify(folder).problems == []


@pytest.mark.usefixtures("llorch_speeds")
def test_a_busy_machine_is_reported(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "_busy_share", lambda: 0.5)
    assert main(words(place, "pp8", n_rounds=1)) == 0
    assert "other work takes 50 % of the CPUs" in capsys.readouterr().err
    assert "50 … 50 % of the CPUs" in (documents(place)[2] / "summary.md").read_text()


@pytest.mark.usefixtures("llorch_speeds")
@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("print('a reason', file=sys.stderr); sys.exit(3)", "failed with exit code 3: a reason"),
        ("sys.exit(3)", "it said nothing"),
        ("print('hello')", "did not print a JSON list"),
        ("print('[]')", "did not print a JSON list"),
        ("import time; time.sleep(3600)", "was stopped after 1 s"),
    ],
)
def test_a_failing_peer_is_an_empty_cell_with_its_message(
    place: Path, body: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    script(place / "llama-bench", f"if '--version' not in sys.argv:\n    {body}")
    limit_s = "1" if "stopped" in message else "100"  # the others take as long as a busy machine needs
    assert main([*words(place, "pp8", n_rounds=2), "--timeout", limit_s]) == 0
    out, err = capsys.readouterr()
    assert "| toy | Q8_0 | pp8 | 300 | – | – | – |" in out
    assert err.count(message) == 2
    document, _, folder = documents(place)
    assert list(document["cases"][0]["engines"]) == ["llorch"]
    (said,) = document["peers"][0]["failures"]["pp8 of model.gguf"][:1]
    assert message in said
    assert f"llama.cpp failed in pp8 of model.gguf, 2 times: {said}" in (folder / "summary.md").read_text()
    assert verify(folder).problems == []


@pytest.mark.usefixtures("llorch_speeds")
def test_a_peer_that_fails_once_keeps_its_other_rounds(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    silent_once = f"import pathlib\nseen = pathlib.Path({str(place / 'seen')!r})\nif seen.exists():\n"
    works = "".join(f"    {line}\n" for line in LLAMA_BENCH.strip().splitlines())
    script(place / "llama-bench", f"{silent_once}{works}elif '--version' not in sys.argv:\n    seen.touch()")
    assert main(words(place, "pp8", n_rounds=3)) == 0
    document, _, folder = documents(place)
    (case,) = document["cases"]
    assert (case["engines"]["llorch"]["n"], case["engines"]["llama.cpp"]["n"]) == (3, 2)
    assert (case["verdict"]["least"], case["verdict"]["most"]) == (3, 4)  # of the rounds that both have
    assert verify(folder).problems == []
    capsys.readouterr()
    readme_table.main([str(folder)])
    assert "llama.cpp failed in pp8 of model.gguf." in capsys.readouterr().out


def test_llorch_that_fails_is_one_line_and_writes_nothing(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> Run:
        raise PeerError("llorch failed with exit code 1")

    monkeypatch.setattr(compare_peers, "_warm_up", lambda models: None)
    monkeypatch.setattr(rounds, "run_llorch", fail)
    assert main(words(place, "pp8")) == 1
    out, err = capsys.readouterr()
    assert (out, err.splitlines()[-1]) == ("", "compare_peers: llorch failed with exit code 1")
    assert not (place / "proof").exists()


@pytest.mark.usefixtures("llorch_speeds")
def test_a_batched_program_that_loses_its_lines_is_asked_again(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    silent_once = f"import pathlib\nseen = pathlib.Path({str(place / 'seen')!r})\nif seen.exists():\n"
    again = "".join(f"    {line}\n" for line in BATCHED_BENCH.strip().splitlines())
    script(place / "llama-batched-bench", f"{silent_once}{again}seen.touch()")
    assert main(words(place, "tg4@2", n_rounds=1)) == 0
    script(place / "llama-batched-bench", "print()")
    assert main(words(place, "tg4@2", n_rounds=1)) == 2  # this run id is taken
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--case", "absent.gguf", "pp8"], "there is no model at absent.gguf"),
        (["--llama-bench", "absent"], "absent is not a program"),
        (["-r", "0"], "--rounds: expected more than 0"),
        (["--peer-name", "llorch"], "a name of its own"),
        (["--peers", "absent"], "absent holds none of build/bin/llama-bench"),
        (["--case", "{model}", "pp8"], "twice"),
        (["--case", "{model}", "tg0"], "'tg0' is not a test"),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(
    place: Path, change: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    extra = [word.format(model=place / "model.gguf") for word in change]
    assert main([*words(place), *extra]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("name", ["", "pp", "pp-1", "pp8@2", "tg8@0", "xx8", "tg8@", "pp8 "])
def test_only_names_of_tests_are_tests(name: str) -> None:
    with pytest.raises(PeerError, match="is not a test"):
        SpeedTest.parse(name)


@pytest.mark.usefixtures("llorch_speeds")
def test_readme_holds_the_table_of_a_bundle(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words(place, "pp8")) == 0
    bundle = documents(place)[2]
    readme = place / "README.md"
    readme.write_text(f"before\n\n{readme_table.BEGIN}\nstale words\n{readme_table.END}\n\nafter\n")
    capsys.readouterr()
    assert readme_table.main([str(bundle), "--update", str(readme)]) == 0
    assert "updated" in capsys.readouterr().out
    page = readme.read_text()
    assert page.startswith("before\n\n<!--")
    assert page.endswith("-->\n\nafter\n")
    assert (
        "| toy | Q8_0 | pp8 | 300 | 100 (3.00×) | ahead of llama.cpp 3.00× (2.00 … 4.00) | 1.4×: reached |"
        in page
    )
    assert "proof_bundle/performance/run-1/summary.md" in page
    assert "1 ahead; 1 of 1 targets reached. Bold is what llorch loses or misses." in page
    assert "stale" not in page
    assert readme_table.main([str(bundle), "--update", str(readme)]) == 0
    assert "unchanged" in capsys.readouterr().out
    assert readme_table.main([str(bundle)]) == 0
    assert capsys.readouterr().out.strip() in page


def test_readme_without_markers_or_bundles_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert readme_table.main([str(tmp_path)]) == 2
    assert "is not a performance bundle" in capsys.readouterr().err
    (tmp_path / "README.md").write_text("no markers")
    with pytest.raises(readme_table.TableError, match="must hold these two lines"):
        readme_table.update(tmp_path / "README.md", "text")
