"""Standard streams that are closed, full, or of another encoding; names of files that are not UTF-8."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import termios
from pathlib import Path

import pytest

from tests.support.commands import LLORCH, llorch, llorch_bytes, refused, wait_for

CONTINUE = ("generate", "Hello", "-n", "3", "--seed", "1")


def in_shell(redirections: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {redirections}', "sh", *LLORCH, *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_a_result_that_nobody_can_read_is_not_computed(tiny_model: Path) -> None:
    for arguments in (("tokenize", "a"), ("warmup",), ("serve", "--help")):
        result = in_shell(">&-", *arguments, "-m", str(tiny_model))
        assert result.returncode == 2
        assert result.stderr == "llorch: error: stdout is closed: there is nowhere to write the result\n"


def test_closed_stdin_is_missed_only_where_it_is_read(tiny_model: Path) -> None:
    assert in_shell("<&-", "tokenize", "a", "-m", str(tiny_model)).returncode == 0
    result = in_shell("<&-", "tokenize", "-", "-m", str(tiny_model))
    assert result.returncode == 2
    assert result.stderr == "llorch: error: the text is to be read from stdin (-), which is closed\n"


def test_closed_stderr_hides_messages_and_nothing_else(tiny_model: Path) -> None:
    result = in_shell("2>&-", *CONTINUE, "-m", str(tiny_model))
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout
    assert in_shell("2>&-", "tokenize", "-m", str(tiny_model)).returncode == 2


def test_no_file_takes_the_number_of_a_closed_stream(tiny_model: Path, tmp_path: Path) -> None:
    """What a library prints would end up in it."""
    program = (
        "import os, sys\n"
        "from llorch.cli import descriptors\n"
        "descriptors.open_missing()\n"
        "names = [os.readlink(f'/proc/self/fd/{n}') for n in (0, 1, 2)]\n"
        f"open({str(tmp_path / 'names')!r}, 'w').write(repr(names))\n"
    )
    python = LLORCH[0]
    subprocess.run(
        ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", python, "-c", program], timeout=100, check=True
    )
    assert (tmp_path / "names").read_text() == repr(["/dev/null"] * 3)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("arguments", [("tokenize", "a", "--json"), CONTINUE, ("serve", "--help")])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_under_stdout_is_one_line(
    tiny_model: Path, arguments: tuple[str, ...], unbuffered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    result = in_shell(">/dev/full", *arguments, "-m", str(tiny_model))
    assert result.returncode == 2
    assert result.stderr == "llorch: error: stdout: No space left on device\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("arguments", [CONTINUE, ("config", "show", "--json")])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_under_stderr_loses_messages_and_nothing_else(
    tiny_model: Path, arguments: tuple[str, ...], unbuffered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    words = (*arguments, "-m", str(tiny_model))
    whole = llorch(*words)
    assert whole.stderr  # there is something to lose
    result = in_shell("2>/dev/full", *words)
    assert (result.returncode, result.stdout) == (0, whole.stdout)
    assert in_shell("2>/dev/full", "tokenize", "-m", str(tiny_model)).returncode == 2


def test_a_reader_of_stderr_who_leaves_ends_nothing(tiny_model: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    words = [*LLORCH, *CONTINUE, "-m", str(tiny_model)]
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=writer, timeout=100, check=False)
    os.close(writer)
    assert done.returncode == 0
    assert done.stdout.decode() == llorch(*words[len(LLORCH) :]).stdout


@pytest.mark.parametrize("arguments", [CONTINUE, (*CONTINUE, "--json"), ("inspect", "--json"), ("--help",)])
def test_a_reader_of_stdout_who_leaves_ends_the_command_quietly(
    tiny_model: Path, arguments: tuple[str, ...]
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    model = () if arguments == ("--help",) else ("-m", str(tiny_model))
    done = subprocess.run(
        [*LLORCH, *arguments, *model], stdout=writer, stderr=subprocess.PIPE, timeout=100, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_stream_that_another_program_made_impatient_gets_everything(
    tiny_model: Path, unbuffered: str
) -> None:
    """O_NONBLOCK belongs to the pipe or the terminal, so who shares it switches waiting off for all."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    words = ["inspect", "--json", "-m", "demo"]
    process = subprocess.Popen(
        [*LLORCH, *words],
        stdout=writer,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    )
    os.close(writer)
    wait_for(lambda: fcntl.ioctl(reader, termios.FIONREAD, bytes(4)) != bytes(4))
    with open(reader, "rb") as pipe:
        found = json.loads(pipe.read())
    assert process.communicate(timeout=100)[1] == b""
    assert found["path"].endswith("demo.gguf")
    assert process.returncode == 0


ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
"""A locale without characters beyond ASCII, where Python is forbidden to take it for UTF-8."""


@pytest.mark.parametrize("words", [("tokenize", "é ж", "--json"), ("tokenize", "-", "--json")])
def test_text_is_utf8_where_the_locale_has_only_ascii(tiny_model: Path, words: tuple[str, ...]) -> None:
    command = (*words, "-m", str(tiny_model))
    result = llorch(*command, stdin="é ж", **ASCII)
    assert result.returncode == 0, result.stderr
    assert result.stdout == llorch(*command, stdin="é ж").stdout


def test_a_chat_and_a_continuation_take_text_where_the_locale_has_only_ascii(tiny_model: Path) -> None:
    model = ("-m", str(tiny_model), "--seed", "1", "-n", "3", "--json")
    for words in (["generate", "é"], ["generate", "-"], ["generate", "a", "--stop", "ж"]):
        done, there = (llorch(*words, *model, stdin="é", **variables) for variables in (ASCII, {}))
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["token_ids"] == json.loads(there.stdout)["token_ids"]
    for words in (["chat", "é"], ["chat"]):
        done, there = (
            llorch(*words, "-m", "demo", *model[2:], stdin="é\n", **variables) for variables in (ASCII, {})
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["text"] == json.loads(there.stdout)["text"]


def test_files_have_their_names_where_the_locale_has_only_ascii(tiny_model: Path, tmp_path: Path) -> None:
    """Also the one that a settings file names, which is UTF-8 in every locale."""
    shutil.copy(tiny_model, tmp_path / "é.gguf")
    (tmp_path / "c.toml").write_text(f'model = "{tmp_path}/é.gguf"', encoding="utf-8")
    for words in (["-m", str(tmp_path / "é.gguf")], ["--config", str(tmp_path / "c.toml")]):
        result = llorch("inspect", *words, **ASCII)
        assert result.returncode == 0, result.stderr
        assert result.stdout.splitlines()[0] == f"{tmp_path}/é.gguf"
    assert "there is no model at é.gguf" in refused("tokenize", "a", "-m", "é.gguf", **ASCII)


@pytest.mark.parametrize("words", [("tokenize", b"\xff"), ("tokenize", "-"), ("chat", "-m", "demo")])
def test_what_is_no_text_is_refused_where_the_locale_has_only_ascii(words: tuple[str | bytes, ...]) -> None:
    result = llorch_bytes(*words, stdin=b"\xff\n", **ASCII)
    (line,) = result.stderr.splitlines()
    assert (result.returncode, result.stdout) == (2, b"")
    assert b"is not valid UTF-8" in line


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_json_is_whole_in_every_encoding(tiny_model: Path, encoding: str) -> None:
    words = ("tokenize", "-m", str(tiny_model), "é ж 😀", "--json")
    found = json.loads(llorch_bytes(*words, PYTHONIOENCODING=encoding).stdout.decode(encoding))
    assert found["pieces"][1] == "▁"
    assert len(found["pieces"]) == len(found["token_ids"])


def test_text_for_people_shows_what_the_terminal_lacks_as_escapes(tiny_model: Path) -> None:
    result = llorch_bytes("tokenize", "-m", str(tiny_model), "a", PYTHONIOENCODING="ascii")
    assert b"\\u2581" in result.stdout
    assert b"?" not in result.stdout


def test_stdin_that_is_not_text_is_one_line(tiny_model: Path) -> None:
    result = llorch_bytes("tokenize", "-", "-m", str(tiny_model), stdin=b"a\xffb", PYTHONIOENCODING="utf-8")
    assert result.returncode == 2
    assert result.stderr == b"llorch: error: the text is not valid UTF-8 (byte 1)\n"


@pytest.fixture
def odd_name(tiny_model: Path, tmp_path: Path) -> bytes:
    """A model whose name is not UTF-8."""
    name = os.fsencode(tmp_path) + b"/mod\xe9le \xff.gguf"
    shutil.copy(os.fsencode(tiny_model), name)
    return name


def test_a_model_whose_name_is_not_utf8_works(odd_name: bytes) -> None:
    found = json.loads(llorch("inspect", "--json", b"-m", odd_name).stdout)
    assert os.fsencode(found["path"]) == odd_name
    assert llorch(*CONTINUE, b"-m", odd_name).returncode == 0
    assert b"mod\\udce9le" in llorch_bytes("inspect", b"-m", odd_name).stdout


@pytest.mark.slow
def test_what_is_wrong_with_such_a_file_is_one_line(odd_name: bytes, tmp_path: Path) -> None:
    Path(os.fsdecode(odd_name)).write_bytes(b"GGUF")
    assert "mod" in refused("tokenize", "a", b"-m", odd_name)
    assert "there is no model" in refused("tokenize", "a", b"-m", odd_name + b"x")
    assert "cannot be read" in refused("tokenize", "a", b"--config", odd_name + b"x")
    assert "UTF-8" in refused("tokenize", b"\xff", "-m", "demo")
    assert "alias" in refused("serve", b"--alias", b"\xff")


def test_a_proof_about_such_a_file_holds(odd_name: bytes, tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/proofs \xff"
    found = json.loads(llorch("inspect", "--json", "--proof", b"--proof-dir", folder, b"-m", odd_name).stdout)
    assert os.fsencode(found["bundle"]).startswith(folder)
    assert llorch("validate", b"--verify", os.fsencode(found["bundle"])).returncode == 0
