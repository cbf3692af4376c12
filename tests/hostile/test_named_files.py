"""What is no file given where one is expected; and names that would break a message into lines."""

from __future__ import annotations

import os
import socket
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from llorch.cli.main import main
from llorch.machine import input_file
from llorch.machine.input_file import opened_input
from tests.support.commands import refused, refused_here
from tests.support.live_server import WAIT_S

Captured = pytest.CaptureFixture[str]

READERS = {
    "perplexity": ("-m", "demo", "-f"),
    "report": (),
    "verify-receipt": (),
    "tokenize": ("a", "--config"),
    "serve": ("--port", "0", "-m", "demo", "--api-key-file"),
}
"""Commands that read a file which is no model, with the words before its name."""


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


@pytest.fixture
def unix_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket")
        yield tmp_path / "socket"


@pytest.mark.parametrize("command", READERS)
def test_a_pipe_that_nobody_writes_into_is_not_waited_for_without_end(
    command: str, pipe: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(input_file, "PIPE_WAIT_S", 0.01)
    line = refused_here(capsys, command, *READERS[command], pipe)
    assert f"{pipe}" in line
    assert "it is a named pipe, and nothing was written into it" in line


@pytest.mark.parametrize("command", READERS)
def test_a_socket_is_called_one(command: str, unix_socket: Path, capsys: Captured) -> None:
    line = refused_here(capsys, command, *READERS[command], unix_socket)
    assert f"{unix_socket}" in line
    assert "it is a socket; a file was expected" in line


@pytest.mark.parametrize("command", READERS)
def test_a_name_of_two_lines_stays_one_name(command: str, tmp_path: Path, capsys: Captured) -> None:
    line = refused_here(capsys, command, *READERS[command], tmp_path / "two\nlines")
    assert "two\\nlines" in line
    assert "No such file" in line


def test_a_pipe_with_a_writer_is_read_to_its_end(pipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input_file, "PIPE_WAIT_S", WAIT_S)
    writer = threading.Thread(target=pipe.write_bytes, args=(b"x" * 200_000,))
    writer.start()
    with opened_input(pipe) as file:
        assert file.read() == b"x" * 200_000
    writer.join()


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="there is no /dev/fd")
def test_the_pipe_of_a_shell_may_stay_empty_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """`<(command)`: the command is at work."""
    monkeypatch.setattr(input_file, "PIPE_WAIT_S", 0.0)
    reader, writer = os.pipe()
    with opened_input(Path(f"/dev/fd/{reader}")) as file:
        os.write(writer, b"late")
        os.close(writer)
        assert file.read() == b"late"
    os.close(reader)


def test_a_base_file_is_a_regular_file(pipe: Path, capsys: Captured) -> None:
    for place in (pipe, pipe.parent, Path("/dev/null")):
        line = refused_here(capsys, "perplexity", "-m", "demo", "--kl", "--kl-base", place)
        assert f"{place}: is no regular file; a base file was expected" in line


def test_it_is_said_why_a_model_cannot_be_found(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").touch()
    for name, why in {
        "loop": "loop (Too many levels of symbolic links)",
        "file/x.gguf": "x.gguf (Not a directory)",
        "x" * 300 + ".gguf": "x.gguf (File name too long)",
        "two\nlines.gguf": "two\\nlines.gguf'",
    }.items():
        line = refused_here(capsys, "tokenize", "a", "-m", tmp_path / name)
        assert line.endswith(why)


def test_a_place_for_results_is_refused_in_plain_words(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "loop").symlink_to("loop")
    line = refused_here(capsys, "trace", "a", "-m", "demo", "-o", tmp_path / "loop")
    assert line.endswith("loop: is not a usable path: Too many levels of symbolic links")


def test_a_place_for_proofs_that_is_no_folder_is_refused_before_anything_is_computed(
    unix_socket: Path, capsys: Captured
) -> None:
    line = refused_here(capsys, "inspect", "--proof", "--proof-dir", unix_socket, "-m", "demo")
    assert f"cannot be written into {unix_socket}; --proof-dir" in line


NAMING = {
    "ssl-cert-file": ("serve", "--port", "0", "--ssl-cert-file", "@", "--ssl-key-file", "@"),
    "host": ("serve", "--port", "0", "--host", "./@/socket"),
    "against": ("verify-receipt", "receipt", "--against", "llama-server=@"),
    "plot": ("bench", "--plot", "@/picture.png"),
    "plot of a trace": ("trace", "a", "-o", "@/t.json", "--plot", "p.png"),
    "plot that is no picture": ("bench", "--plot", "@"),
    "sign": ("validate", "--sign", "@"),
    "reference": ("validate", "--reference", "@"),
    "proof-dir": ("validate", "--verify", "--proof-dir", "@"),
    "verify": ("validate", "--verify", "@"),
    "model": ("generate", "a", "-m", "@"),
    "two models": ("inspect", "@", "-m", "demo"),
    "converted": ("convert", "@", "out.gguf"),
    "quantized": ("quantize", "demo", "@/out", "q4_0", "--allow-requantize"),
    "pulled": ("pull", "@"),
}
"""Command lines that name a file which is not there."""


@pytest.mark.parametrize("case", NAMING)
def test_a_name_is_spelled_out_where_it_would_break_lines_or_command_a_terminal(
    case: str, capsys: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command, *words = (word.replace("@", "two\nlines \x1b[2J") for word in NAMING[case])
    line = refused_here(capsys, command, *words)
    assert "two\\nlines \\x1b[2J" in line
    assert line.isprintable()


@pytest.mark.parametrize(
    "words", [("@",), ("tokenize", "a", "--@"), ("tokenize", "a", "@"), ("generate", "-n", "@")]
)
def test_a_mistyped_word_is_spelled_out_too(words: tuple[str, ...]) -> None:
    line = refused(*(word.replace("@", "two\nlines\x1b[2J") for word in words))
    assert "\\x1b[2J" in line
    assert line.isprintable()


def test_a_settings_file_with_such_a_name_stays_a_comment(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "two\nlines"
    path.write_text('model = "demo"')
    assert main(["config", "show", "--config", str(path)]) == 0
    out = capsys.readouterr().out
    assert out.count("two\\nlines") == 2
    assert tomllib.loads(out)["model"] == "demo"


def test_a_model_with_such_a_name_is_inspected_in_one_line(
    tiny_model: Path, tmp_path: Path, capsys: Captured
) -> None:
    path = tmp_path / "two\nlines.gguf"
    path.symlink_to(tiny_model)
    assert main(["inspect", "-m", str(path)]) == 0
    assert capsys.readouterr().out.splitlines()[0] == repr(str(path))
