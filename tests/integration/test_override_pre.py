"""`--override-pre NAME`: on every command that reads a tokenizer, in the environment, and from Python."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import llorch
from llorch.cli.main import build_parser, main
from llorch.errors import InputError, ModelError
from llorch.open_model import check_model
from llorch.text.vocab import TokenType
from llorch.validation.bundle_writer import BundleWriter
from llorch.validation.loading_bundle import write_loading_bundle
from tests.support.bpe_models import write_bpe_llama

N_TOKENS = {"gpt-2": 1, "smollm": 2}
"""Of "12", whose digits one merge joins, unless each of them is a word."""


@pytest.fixture(scope="module")
def nameless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that does not say which pre-tokenizer it was trained with."""
    path = tmp_path_factory.mktemp("models") / "nameless.gguf"
    write_bpe_llama(path, [("<eos>", TokenType.CONTROL)], ["1 2"], pre=None)
    return path


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any, str]:
    code = main(list(words))
    out, err = capsys.readouterr()
    return code, json.loads(out) if out else None, err


@pytest.mark.parametrize("command", [("tokenize", "12"), ("generate", "12", "-n", "1")], ids=lambda c: c[0])
def test_a_command_without_it_fails_in_one_line_that_names_it(
    nameless: Path, command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(capsys, *command, "--json", "-m", str(nameless))
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("llorch: error: tokenizer.ggml.pre: missing")
    assert "--override-pre NAME" in err


@pytest.mark.parametrize("name", N_TOKENS)
def test_the_flag_decides_how_a_prompt_is_cut(
    nameless: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--json", "-m", str(nameless), "--override-pre", name)
    assert len(run(capsys, "tokenize", "12", *flags)[1]["token_ids"]) == N_TOKENS[name]
    result = run(capsys, "generate", "12", "-n", "1", "-t", "1", *flags)[1]
    assert len(result["prompt_token_ids"]) == N_TOKENS[name]


@pytest.mark.parametrize("name", N_TOKENS)
def test_the_environment_decides_alike(
    nameless: Path, name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLORCH_OVERRIDE_PRE", name)
    code, result, _ = run(capsys, "tokenize", "12", "--json", "-m", str(nameless))
    assert (code, len(result["token_ids"])) == (0, N_TOKENS[name])


def test_inspect_says_what_is_missing_and_that_the_flag_helps(
    nameless: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("inspect", "--json", "-m", str(nameless))
    assert "--override-pre NAME" in run(capsys, *words)[1]["problem"]
    assert run(capsys, *words, "--override-pre", "gpt-2")[1]["problem"] is None


def test_python_takes_it_as_a_setting(nameless: Path) -> None:
    with pytest.raises(ModelError, match="--override-pre NAME"):
        llorch.load(nameless)
    with pytest.raises(InputError, match="no pre-tokenizer is named 'gpt2'"):
        llorch.load(nameless, override_pre="gpt2")
    with llorch.load(nameless, override_pre="smollm", threads=1) as model:
        assert len(model.tokenizer.encode("12")) == 2


def test_a_server_looks_for_it_before_it_listens(nameless: Path) -> None:
    with pytest.raises(ModelError):
        check_model(nameless)
    check_model(nameless, override_pre="gpt-2")


def test_a_proof_of_loading_uses_it(nameless: Path, tmp_path: Path) -> None:
    for name, is_fine in (("gpt-2", True), (None, False)):
        writer = BundleWriter("loading", tmp_path / str(name))
        if is_fine:
            assert write_loading_bundle(writer, nameless, "", n_threads=1, override_pre=name)[1]
        else:
            with pytest.raises(ModelError):
                write_loading_bundle(writer, nameless, "", n_threads=1)


@pytest.mark.parametrize("command", ["serve", "generate x", "tokenize x", "inspect", "validate"])
def test_every_command_that_reads_a_tokenizer_has_the_flag(command: str) -> None:
    words = command.split()
    args = build_parser(words[0]).parse_args([*words, "--override-pre", "smollm"])
    assert args.override_pre == "smollm"
