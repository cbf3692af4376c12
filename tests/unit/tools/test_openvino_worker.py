"""The worker that runs OpenVINO GenAI: what it writes, asks for and reports, with a stand-in for the package."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from llorch.formats.gguf.file import GGUFFile
from tools.performance import openvino_worker
from tools.performance.openvino_worker import CANNOT_LOAD, main, prompt_ids, write_vocabulary


class Pipelines:
    """In place of `ContinuousBatchingPipeline`: it keeps what it is given and generates `surplus` tokens too many."""

    def __init__(self) -> None:
        self.surplus = 0
        self.refusal = ""
        self.made: list[tuple[Any, ...]] = []
        self.properties: dict[str, Any] = {}
        self.scheduler = SimpleNamespace()
        self.calls: list[tuple[list[list[int]], int]] = []

    def __call__(self, *words: Any, **properties: Any) -> Pipelines:
        if self.refusal:
            raise RuntimeError(self.refusal)
        self.made.append(words)
        self.properties = properties
        self.scheduler = words[2]
        return self

    def generate(self, prompts: list[Any], configs: list[Any]) -> list[Any]:
        n = configs[0].max_new_tokens
        assert all(config.ignore_eos and config.min_new_tokens == n for config in configs)
        self.calls.append(([prompt.tolist()[0] for prompt in prompts], n))
        return [SimpleNamespace(m_generation_ids=[[7] * (n + self.surplus)]) for _ in prompts]


@pytest.fixture
def pipelines(monkeypatch: pytest.MonkeyPatch) -> Pipelines:
    found = Pipelines()
    genai = ModuleType("openvino_genai")
    parts = {
        "ContinuousBatchingPipeline": found,
        "SchedulerConfig": SimpleNamespace,
        "GenerationConfig": SimpleNamespace,
        "Tokenizer": lambda path: Path(path).name,
        "get_version": lambda: "1.2.3",
    }
    for name, part in parts.items():
        setattr(genai, name, part)
    openvino = ModuleType("openvino")
    openvino.Tensor = lambda array: array  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "openvino_genai", genai)
    monkeypatch.setitem(sys.modules, "openvino", openvino)
    return found


@pytest.mark.parametrize(
    ("test", "n_sequences", "n_prompt", "n_generated"),
    [("pp512", 1, 512, 1), ("tg64", 1, 1, 64), ("tg64@8", 8, 1, 64)],
)
def test_a_test_is_run_twice_with_other_tokens_and_the_second_counts(
    pipelines: Pipelines,
    capsys: pytest.CaptureFixture[str],
    test: str,
    n_sequences: int,
    n_prompt: int,
    n_generated: int,
) -> None:
    assert main(["m.gguf", test, "--threads", "2", "--set", "KV_CACHE_PRECISION=f16"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [n for _, n in pipelines.calls] == [n_generated] * 2
    warm, timed = (prompts for prompts, _ in pipelines.calls)
    assert [len(prompt) for prompt in warm + timed] == [n_prompt] * 2 * n_sequences
    assert len({prompt[0] for prompt in warm + timed}) == 2 * n_sequences
    n_counted = n_prompt if test.startswith("pp") else n_sequences * n_generated
    assert result["tokens_per_s"] == pytest.approx(n_counted / result["wall_s"])
    assert (result["n_sequences"], result["n_generated"]) == (n_sequences, n_generated)
    assert result["openvino_genai"] == "1.2.3"
    assert pipelines.properties == {"INFERENCE_NUM_THREADS": 2, "KV_CACHE_PRECISION": "f16"}
    assert not pipelines.scheduler.enable_prefix_caching
    assert pipelines.scheduler.max_num_batched_tokens >= n_prompt
    assert pipelines.scheduler.num_kv_blocks * 16 >= n_sequences * (n_prompt + n_generated)


@pytest.mark.parametrize("surplus", [-1, 1])
def test_another_number_of_tokens_is_an_error(pipelines: Pipelines, surplus: int) -> None:
    pipelines.surplus = surplus
    with pytest.raises(RuntimeError, match=f"generated .{4 + surplus}, {4 + surplus}. tokens where 4 each"):
        main(["m.gguf", "tg4@2", "--threads", "1"])


def test_a_file_that_is_refused_is_one_line(pipelines: Pipelines, capsys: pytest.CaptureFixture[str]) -> None:
    pipelines.refusal = "Check 'x' failed at gguf.cpp:1:\n\n  no such type\n"
    with pytest.raises(SystemExit) as exit_:
        main(["m.gguf", "pp8", "--threads", "1"])
    assert exit_.value.code == 1
    assert capsys.readouterr().err == f"{CANNOT_LOAD}Check 'x' failed at gguf.cpp:1: no such type\n"


def test_ids_stay_within_small_vocabularies() -> None:
    assert max(prompt_ids(4096, 1)) < 32000
    assert max(prompt_ids(1, 31)) < 32000


def test_the_vocabulary_is_a_gguf_file_with_a_control_token(tmp_path: Path) -> None:
    write_vocabulary(tmp_path / "v.gguf")
    with closing(GGUFFile(tmp_path / "v.gguf")) as file:
        metadata: dict[str, Any] = dict(file.metadata)
        assert not file.tensor_infos
    assert metadata["tokenizer.ggml.model"] == "gpt2"
    assert len(list(metadata["tokenizer.ggml.tokens"])) == openvino_worker.N_TOKENS
    assert list(metadata["tokenizer.ggml.token_type"])[:2] == [3, 1]
