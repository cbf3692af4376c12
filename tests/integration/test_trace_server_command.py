"""`llorch trace --server`: the timeline of a running server, as a command fetches it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import llorch
from tests.support.live_server import LiveServer
from tests.support.perfetto.trace_file import read_trace


@pytest.fixture(scope="module")
def live(long_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    log = tmp_path_factory.mktemp("fetched") / "log"
    server = LiveServer(long_model, log, LLORCH_ADMIN_KEY="root: tahini")
    yield server.wait_until_ready()
    assert server.stop() == 0


def test_the_file_is_written(live: LiveServer, tmp_path: Path) -> None:
    words = ("trace", "--server", live.url, "--seconds", "0.1", "-o", str(tmp_path / "t.json"), "--json")
    done = llorch(*words, LLORCH_ADMIN_KEY="root: tahini")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["path"] == str(tmp_path / "t.json")
    assert read_trace(tmp_path / "t.json").about["steps"] == []


@pytest.mark.slow
def test_what_keeps_it_from_being_fetched_is_one_line_and_nothing_is_written(
    live: LiveServer, tmp_path: Path
) -> None:
    path = tmp_path / "t.json"
    for words, key, message, code in (
        (("--server", live.url), "wrong", "401: the admin key is missing or wrong", 1),
        (("--server", "http://127.0.0.1:9"), "x", "Connection refused", 1),
        (("--server", "localhost"), "x", "expected http://HOST:PORT", 2),
        (("--server", live.url, "--seconds", "nan"), "x", "--seconds: expected 0 < N <= 600", 2),
        (("a prompt", "--server", live.url), "x", "takes no PROMPT", 2),
        ((), "x", "give a PROMPT, or --reference DIR, or --server URL", 2),
    ):
        done = llorch("trace", *words, "-o", str(path), LLORCH_ADMIN_KEY=key)
        assert (done.returncode, done.stdout) == (code, "")
        assert message in done.stderr
        assert done.stderr.count("\n") == 1
    assert not path.exists()
