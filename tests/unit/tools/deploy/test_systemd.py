"""The unit of systemd: it starts the command that exists, gives it the time it needs, and is closed."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from llorch.cli.main import build_parser
from llorch.cli.parser import EXIT_USAGE
from llorch.fields.table import SETTINGS
from tests.support.deployment import DEPLOY, LAST_BYTES_S, seconds, unit_file, unknown_variables

SERVICE = unit_file()["Service"]
UNIT = DEPLOY / "systemd" / "llorch.service"

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)


def test_it_starts_the_server_with_flags_that_exist() -> None:
    program, *words = SERVICE["ExecStart"].split()
    assert program.endswith("/bin/llorch")
    assert build_parser("serve").parse_args(words).command == "serve"
    assert unknown_variables([word.partition("=")[0] for word in SERVICE["Environment"].split()]) == []


def test_it_waits_for_what_the_server_says_and_for_requests_to_end() -> None:
    assert SERVICE["Type"] == "notify"
    assert seconds(SERVICE["TimeoutStartSec"]) >= 900
    assert seconds(SERVICE["TimeoutStopSec"]) > SETTINGS["shutdown_grace_s"].default + LAST_BYTES_S
    assert SERVICE["RestartPreventExitStatus"] == str(EXIT_USAGE)
    assert SERVICE["ExecReload"].endswith("kill -HUP $MAINPID")


def test_caches_lie_in_the_folders_that_systemd_makes() -> None:
    assert SERVICE["CacheDirectory"] == SERVICE["StateDirectory"] == "llorch"
    assert SERVICE["Environment"].startswith("LLORCH_CACHE_DIR=%C/llorch LLORCH_DATA_DIR=%S/llorch")
    assert "MemoryDenyWriteExecute" not in SERVICE, "kernels are compiled in the process"


@needs_systemd
def test_systemd_understands_every_line(tmp_path: Path) -> None:
    copy = tmp_path / "llorch.service"
    copy.write_text(UNIT.read_text().replace("/opt/llorch/bin/llorch", sys.executable))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr.strip()) == (0, "")


@needs_systemd
def test_systemd_calls_it_closed() -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(UNIT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if "unrecognized option" in done.stderr:
        pytest.skip("this systemd-analyze judges no files")
    exposure = re.search(r"Overall exposure level for llorch.service: ([\d.]+)", done.stdout)
    assert exposure, done.stderr
    assert float(exposure[1]) <= 2.0
