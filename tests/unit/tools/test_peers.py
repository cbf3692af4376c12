"""Peers with command lines of their own, here small scripts: dasLLAMA, ik_llama.cpp and OpenVINO GenAI."""

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


IK, DAS, OV = "ik/build/bin", "das/bin", "ov/bin"
OPENVINO = """
import json
assert sys.argv[1:3] == ["-m", "tools.performance.openvino_worker"]
test, words = sys.argv[4], sys.argv[5:]
assert words == ["--threads", "1"]
together = int(test.partition("@")[2] or 1)
n = 1 if test.startswith("pp") else int(test[2:].partition("@")[0])
print("a warning of a library")
print(json.dumps({"tokens_per_s": 160.0, "n_sequences": together, "n_generated": n}))
"""


def openvino(place: Path, body: str = OPENVINO) -> Path:
    """An environment whose interpreter is a script, with what pip records of OpenVINO's packages."""
    for name, version in (("openvino", "1.2"), ("openvino_genai", "1.2.0"), ("openvino_tokenizers", "1.2.0")):
        record = place / "ov" / "lib" / "python3.11" / "site-packages" / f"{name}-{version}.dist-info"
        record.mkdir(parents=True, exist_ok=True)
        (record / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (place / OV).mkdir(exist_ok=True)
    return script(place / OV / "python", body)


@pytest.fixture
def peers(place: Path) -> list[str]:
    """The flags that name all but llama.cpp."""
    (place / DAS).mkdir(parents=True)
    script(place / DAS / "dasllama-bench", DASLLAMA)
    (place / IK).mkdir(parents=True)
    script(
        place / IK / "llama-bench",
        f"if '--version' not in sys.argv:\n    {IK_BENCH.strip().replace(chr(10), chr(10) + '    ')}",
    )
    script(place / IK / "llama-batched-bench", IK_BATCHED)
    python = openvino(place)
    return [
        "--dasllama", f"{place / DAS}/dasllama-bench", "--ik-llama", f"{place / IK}", "--openvino", str(python),
    ]  # fmt: skip


@pytest.mark.usefixtures("llorch_speeds")
def test_every_peer_is_measured_by_turns_and_named(
    place: Path, peers: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words(place, "pp8,tg4@2", n_rounds=2), *peers]) == 0
    out = capsys.readouterr().out
    assert (
        "| llorch, tokens/s | llama.cpp (llorch's ratio) | ik_llama.cpp (llorch's ratio) | dasLLAMA (llorch's ratio)"
        " | OpenVINO GenAI (llorch's ratio) | against the fastest peer (by round) | target |"
    ) in out
    assert (
        "| toy | Q8_0 | pp8 | 250 | 100 (2.50×) | 150 (1.67×) | 75.0 (3.33×) | 160 (1.56×) "
        "| ahead of OpenVINO GenAI 1.56× (1.25 … 1.88) | 1.4×: reached |"
    ) in out
    assert "Against the fastest peer of each test: 2 ahead; 2 of 2 targets reached." in out
    document, (_, *runs), folder = documents(place)
    order = ["llorch", "llama.cpp", "ik_llama.cpp", "dasLLAMA", "OpenVINO GenAI"]
    assert [run["engine"] for run in runs if run["test"] == "pp8"] == [*order, *order[::-1]]
    second = document["cases"][1]["engines"]
    assert {name: second[name]["median"] for name in order[1:]} == dict(
        zip(order[1:], (50, 80, 60, 160), strict=True)
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
    script(place / DAS / "dasllama-bench", REFUSING)
    script(place / IK / "llama-bench", "print('error: failed to load model', file=sys.stderr); sys.exit(1)")
    script(place / "llama-bench", LLAMA_BENCH)
    refusal = "OpenVINO GenAI cannot load the model: no arm for Q4_9"
    openvino(place, f"print({refusal!r}, file=sys.stderr); sys.exit(1)")
    assert main([*words(place, "pp8,tg4", n_rounds=2), *peers]) == 0
    out, err = capsys.readouterr()
    assert err.count("dasLLAMA cannot load model.gguf: EXCEPTION: dasLLAMA: tensor x is Q4_1 on disk") == 1
    assert f"OpenVINO GenAI cannot load model.gguf: {refusal}" in err
    assert "| 100 (2.50×) | – | – | – | ahead of llama.cpp 2.50× (2.00 … 3.00) |" in out
    document, _, folder = documents(place)
    assert [list(peer["cannot_load"]) for peer in document["peers"]] == [[]] + [["model.gguf"]] * 3
    assert "dasLLAMA cannot load model.gguf" in (folder / "summary.md").read_text()
    readme_table.main([str(folder)])
    assert "dasLLAMA cannot load model.gguf." in capsys.readouterr().out


@pytest.mark.usefixtures("llorch_speeds")
@pytest.mark.parametrize(
    ("program", "message"),
    [
        (f"{DAS}/dasllama-bench", "dasllama-bench recorded no speed for pp8: 'nothing"),
        (f"{OV}/python", "OpenVINO GenAI printed no speed for pp8: 'nothing"),
    ],
)
def test_a_peer_without_a_figure_is_an_empty_cell(
    place: Path, peers: list[str], program: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    script(place / program, "print('nothing')")
    assert main([*words(place, "pp8", n_rounds=1), *peers]) == 0
    out, err = capsys.readouterr()
    assert message in err
    assert out.count("– ") == 1


@pytest.mark.usefixtures("llorch_speeds")
def test_openvino_must_have_generated_what_was_asked_for(
    place: Path, peers: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    openvino(place, OPENVINO.replace('"n_generated": n', '"n_generated": n - 1'))
    assert main([*words(place, "tg4", n_rounds=1), *peers]) == 0
    assert "OpenVINO GenAI ran another test than tg4" in capsys.readouterr().err


@pytest.mark.usefixtures("llorch_speeds")
def test_properties_of_openvino_reach_the_worker(place: Path, peers: list[str]) -> None:
    wanted = ["--threads", "1", "--set", "A=1", "--set", "B=f16"]
    openvino(place, OPENVINO.replace('["--threads", "1"]', repr(wanted)))
    assert main([*words(place, "pp8", n_rounds=1), *peers, "--openvino-args", "A=1 B=f16"]) == 0
    document, runs, _ = documents(place)
    assert "OpenVINO GenAI" in document["cases"][0]["engines"]
    assert document["peers"][-1]["extra"] == wanted[3::2]
    assert runs[-1]["command"].endswith("model.gguf pp8 --threads 1 --set A=1 --set B=f16")


def test_an_interpreter_without_openvino_is_refused_at_once(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    python = script(place / "python", "")
    assert main([*words(place, "pp8"), "--openvino", str(python)]) == 2
    assert "has no openvino-genai and openvino-tokenizers (pip install them)" in capsys.readouterr().err


@pytest.mark.usefixtures("llorch_speeds", "peers")
def test_one_folder_names_every_peer_that_is_in_it(place: Path) -> None:
    (place / "build" / "bin").mkdir(parents=True)
    for name in ("llama-bench", "llama-batched-bench"):
        (place / name).rename(place / "build" / "bin" / name)
    case = ["--case", f"{place}/model.gguf", "pp8", "-t", "1", "-r", "1"]
    assert main([*case, "--peers", str(place)]) == 0
    names = [peer["name"] for peer in documents(place)[0]["peers"]]
    assert names == ["llama.cpp", "ik_llama.cpp", "dasLLAMA", "OpenVINO GenAI"]
