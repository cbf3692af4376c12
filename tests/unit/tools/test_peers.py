"""Peers with command lines of their own, here small scripts: dasLLAMA and ik_llama.cpp beside llama.cpp."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llorch.cli.main import main as llorch_main
from tests.support.peer_scripts import LLAMA_BENCH, documents, llorch_speeds, place, script, words
from tools.performance import readme_table
from tools.performance.compare_peers import main

__all__ = ["llorch_speeds", "place"]

IK_BENCH = """
assert sys.argv[sys.argv.index("-rtr") + 1] == "1"
print('[{"avg_ts": 150.0, "model_filename": "/somewhere/model.gguf"}]')
"""
IK_BATCHED = """
assert sys.argv[-1] == "-rtr"
print("|    PP |     TG |    B |   N_KV |   T_PP s | S_PP t/s |   T_TG s | S_TG t/s |", file=sys.stderr)
print("|     1 |      4 |    2 |     10 |    0.010 |   200.00 |    0.100 |    80.00 |", file=sys.stderr)
"""
DASLLAMA = """
import json, pathlib
value = lambda flag: sys.argv[sys.argv.index(flag) + 1]
model = pathlib.Path(value("-m"))
assert model.read_bytes()[:4] == b"GGUF"
model.with_name(model.name + ".prepared").write_text("beside the model")
n, prompt = value("-n"), value("-p")
tests = {f"tg{n}": {"tok_s": 40.0}} if prompt == "0" else {f"pp{prompt}": {"tok_s": 75.0}}
if "--npl" in sys.argv:
    assert value("--npl-plen") == "16"
    tests[f"tg{n}@{value('--npl')}"] = {"tok_s": 60.0}
pathlib.Path(value("--json-path")).write_text(json.dumps([{"runs": [{"tests": tests}]}]))
"""
REFUSING = "print('EXCEPTION: dasLLAMA: tensor x is Q4_1 on disk - no arm for that type'); sys.exit(1)"


@pytest.fixture
def peers(place: Path) -> list[str]:
    """The flags that name all three."""
    script(place / "dasllama-bench", DASLLAMA)
    (place / "ik").mkdir()
    script(
        place / "ik" / "llama-bench",
        f"if '--version' not in sys.argv:\n    {IK_BENCH.strip().replace(chr(10), chr(10) + '    ')}",
    )
    script(place / "ik" / "llama-batched-bench", IK_BATCHED)
    return ["--dasllama", f"{place}/dasllama-bench", "--ik-llama", f"{place}/ik"]


@pytest.mark.usefixtures("llorch_speeds")
def test_every_peer_is_measured_by_turns_and_named(
    place: Path, peers: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words(place, "pp8,tg4@2", n_rounds=2), *peers]) == 0
    out = capsys.readouterr().out
    assert (
        "llama.cpp, tokens/s | ratio | ik_llama.cpp, tokens/s | ratio | dasLLAMA, tokens/s | ratio |" in out
    )
    assert "| toy | Q8_0 | pp8 | 250 | 100 | **2.50×** | 150 | **1.67×** | 75.0 | **3.33×** |" in out
    document, (_, *runs), folder = documents(place)
    order = ["llorch", "llama.cpp", "ik_llama.cpp", "dasLLAMA"]
    assert [run["engine"] for run in runs if run["test"] == "pp8"] == [*order, *order[::-1]]
    second = document["cases"][1]["engines"]
    assert {name: second[name]["median"] for name in order[1:]} == dict(
        zip(order[1:], (50, 80, 60), strict=True)
    )
    readme_table.main([str(folder)])
    assert "against llama.cpp (version: 9.9 (commit abc)), ik_llama.cpp (" in capsys.readouterr().out
    assert sorted(path.name for path in place.glob("*prepared")) == []
    assert llorch_main(["validate", "--verify", str(folder)]) == 0
    figures = json.loads((folder / "performance.json").read_text())
    assert set(figures["cases"][0]["ratios"]) == set(order[1:])


@pytest.mark.usefixtures("llorch_speeds")
def test_a_peer_that_cannot_load_a_file_is_said_so_and_the_others_go_on(
    place: Path, peers: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    script(place / "dasllama-bench", REFUSING)
    script(place / "ik" / "llama-bench", "print('error: failed to load model', file=sys.stderr); sys.exit(1)")
    script(place / "llama-bench", LLAMA_BENCH)
    assert main([*words(place, "pp8,tg4", n_rounds=2), *peers]) == 0
    out, err = capsys.readouterr()
    assert err.count("dasLLAMA cannot load model.gguf: EXCEPTION: dasLLAMA: tensor x is Q4_1 on disk") == 1
    assert "| 100 | **2.50×** | – | – | – | – |" in out
    document, _, folder = documents(place)
    assert [list(peer["cannot_load"]) for peer in document["peers"]] == [[], ["model.gguf"], ["model.gguf"]]
    assert "dasLLAMA cannot load model.gguf" in (folder / "summary.md").read_text()
    readme_table.main([str(folder)])
    assert "dasLLAMA cannot load model.gguf." in capsys.readouterr().out


@pytest.mark.usefixtures("llorch_speeds")
def test_a_peer_without_a_figure_is_one_line(
    place: Path, peers: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    script(place / "dasllama-bench", "print('nothing')")
    assert main([*words(place, "pp8"), *peers]) == 1
    assert "dasllama-bench recorded no speed for pp8: 'nothing" in capsys.readouterr().err.splitlines()[-1]
