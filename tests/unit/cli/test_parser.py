"""What a mistyped command line is told, and what help says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from llorch.cli.main import main, with_own_pip
from tests.support.commands import LLORCH


def ended(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> tuple[object, str, str]:
    """Exit code, stdout and stderr of a command that the parser ends."""
    with pytest.raises(SystemExit) as end:
        main(words)
    written = capsys.readouterr()
    return end.value.code, written.out, written.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "genrate a",
            "llorch: error: there is no command 'genrate' (did you mean generate?) (see llorch --help)",
        ),
        ("-m demo generate", "llorch: error: the command comes first, then its flags: llorch COMMAND -m ..."),
        ("generate Once upon a time", "not understood: upon a time; a text of several words needs quotes"),
        ("generate a --temprature=1", "there is no flag --temprature (did you mean --temperature?)"),
        ("generate a --temprature 1", "there is no flag --temprature (did you mean --temperature?)"),
        (
            "generate a --xyzzy",
            "llorch generate: error: there is no flag --xyzzy (see llorch generate --help)",
        ),
        ("generate a --max_tokens 5", "there is no flag --max_tokens (here it is --n-predict)"),
        ("serve --max-model-len=5", "there is no flag --max-model-len (here it is --ctx-size)"),
        ("generate -p a b", "there is no flag -p (here it is PROMPT without a flag)"),
        ("tokenize --max-tokens 5 a", "there is no flag --max-tokens (see llorch tokenize --help)"),
        ("tokenize -- -a -m", "not understood: -m;"),
        ("quantize a b Q8_0 c", "not understood: c (see llorch quantize --help)"),
    ],
)
def test_a_mistyped_command_line_is_told_what_was_probably_meant(
    words: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, error = ended(tuple(words.split()), capsys)
    assert (code, out, error.count("\n")) == (2, "", 1)
    assert said in error


def test_help_is_also_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    for words, asked in ((("help",), ("--help",)), (("help", "tokenize"), ("tokenize", "--help"))):
        code, help_text, _ = ended(words, capsys)
        assert code == 0
        assert help_text == ended(asked, capsys)[1] != ""


def test_help_names_flags_that_the_command_has(capsys: pytest.CaptureFixture[str]) -> None:
    """The table's words are also those of requests and of the settings file, where names have no dashes."""
    assert "better say --api-key-file" in " ".join(ended(("serve", "--help"), capsys)[1].split())
    for command in ("generate", "chat"):
        text = " ".join(ended((command, "--help"), capsys)[1].split())
        assert "several times" in text
        assert not {"brackets", "max_tokens"} & set(text.replace(",", " ").split())


def test_what_to_install_is_said_with_the_pip_of_this_python(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The shell's pip is another one in a clone, where tools/llorch made an environment."""
    said = "it needs matplotlib: pip install 'llorch[plots]'"
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert with_own_pip(said) == said
    (tmp_path / "pip").touch(mode=0o755)
    monkeypatch.setenv("PATH", "/nowhere")
    assert with_own_pip(said) == f"it needs matplotlib: {tmp_path}/pip install 'llorch[plots]'"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert with_own_pip(said) == said


def test_a_python_without_the_packages_is_told_how_to_get_them() -> None:
    """Who clones and runs `python -m llorch` has installed nothing yet."""
    python, *llorch = LLORCH
    done = subprocess.run(
        [python, "-S", *llorch, "generate", "a"], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("llorch: error: the package 'numpy' is missing from ")
    assert "pip install ." in line
