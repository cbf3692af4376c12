"""`llorch quantize` as a user runs it."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import time
from pathlib import Path

import pytest

from llorch.cli.main import main
from llorch.formats.gguf.file import GGUFFile
from tests.support.commands import (
    LLORCH,
    assert_a_full_disk_leaves_nothing,
    handles,
    refused_here,
    start,
    wait_for,
    writes_in,
)
from tests.support.tiny_models import write_tiny_llama


@pytest.fixture
def f32_model(tmp_path: Path) -> Path:
    path = tmp_path / "f32.gguf"
    write_tiny_llama(path, type="F32")
    return path


@pytest.fixture
def large_model(tmp_path: Path) -> Path:
    """Weights that a thread needs seconds to make Q5_K of."""
    path = tmp_path / "large.gguf"
    write_tiny_llama(path, type="F16", n_layer=6, n_embd=256, n_ff=4096)
    return path


Captured = pytest.CaptureFixture[str]


def refused(capsys: Captured, *words: object) -> str:
    return refused_here(capsys, "quantize", *words)


def test_one_json_document_says_what_was_written(f32_model: Path, tmp_path: Path, capsys: Captured) -> None:
    out = tmp_path / "out.gguf"
    assert main(["quantize", str(f32_model), str(out), "q8_0", "--json", "-t", "2"]) == 0
    document, log = capsys.readouterr()
    assert json.loads(document) == {"path": str(out), "type": "Q8_0", "bytes": out.stat().st_size}
    (said,) = log.splitlines()
    assert said.startswith(f"{f32_model}: ")
    assert "; as Q8_0: " in said, "the size is said before the work begins"


def test_a_line_says_size_time_and_speed(f32_model: Path, tmp_path: Path, capsys: Captured) -> None:
    assert main(["quantize", str(f32_model), str(tmp_path / "out.gguf"), "Q4_K_M"]) == 0
    said, log = capsys.readouterr()
    assert "out.gguf: Q4_K_M, " in said
    assert said.rstrip().endswith("MB/s)")
    assert "9 tensors get another type: their rows are no multiple of 256" in log


def test_requantising_is_refused_without_its_flag_and_warned_about_with_it(
    tiny_model: Path, tmp_path: Path, capsys: Captured
) -> None:
    words = (str(tiny_model), str(tmp_path / "out.gguf"), "Q4_0")
    assert "--allow-requantize" in refused(capsys, *words)
    assert not (tmp_path / "out.gguf").exists()
    assert main(["quantize", *words, "--allow-requantize"]) == 0
    assert "8 tensors are quantised already: the result is less precise" in capsys.readouterr().err


def test_bad_usage_is_one_line(f32_model: Path, tmp_path: Path, capsys: Captured) -> None:
    out, cut = tmp_path / "out.gguf", tmp_path / "cut.gguf"
    cut.write_bytes(f32_model.read_bytes()[:-1000])
    assert "choose one of F32" in refused(capsys, f32_model, out, "IQ1_S")
    assert "is the file that is read" in refused(capsys, f32_model, f32_model, "Q8_0")
    assert "`llorch convert IN OUT --type TYPE`" in refused(capsys, tmp_path, out, "Q8_0")
    assert "there is no model" in refused(capsys, tmp_path / "missing", out, "Q8_0")
    assert "there is no folder" in refused(capsys, f32_model, out / "x", "Q8_0")
    assert "IN says which model" in refused(capsys, f32_model, out, "Q8_0", "-m", "demo")
    assert "is the download complete?" in refused(capsys, cut, out, "Q8_0")
    assert sorted(os.listdir(tmp_path)) == ["cut.gguf", "f32.gguf"]


def test_a_terminal_sees_speed_and_tensor(f32_model: Path, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    words = [*LLORCH, "quantize", str(f32_model), str(tmp_path / "out.gguf"), "Q8_0"]
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=theirs, timeout=60, check=True)
    os.close(theirs)
    seen = b""
    while chunk := _read(ours):
        seen += chunk
    os.close(ours)
    assert b"MB/s blk.0.attn_q.weight Q8_0" in seen
    assert seen.endswith(b"\r\x1b[K"), "the line is wiped"
    assert done.stdout


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1 << 16)
    except OSError:  # the other side is closed and everything is read
        return b""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_nothing_and_the_old_file(
    large_model: Path, tmp_path: Path, number: signal.Signals
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    out = folder / "out.gguf"
    out.write_bytes(b"old")
    with start("quantize", str(large_model), str(out), "Q5_K", "-t", "1") as process:
        wait_for(lambda: writes_in(process.pid, folder))
        process.send_signal(number)
        assert process.wait(60) == 128 + number
    assert os.listdir(folder) == ["out.gguf"]
    assert out.read_bytes() == b"old"


@pytest.mark.slow
@pytest.mark.parametrize("tenths", range(1, 13))
def test_a_signal_at_any_moment_leaves_nothing(large_model: Path, tmp_path: Path, tenths: int) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    with start("quantize", str(large_model), str(folder / "out.gguf"), "Q8_0", "-t", "3") as process:
        wait_for(lambda: handles(process.pid, signal.SIGTERM))
        time.sleep(tenths / 10)
        process.send_signal(signal.SIGTERM)
        code = process.wait(60)
    assert code in (0, 128 + signal.SIGTERM)
    left = os.listdir(folder)
    assert left in ([], ["out.gguf"])
    assert left or code, "a command that ends well has written"
    for path in folder.iterdir():
        GGUFFile(path).close()


def test_a_full_disk_leaves_nothing(f32_model: Path, tmp_path: Path) -> None:
    assert_a_full_disk_leaves_nothing(tmp_path / "disk", "quantize", str(f32_model), "F16")


def test_a_file_size_limit_leaves_nothing(f32_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    script = 'ulimit -f 64; "$@"'
    words = ["sh", "-c", script, "sh", *LLORCH, "quantize", str(f32_model), str(out), "F16"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "cannot be written there: File too large" in done.stderr.splitlines()[-1]
    assert os.listdir(tmp_path) == ["f32.gguf"]


def test_llorch_runs_what_it_has_written(f32_model: Path, tmp_path: Path, capsys: Captured) -> None:
    out = tmp_path / "out.gguf"
    assert main(["quantize", str(f32_model), str(out), "Q8_0"]) == 0
    with GGUFFile(out) as written:
        assert written.tensor_infos["output.weight"].type_name == "Q8_0"
    write_tiny_llama(tmp_path / "q8_0.gguf", type="Q8_0")
    texts = []
    for path in (out, tmp_path / "q8_0.gguf"):
        capsys.readouterr()
        assert main(["generate", "Hello", "-m", str(path), "-n", "8", "--temperature", "0"]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
