"""A command whose working folder has been deleted works, or says what is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from llorch.cli.main import main
from tests.support.commands import llorch, refused_here
from tests.support.terminal import Terminal

Captured = pytest.CaptureFixture[str]
DELETED = "the working folder has been deleted"


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The test runs in a folder that is no more."""
    folder = tmp_path / "folder"
    folder.mkdir()
    with monkeypatch.context() as patch:
        patch.chdir(folder)
        folder.rmdir()
        yield


@pytest.mark.usefixtures("nowhere")
@pytest.mark.parametrize(
    "words",
    [
        ("tokenize", "a"),
        ("generate", "a", "-n", "2", "-q"),
        ("inspect", "--json"),
        ("config", "show"),
        ("inspect", "--proof", "--proof-dir", "@"),
        ("validate", "--proof-dir", "@"),
        ("trace", "a", "-n", "2", "-o", "@/t.json"),
    ],
)
def test_what_needs_no_working_folder_works(words: tuple[str, ...], tmp_path: Path) -> None:
    assert main([word.replace("@", str(tmp_path)) for word in words]) == 0


@pytest.mark.usefixtures("nowhere")
@pytest.mark.parametrize(
    "words",
    [
        ("trace", "a", "-o", "t.json"),
        ("trace", "a", "-o", "/tmp/t.json", "--plot", "t.png"),
        ("perplexity", "-f", "@", "--kl-base", "base"),
        ("bench", "--plot", "x.png"),
        ("quantize", "demo", "o.gguf", "q4_0", "--allow-requantize"),
        ("report", "@", "-o", "r.html"),
    ],
)
def test_a_file_that_cannot_appear_is_refused_before_anything_is_computed(
    words: tuple[str, ...], tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = tmp_path / "text"
    text.write_text("a text")

    def compute(*_: object, **__: object) -> None:
        raise AssertionError("it was computed")

    for name in ("trace.load_with_progress", "perplexity.load_with_progress", "bench.run_bench"):
        monkeypatch.setattr(f"llorch.cli.{name}", compute)
    line = refused_here(capsys, *(word.replace("@", str(text)) for word in words))
    assert line.endswith("the folder . has been deleted")


@pytest.mark.usefixtures("nowhere")
@pytest.mark.parametrize("words", [("validate",), ("inspect", "--proof")])
def test_a_bundle_that_has_no_place_is_refused(words: tuple[str, ...], capsys: Captured) -> None:
    assert DELETED in refused_here(capsys, *words)


@pytest.mark.usefixtures("nowhere")
def test_a_chat_goes_on_where_it_cannot_be_saved(tiny_model: Path) -> None:
    with Terminal("chat", "-m", str(tiny_model), "--no-history") as terminal:
        terminal.wait_for("> ")
        terminal.enter("/save conversation")
        terminal.wait_for(DELETED)
        terminal.enter("/exit")
        assert terminal.end() == 0


@pytest.mark.usefixtures("nowhere")
def test_a_process_that_begins_nowhere_ends_in_no_traceback() -> None:
    assert llorch("tokenize", "a").returncode == 0
    result = llorch("validate")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(f"llorch: error: {DELETED}")
    assert len(result.stderr.splitlines()) == 1
