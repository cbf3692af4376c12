"""The image as containers run it: a user without a name, a read-only root, process 1; built without Docker."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.commands import child_of
from tests.support.deployment import dockerfile
from tests.support.image_build import UNKNOWN_USER, Image
from tests.support.live_server import READY_S, WAIT_S, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

COMPILED_S = 3 * READY_S
"""Every kernel is compiled here, perhaps beside other work."""
USER = UNKNOWN_USER.split(":")[0]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    with Image(tmp_path_factory.mktemp("image")) as image:
        yield image


def words_of(keyword: str) -> list[str]:
    return next(i for i in dockerfile() if i.keyword == keyword).words


def run(image: Image, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = image.command(words, variables)
    return subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=False)


def test_the_package_in_the_image_is_the_one_that_was_built(image: Image) -> None:
    done = run(image, "python", "-c", "import llorch, sys; print(llorch.__file__, sys.prefix)")
    assert done.returncode == 0, done.stderr
    path, prefix = done.stdout.split()
    assert prefix == "/opt/llorch"
    assert path.startswith("/opt/llorch/lib/")


def test_nothing_can_be_written_but_the_cache(image: Image) -> None:
    script = "for d in / /tmp /opt/llorch /models; do touch $d/x 2>/dev/null && echo $d; done; touch /cache/x && id -u"
    done = run(image, "sh", "-c", script)
    assert done.stdout.split() == [USER]


def test_a_server_runs_as_process_1_keeps_its_kernels_and_lets_requests_finish(
    image: Image, tmp_path: Path
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = str(unused.getsockname()[1])
    url = f"http://127.0.0.1:{port}"
    words = [*words_of("ENTRYPOINT"), *words_of("CMD")]
    health = json.loads(re.search(r"CMD (\[.*\])", " ".join(words_of("HEALTHCHECK")))[1])  # type: ignore[index]
    log = tmp_path / "log"
    with log.open("wb") as file:
        command = image.command(
            words, {"LLORCH_PORT": port, "LLORCH_SHUTDOWN_GRACE_S": "300"}, as_process_1=True
        )
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
    try:
        assert run(image, *health, LLORCH_PORT=port).returncode == 1, "it cannot be ready yet"
        for _ in wait_until(COMPILED_S):
            assert process.poll() is None, log.read_text()
            if run(image, *health, LLORCH_PORT=port).returncode == 0:
                break
        else:
            raise TimeoutError(log.read_text())
        assert image.stat("/cache/llorch") == f"700 {USER}"
        assert len(image.files("/cache/llorch/kernels")) > 5
        body = {"prompt": "Once", "max_tokens": 40, "temperature": 0}
        with httpx.stream("POST", f"{url}/generate", json=body, timeout=WAIT_S) as response:
            lines = response.iter_lines()
            assert next(lines) == "event: started"
            server = child_of(process)
            status = Path(f"/proc/{server}/status").read_text()
            assert re.search(rf"^Uid:\s+{USER}\s+{USER}", status, re.MULTILINE)
            assert re.search(r"^NSpid:.*\s1$", status, re.MULTILINE)
            os.kill(server, signal.SIGTERM)
            rest = list(lines)
        end = next(rest[i + 1] for i, line in enumerate(rest) if line == "event: end")
        assert json.loads(end.removeprefix("data: "))["finish_reason"] in ("stop", "length")
        assert process.wait(WAIT_S) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()
    records = [json.loads(line) for line in log.read_text().splitlines()]
    assert [record["message"] for record in records if record["level"] in ("error", "warning")] == [
        "anyone who reaches 0.0.0.0 can use this server: set an api_key"
    ]


def test_a_command_in_the_image_finds_the_kernels_of_the_server(image: Image) -> None:
    before = image.files("/cache/llorch/kernels")
    done = run(image, "llorch", "generate", "Once", "-n", "4", "-q")
    assert done.returncode == 0, done.stderr
    assert "compiling" not in done.stderr
    assert image.files("/cache/llorch/kernels") == before
