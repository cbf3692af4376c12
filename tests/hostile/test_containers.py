"""What containers do to a process: variables of Kubernetes, no home, a home of somebody else, nothing to write to."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from llorch.cli.main import COMMANDS
from llorch.setting_sources import is_service_link
from llorch.settings import load_settings
from tests.conftest import REPOSITORY
from tests.support.commands import (
    LLORCH,
    as_unknown_user,
    home_environment,
    llorch,
    on_read_only_root,
    refused,
    run_on_read_only_root,
)
from tests.support.hf_directories import write_directory
from tests.support.live_server import LiveServer
from tests.support.processes import run_python

SERVICE_LINKS = {
    "LLORCH_PORT": "tcp://10.0.171.239:8080",
    "LLORCH_SERVICE_HOST": "10.0.171.239",
    "LLORCH_SERVICE_PORT": "8080",
    "LLORCH_SERVICE_PORT_HTTP": "8080",
    "LLORCH_SERVICE_PORT_METRICS_V2": "9090",
    "LLORCH_PORT_8080_TCP": "tcp://10.0.171.239:8080",
    "LLORCH_PORT_8080_TCP_PROTO": "tcp",
    "LLORCH_PORT_8080_TCP_PORT": "8080",
    "LLORCH_PORT_8080_TCP_ADDR": "10.0.171.239",
    "LLORCH_PORT_53_UDP": "udp://10.0.171.239:53",
    "LLORCH_PORT_53_UDP_ADDR": "10.0.171.239",
    "LLORCH_GPU_2_SERVICE_HOST": "10.0.171.240",
    "LLORCH_GPU_2_SERVICE_PORT": "80",
    "LLORCH_GPU_2_PORT": "tcp://10.0.171.240:80",
    "LLORCH_GPU_2_PORT_80_TCP_ADDR": "10.0.171.240",
}
"""What a pod finds where Services called `llorch` and `llorch-gpu-2` exist."""


@pytest.mark.parametrize("name", SERVICE_LINKS)
def test_each_variable_of_a_service_is_known(name: str) -> None:
    assert is_service_link(name, SERVICE_LINKS[name])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LLORCH_PORT", "8080"),
        ("LLORCH_PORT", "http://x"),
        ("LLORCH_PROT", "tcp://10.0.0.1:1"),
        ("LLORCH_HOST", "a"),
    ],
)
def test_settings_and_typing_errors_are_no_variables_of_a_service(name: str, value: str) -> None:
    assert not is_service_link(name, value)


def test_a_command_in_such_a_pod_starts_and_says_it_once(tiny_model: Path) -> None:
    result = llorch("tokenize", "a", "-m", str(tiny_model), **SERVICE_LINKS)
    assert result.returncode == 0
    (line,) = result.stderr.splitlines()
    assert "LLORCH_GPU_2_PORT" in line
    assert f"{len(SERVICE_LINKS) - 2} more" in line
    assert "enableServiceLinks" in line


def test_a_server_in_such_a_pod_starts_says_it_once_and_keeps_its_own_port(
    tiny_model: Path, tmp_path: Path
) -> None:
    server = LiveServer(tiny_model, tmp_path / "log", "--log-format", "json", **SERVICE_LINKS)
    try:
        server.wait_until_ready()
        records = [json.loads(line) for line in server.log.splitlines()]
        assert sum("enableServiceLinks" in record["message"] for record in records) == 1
    finally:
        assert server.stop() == 0


def test_a_real_port_in_the_variable_still_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLORCH_PORT", "9999")
    assert load_settings().port == 9999
    monkeypatch.setenv("LLORCH_PORT", SERVICE_LINKS["LLORCH_PORT"])
    assert load_settings().port == 8080
    assert load_settings(overrides={"port": 7777}).port == 7777


def test_a_typing_error_beside_them_is_still_named(tiny_model: Path) -> None:
    line = refused("tokenize", "a", "-m", str(tiny_model), **SERVICE_LINKS, LLORCH_TEMPRATURE="1")
    assert "LLORCH_TEMPRATURE" in line
    assert "SERVICE" not in line


ONE_KERNEL = """
import logging, os, sys
logging.basicConfig(stream=sys.stdout, format="%(message)s")
import numpy as np
from llorch.kernels import object_cache, team
value = np.zeros(1, np.int64)
team.set_field(value.ctypes.data, 7)
print(object_cache.directory(), team.exchange_zero(value.ctypes.data))
"""
"""Compiles and runs a kernel, the quickest there is."""


def one_kernel(*wrapper: str, **variables: str) -> list[str]:
    done = subprocess.run(
        [*wrapper, LLORCH[0], "-c", ONE_KERNEL],
        env=home_environment(**variables),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def assert_compiled_for_this_process(lines: list[str], why: str) -> None:
    warning, result = lines
    assert re.search(why, warning), warning
    assert "LLORCH_CACHE_DIR" in warning
    assert result == "None 7"


def test_without_a_home_kernels_are_compiled_for_the_process() -> None:
    assert_compiled_for_this_process(one_kernel(*as_unknown_user()), "there is no home folder")


def test_a_home_that_is_no_absolute_path_is_none(tmp_path: Path) -> None:
    assert_compiled_for_this_process(one_kernel(HOME="somewhere"), "there is no home folder")


@pytest.mark.parametrize("xdg", ["relative/cache", "~/cache", "", "."])
def test_an_xdg_cache_home_that_is_no_absolute_path_is_ignored(tmp_path: Path, xdg: str) -> None:
    (line,) = one_kernel(HOME=str(tmp_path), XDG_CACHE_HOME=xdg)
    assert line.startswith(f"{tmp_path}/.cache/llorch/kernels/")


@pytest.mark.parametrize(
    ("xdg", "why"),
    [
        ("/proc/nothing", "No such file|Permission denied"),
        ("/dev/null", "/dev/null"),
        ("/" + "x" * 300, "too long"),
    ],
)
def test_an_xdg_cache_home_that_cannot_be_used_costs_a_line(tmp_path: Path, xdg: str, why: str) -> None:
    assert_compiled_for_this_process(one_kernel(HOME=str(tmp_path), XDG_CACHE_HOME=xdg), why)


def test_an_xdg_cache_home_that_is_not_utf8_is_used(tmp_path: Path) -> None:
    (line,) = one_kernel(
        HOME=str(tmp_path), XDG_CACHE_HOME=f"{tmp_path}/\udcff", PYTHONIOENCODING=":backslashreplace"
    )
    assert line.endswith("7")
    assert list(Path(f"{tmp_path}/\udcff/llorch/kernels").iterdir())


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be given the home of somebody else")
def test_nothing_is_written_into_the_home_of_somebody_else(tmp_path: Path) -> None:
    """`sudo` keeps HOME; what root left there, the user could neither use nor remove."""
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, 12345, 12345)
    assert_compiled_for_this_process(one_kernel(HOME=str(home)), f"{home} belongs to another user")
    assert list(home.iterdir()) == []


def test_folders_are_made_for_this_user_alone_whatever_the_umask(tmp_path: Path) -> None:
    (line,) = one_kernel("sh", "-c", 'umask 0; exec "$@"', "sh", HOME=str(tmp_path))
    folder = Path(line.split()[0])
    for made in (folder, *folder.parents[:3]):
        assert made.stat().st_mode & 0o777 == 0o700, made


def test_on_a_read_only_root_kernels_are_compiled_for_the_process(tmp_path: Path) -> None:
    assert_compiled_for_this_process(
        one_kernel(*on_read_only_root(), HOME="/nowhere"), "Read-only|No such file"
    )


ARGUMENTS = {
    "chat": ("Hello", "-n", "2"),
    "generate": ("Hello", "-n", "2"),
    "tokenize": ("Hello",),
    "inspect": ("--json",),
    "bench": ("-p", "4", "-n", "2", "-r", "1"),
    "warmup": (),
    "config": ("show",),
}


@pytest.mark.parametrize("command", ["tokenize", "inspect", "config"])
def test_commands_without_kernels_run_on_a_read_only_root(command: str, tiny_model: Path) -> None:
    result = run_on_read_only_root(command, *ARGUMENTS[command], "-m", str(tiny_model))
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""


@pytest.mark.slow
@pytest.mark.parametrize("command", ["chat", "generate", "bench", "warmup"])
def test_every_command_runs_on_a_read_only_root(command: str, tiny_model: Path) -> None:
    result = run_on_read_only_root(command, *ARGUMENTS[command], "-m", str(tiny_model))
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("kernel cache") == 1
    assert result.stdout


def test_validate_says_first_that_there_is_no_place_for_its_bundle() -> None:
    result = run_on_read_only_root("validate")
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert "--proof-dir" in line


BUNDLE = next((REPOSITORY / "proof_bundle" / "performance").glob("2*"))
WRITERS = {
    "trace": ("Hello", "-o", "/out.json"),
    "report": (str(BUNDLE), "-o", "/out.html"),
    "perplexity": ("-f", str(REPOSITORY / "CHANGELOG.md"), "-c", "8", "--kl-base", "/out.kld"),
}
"""Commands that write a file."""


@pytest.mark.parametrize("command", ["report", "trace", pytest.param("perplexity", marks=pytest.mark.slow)])
def test_a_command_says_that_there_is_no_place_for_its_file(command: str, tiny_model: Path) -> None:
    model = () if command == "report" else ("-m", str(tiny_model))
    result = run_on_read_only_root(command, *WRITERS[command], *model)
    assert result.returncode == 2
    assert "/out." in result.stderr.splitlines()[-1]


def test_quantize_says_that_there_is_no_place_for_its_file(tiny_model: Path) -> None:
    result = run_on_read_only_root("quantize", str(tiny_model), "/out.gguf", "F32")
    assert result.returncode == 2
    assert "cannot be written there: Read-only file system" in result.stderr.splitlines()[-1]


def test_convert_says_that_there_is_no_place_for_its_file(tmp_path: Path) -> None:
    result = run_on_read_only_root("convert", str(write_directory(tmp_path / "in")), "/out.gguf")
    assert result.returncode == 2
    assert "cannot be written there: Read-only file system" in result.stderr.splitlines()[-1]


def test_every_command_was_tried() -> None:
    elsewhere = {"validate", "convert", "quantize", "serve", "pull", "verify-receipt"}
    assert {*ARGUMENTS, *WRITERS, *elsewhere} == set(COMMANDS)


@pytest.mark.slow
def test_a_server_runs_on_a_read_only_root(tiny_model: Path, tmp_path: Path) -> None:
    class ReadOnly(LiveServer):
        wrapper = on_read_only_root()

    server = ReadOnly(
        tiny_model, tmp_path / "log", HOME="/nowhere", LLORCH_CACHE_DIR="", PYTHONPATH=os.getcwd()
    )
    try:
        server.wait_until_ready()
        assert (
            server.post("/generate", json={"prompt": "a", "max_tokens": 1, "stream": False}).status_code
            == 200
        )
    finally:
        assert server.stop() == 0


def test_pictures_are_left_out_where_matplotlib_finds_no_folder(tmp_path: Path) -> None:
    code = """
import logging, sys
logging.basicConfig(stream=sys.stdout, format="%(message)s")
from llorch.bench import plots
print(plots.png(100, lambda axes: None, "a note"))
"""
    *log, result = run_python(code, tmp_path, wrapper=on_read_only_root(), HOME="/nowhere")
    assert result == "None"
    assert any("no pictures" in line for line in log)
