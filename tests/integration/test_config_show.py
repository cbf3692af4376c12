"""`llorch config show` says each setting's value and origin, and never a key."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from llorch.cli.main import main
from llorch.fields.table import SETTINGS
from llorch.settings import load_settings

KEY = "sesame-open"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "my.toml"
    path.write_text('port = 9000\nparallel = 2\nthreads = 3\nalias = "tinyé"\n')
    monkeypatch.setenv("LLORCH_PARALLEL", "5")
    monkeypatch.setenv("LLORCH_THREADS", "6")
    return path


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, dict[str, Any]]:
    assert main(["config", "show", "--json", *words]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert all(row.keys() == {"name", "value", "origin"} for row in rows)
    assert [row["name"] for row in rows] == [*SETTINGS]
    return {row["name"]: row for row in rows}


def test_every_setting_has_its_value_and_its_origin(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = shown(capsys, "--config", str(file), "-t", "7", "--no-mmap")
    found = {name: (row["value"], row["origin"]) for name, row in rows.items()}
    assert found["host"] == ("127.0.0.1", "default")
    assert found["port"] == (9000, f"file {file}")
    assert found["parallel"] == (5, "environment variable LLORCH_PARALLEL")
    assert found["threads"] == (7, "flag --threads")
    assert found["weights"] == ("packed", "flag --weights")
    assert found["cors_origins"] == ([], "default")


def test_which_file_was_read_is_said(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["config", "show", "--config", str(file)]) == 0
    assert capsys.readouterr().out.startswith(f"# settings file: {file} (flag --config)\n")
    monkeypatch.setenv("LLORCH_CONFIG", str(file))
    assert main(["config", "show", "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == f"settings file: {file} (environment variable LLORCH_CONFIG)\n"
    json.loads(captured.out)
    monkeypatch.delenv("LLORCH_CONFIG")
    assert main(["config", "show"]) == 0
    assert capsys.readouterr().out.startswith("# no settings file was read\n")


def test_the_text_is_a_settings_file_that_says_the_same(
    file: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--config", str(file), "--cors-origins", "https://a.example", "--temp", "0.5"]
    assert main(["config", "show", *words]) == 0
    text = capsys.readouterr().out
    assert "port = 9000".ljust(43) + f" # file {file}\n" in text
    for variable in ("LLORCH_PARALLEL", "LLORCH_THREADS"):
        monkeypatch.delenv(variable)
    copy = tmp_path / "copy.toml"
    copy.write_text(text)
    tomllib.loads(text)
    settings = load_settings(copy)
    assert (settings.port, settings.parallel, settings.threads) == (9000, 5, 6)
    assert (settings.alias, settings.temperature) == ("tinyé", 0.5)
    assert settings.cors_origins == ("https://a.example",)


@pytest.mark.parametrize("way", ["flag", "variable", "file", "key file"])
@pytest.mark.parametrize("form", [[], ["--json"]], ids=["text", "json"])
def test_a_key_is_masked_wherever_it_comes_from(
    way: str,
    form: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "x"
    words = {
        "flag": ["--api-key", KEY],
        "variable": [],
        "file": ["--config", str(path)],
        "key file": ["--api-key-file", str(path)],
    }[way]
    path.write_text(f'api_key = "{KEY}"\n' if way == "file" else KEY)
    if way == "variable":
        monkeypatch.setenv("LLORCH_API_KEY", KEY)
    assert main(["config", "show", *form, *words]) == 0
    captured = capsys.readouterr()
    assert KEY not in captured.out + captured.err
    origin = {"flag": "flag --api-key", "variable": "environment variable LLORCH_API_KEY"}.get(
        way, f"file {path}"
    )
    line = next(line for line in captured.out.splitlines() if "******" in line)
    assert form or origin in line
    assert origin in captured.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--port", "70000"], "flag --port: expected an integer, 0 <= port <= 65535, got 70000"),
        (["--config", "/nowhere.toml"], "/nowhere.toml cannot be read"),
        (["--ssl-cert-file", "/a"], "ssl_cert_file and ssl_key_file go together"),
        (["--mlock"], "is a flag of llama-server"),
    ],
)
def test_errors_are_those_of_every_command(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main(["config", "show", *words])
    except SystemExit as error:
        code = int(error.code or 0)
    assert code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert captured.err.count("\n") == 1


def test_it_needs_to_be_told_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["config"])
    assert caught.value.code == 2
    assert "show" in capsys.readouterr().err
