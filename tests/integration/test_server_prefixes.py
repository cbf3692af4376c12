"""The cache of prefixes of a real server, in memory and across a restart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.live_server import LiveServer

PROMPT = [5 + i % 90 for i in range(100)]


def generate(server: LiveServer, **fields: Any) -> dict[str, Any]:
    body = {"token_ids": PROMPT, "max_tokens": 5, "seed": 1, "ignore_eos": True, "stream": False, **fields}
    answer: dict[str, Any] = server.post("/generate", json=body).json()
    return answer


def test_a_prefix_is_found_again_and_after_a_restart_too(tiny_model: Path, tmp_path: Path) -> None:
    flags = ("-np", "1", "--cache-dir", str(tmp_path / "prefixes"))
    answers = []
    for start in range(2):
        server = LiveServer(tiny_model, tmp_path / f"log{start}", *flags).wait_until_ready()
        answers += [generate(server), generate(server)]
        assert server.stop() == 0
        assert f"prefixes are kept in {tmp_path / 'prefixes'} too" in server.log
    assert [answer["usage"]["cached_tokens"] for answer in answers] == [0, 96, 96, 96]
    assert len({tuple(answer["token_ids"]) for answer in answers}) == 1
