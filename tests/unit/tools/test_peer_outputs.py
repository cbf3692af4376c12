"""What each peer printed in a real run of SmolLM2-135M Q8_0 on two cores (2026-11-27) is understood."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.peer_scripts import script
from tools.performance.openvino_peer import OpenVino
from tools.performance.peer_runs import CannotLoadError, SpeedTest
from tools.performance.peers import DasLlama, IkLlamaCpp, LlamaCpp, Peer

OUTPUTS = Path(__file__).parent / "peer_outputs"
PROMPT, TOGETHER = SpeedTest.parse("pp16"), SpeedTest.parse("tg4@2")


def printing(path: Path, file: str, stream: str = "stdout", code: int = 0) -> Path:
    """A program that prints a recorded output."""
    text = (OUTPUTS / file).read_text()
    return script(path, f"sys.{stream}.write({text!r}); sys.exit({code})")


def recording(path: Path, file: str) -> Path:
    """A program that writes a recorded file where ``--json-path`` says."""
    return script(
        path,
        "import pathlib\n"
        f"pathlib.Path(sys.argv[sys.argv.index('--json-path') + 1]).write_text({(OUTPUTS / file).read_text()!r})",
    )


@pytest.mark.parametrize(
    ("test", "speed", "figures"),
    [(PROMPT, 8.339272, {"n_prompt": 16, "type_k": "f16"}), (TOGETHER, 1.580016, {"tg": 4, "pl": 2})],
)
def test_llama_cpp(tmp_path: Path, test: SpeedTest, speed: float, figures: dict[str, object]) -> None:
    bench = printing(tmp_path / "llama-bench", "llama-bench.json")
    batched = printing(tmp_path / "llama-batched-bench", "llama-batched-bench.jsonl")
    run = LlamaCpp("llama.cpp", bench, batched).run(Path("/m.gguf"), test, 2, 60)
    assert run.tokens_per_s == speed
    assert run.output.items() >= figures.items()
    assert "/models" not in str(run.output)


@pytest.mark.parametrize(
    ("test", "speed", "figures"),
    [(PROMPT, 9.023318, {"repack": True}), (TOGETHER, 169.33, {"t_tg": 0.047, "n_kv": 10})],
)
def test_ik_llama_cpp(tmp_path: Path, test: SpeedTest, speed: float, figures: dict[str, object]) -> None:
    bench = printing(tmp_path / "llama-bench", "ik-llama-bench.json")
    batched = printing(tmp_path / "llama-batched-bench", "ik-llama-batched-bench.txt", "stderr")
    run = IkLlamaCpp("ik_llama.cpp", bench, batched).run(Path("/m.gguf"), test, 2, 60)
    assert run.tokens_per_s == speed
    assert run.output.items() >= figures.items()


def test_dasllama(tmp_path: Path) -> None:
    program = recording(tmp_path / "dasllama-bench", "dasllama-records.json")
    assert (
        DasLlama(program, tmp_path).run(tmp_path / "m.gguf", TOGETHER, 2, 60).tokens_per_s
        == 90.48351096924252
    )


def test_openvino(tmp_path: Path) -> None:
    python = printing(tmp_path / "python", "openvino.json")
    run = OpenVino(python).run(Path("/m.gguf"), TOGETHER, 2, 60)
    assert run.tokens_per_s == 71.69147430716556
    assert run.output["openvino_genai"] == "2026.4.1.0-3408-ab01d1771e4"
    assert run.command == "python -m tools.performance.openvino_worker m.gguf tg4@2 --threads 2"


def test_the_refusal_of_dasllama_is_no_failure(tmp_path: Path) -> None:
    program = printing(tmp_path / "dasllama-bench", "dasllama-refusal.txt", code=1)
    peer: Peer = DasLlama(program, tmp_path)
    with pytest.raises(CannotLoadError, match=r"tensor 'blk\.0\.ffn_down\.weight' is Q4_1 on disk"):
        peer.run(tmp_path / "m.gguf", PROMPT, 2, 60)
