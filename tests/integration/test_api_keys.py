"""Several API keys: each lets in, each has an owner, and no owner touches another's generations."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.live_server import LiveServer, events

BODY = {"prompt": "Hello", "max_tokens": 2, "stream": False}
LONG = {"prompt": "Hello", "max_tokens": 60_000, "ignore_eos": True, "job_id": "long"}


@pytest.fixture(scope="module")
def guarded(long_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server with three keys, one of them without a name."""
    folder = tmp_path_factory.mktemp("keys")
    (folder / "keys").write_text("# who may come in\nalice: sesame\n\nbob: tahini\nhalva\n")
    live = LiveServer(long_model, folder / "log", "-np", "2", "--api-key-file", str(folder / "keys"))
    yield live.wait_until_ready()
    assert live.stop() == 0


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.mark.parametrize("key", ["sesame", "tahini", "halva"])
def test_every_key_lets_in_by_either_header(guarded: LiveServer, key: str) -> None:
    assert guarded.post("/generate", json=BODY, headers=bearer(key)).status_code == 200
    assert guarded.get("/tokenizer_info", headers={"X-Api-Key": key}).status_code == 200


@pytest.mark.parametrize("key", ["", "sesam", "alice: sesame", "alice", "sesame,tahini", "# who may come in"])
def test_nothing_else_does(guarded: LiveServer, key: str) -> None:
    answer = guarded.post("/completion", json={"prompt": "a"}, headers={"X-Api-Key": key})
    assert answer.status_code == 401
    assert answer.json()["error"]["type"] == "authentication_error"
    assert answer.headers["www-authenticate"] == "Bearer"


def test_a_line_of_the_log_says_whose_a_request_was_and_never_the_key(guarded: LiveServer) -> None:
    for key, job_id in (("tahini", "job.b"), ("halva", "job.c")):
        guarded.post("/generate", json={**BODY, "job_id": job_id}, headers=bearer(key))
    guarded.wait_for_log(r"job\.b of bob: ")
    guarded.wait_for_log(r"job\.c of key-[0-9a-f]{12}: ")
    assert not any(key in guarded.log for key in ("sesame", "tahini", "halva"))


def test_nobody_cancels_a_generation_of_another_owner(guarded: LiveServer) -> None:
    with guarded.stream("/generate", json=LONG, headers=bearer("sesame")) as answer:
        stream = events(answer.iter_lines())
        assert next(stream)[0] == "started"
        cancel = {"job_id": "long"}
        assert guarded.post("/cancel", json=cancel, headers=bearer("tahini")).status_code == 404
        assert guarded.post("/cancel", json=cancel, headers=bearer("sesame")).status_code == 200
        assert list(stream)[-1][1]["finish_reason"] == "abort"


def test_no_owner_learns_from_the_cache_what_another_has_asked(guarded: LiveServer) -> None:
    def n_cached(key: str) -> int:
        body = {"token_ids": [7 + i % 200 for i in range(400)], "max_tokens": 1, "stream": False}
        answer = guarded.post("/generate", json=body, headers=bearer(key)).json()
        n: int = answer["usage"]["cached_tokens"]
        return n

    assert [n_cached(key) for key in ("sesame", "tahini", "halva")] == [0, 0, 0]
    assert min(n_cached(key) for key in ("sesame", "tahini", "halva")) > 300


def test_probes_need_none(guarded: LiveServer) -> None:
    for path in ("/health", "/ready", "/v1/health"):
        assert guarded.get(path).status_code == 200


def test_each_api_refuses_in_its_own_shape(guarded: LiveServer) -> None:
    types = {}
    for path in ("/v1/messages", "/v1/completions", "/props"):
        answer = guarded.post(path, json={}) if path.startswith("/v1") else guarded.get(path)
        assert answer.status_code == 401
        types[path] = answer.json()["error"]["type"]
    assert types["/v1/messages"] == types["/props"] == "authentication_error"
    anthropic = {"x-api-key": "tahini", "anthropic-version": "2023-06-01"}
    assert guarded.post("/v1/messages", json={}, headers=anthropic).status_code == 400
