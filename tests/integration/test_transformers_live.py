"""Our values against Hugging Face transformers itself, where it is installed (the `oracles` extra).

`tests/golden/test_hugging_face.py` holds the same against stored values everywhere.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llorch.formats.gguf.file import GGUFFile
from llorch.validation.checkpoints import validate
from llorch.validation.compare import compare
from llorch.validation.dumps import Reference
from llorch.validation.subject import open_subject
from llorch.validation.tolerances import F32_LOGITS
from tests.support.hf_directories import write_directory
from tests.support.oracle_values import logits_and_greedy, nmse, opened, stored_cases
from tools.make_hf_directory import make_directory
from tools.oracles.tiny_llamas import TINY_LLAMAS
from tools.reference import extract_checkpoints_hf

PROMPT = [1, 300, 17, 250, 99, 4, 361, 42]
TEXT = "Once upon a time there was a little girl"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(
        not (importlib.util.find_spec("torch") and importlib.util.find_spec("transformers")),
        reason="torch and transformers are not installed (the oracles extra)",
    ),
]


def other_weights(name: str, path: Path, **arguments: Any) -> Path:
    """A tiny directory with other weights than the stored values are of."""
    return write_directory(path / name, **{**TINY_LLAMAS[name], "seed": 1000, **arguments})


def dump(directory: Path, out: Path, *flags: str, text: str = TEXT) -> Reference:
    """What transformers computes of it, stage by stage."""
    assert extract_checkpoints_hf.main(["-m", str(directory), "-p", text, "-o", str(out), *flags]) == 0
    return Reference.load(out)


@pytest.mark.parametrize("name", TINY_LLAMAS)
def test_logits_and_greedy_tokens_of_other_weights_are_transformers_too(name: str, tmp_path: Path) -> None:
    from tools.oracles.transformers_run import greedy_tokens, load_llama, logits_of

    directory = other_weights(name, tmp_path)
    theirs = load_llama(directory)
    with opened(directory, expanded=True) as model:
        logits, greedy = logits_and_greedy(model, PROMPT, 20)
    assert compare(logits, logits_of(theirs, PROMPT), F32_LOGITS).passed
    assert greedy == greedy_tokens(theirs, PROMPT, 20)[0]


def test_mistral_is_a_llama_up_to_its_sliding_window_where_the_context_ends(tmp_path: Path) -> None:
    from tools.oracles.transformers_run import load_llama, logits_of

    entries = {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "sliding_window": 5}
    directory = write_directory(tmp_path / "mistral", config=entries, tokenizer=False)
    theirs = logits_of(load_llama(directory), PROMPT)
    with opened(directory) as model:
        logits, _ = logits_and_greedy(model, PROMPT)
        n_ctx = model.config.n_ctx_train
    assert n_ctx == 5
    assert compare(logits[:n_ctx], theirs[:n_ctx], F32_LOGITS).passed
    assert nmse(logits[n_ctx:], theirs[n_ctx:]) > 1e-6


@pytest.mark.parametrize("name", ["gqa", "mlp_biases", "yarn", "bf16_tied_sharded"])
def test_stored_values_are_those_that_transformers_computes_today(name: str, tmp_path: Path) -> None:
    from tools.oracles.transformers_values import values_of

    case = stored_cases("tiny")[name]
    about, logits = values_of(write_directory(tmp_path, **case.about["directory"]), case.about["prompt"])
    assert about["sha256"] == case.about["sha256"]
    assert about["greedy"] == case.about["greedy"]
    assert nmse(logits, case.logits) < 1e-11


@pytest.mark.parametrize("name", TINY_LLAMAS)
def test_every_stage_of_a_tiny_directory_passes(name: str, tmp_path: Path) -> None:
    directory = other_weights(name, tmp_path, tokenizer="bpe" if name == "mqa" else True)
    reference = dump(directory, tmp_path / "dump", "--n-decode", "10")
    with (subject := open_subject(directory, reference, n_threads=1)).model:
        assert validate(subject, reference).passed


def test_every_stage_of_trained_models_passes(model_path: Callable[[str], Path], tmp_path: Path) -> None:
    made = tmp_path / "stories260K"
    with GGUFFile(model_path("stories260K-f32.gguf")) as source:
        make_directory(source, made)
    for directory in (made, model_path("tinystories-656k")):
        reference = dump(directory, tmp_path / f"dump of {directory.name}")
        with (subject := open_subject(directory, reference, n_threads=1)).model:
            assert validate(subject, reference).passed


@pytest.mark.smollm2
def test_every_stage_of_smollm2_as_a_directory_passes(smollm2: Path, tmp_path: Path) -> None:
    with GGUFFile(smollm2) as source:
        make_directory(source, tmp_path / "smollm2")
    text = "Once upon a time there was a little girl"  # its activation of 535 is 10 units of roundoff off
    reference = dump(tmp_path / "smollm2", tmp_path / "dump", "--decode-stages", "kv", text=text)
    with (subject := open_subject(tmp_path / "smollm2", reference, n_threads=2)).model:
        assert validate(subject, reference).passed


def test_two_extractions_are_the_same_bytes(tmp_path: Path) -> None:
    directory = other_weights("gqa", tmp_path)
    for out in ("a", "b"):
        dump(directory, tmp_path / out, "--layers", "1", "--n-decode", "2")
    assert (tmp_path / "a" / "prefill.npz").read_bytes() == (tmp_path / "b" / "prefill.npz").read_bytes()


def test_what_cannot_be_dumped_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refusal(directory: Path, *flags: str) -> str:
        words = ["-m", str(directory), "-p", TEXT, "-o", str(tmp_path / "out"), *flags]
        assert extract_checkpoints_hf.main(words) == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    directory = other_weights("gqa", tmp_path)
    assert "the model has layers 0 to 1" in refusal(directory, "--layers", "7")
    assert "holds no tokenizer.json" in refusal(other_weights("tied", tmp_path, tokenizer=False))
    (directory / "model.safetensors").unlink()
    assert "the files lack" in refusal(directory)
    assert not (tmp_path / "out").exists()
