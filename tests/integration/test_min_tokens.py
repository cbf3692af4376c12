"""`min_tokens`: neither the end of the text nor a stop string comes before it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import llorch
from llorch.errors import RequestError
from tests.support.live_server import LiveServer

BODY: dict[str, Any] = {"prompt": "Once upon a time", "max_tokens": 12, "temperature": 0}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    live = LiveServer(Path("demo"), tmp_path_factory.mktemp("server") / "log", "-np", "2")
    yield live.wait_until_ready()
    assert live.stop() == 0


@pytest.fixture(scope="module")
def end_id() -> int:
    with llorch.load("demo") as model:
        (end,) = model.tokenizer.vocab.eog_ids
        return end


@pytest.mark.parametrize("n", [0, 1, 5, 12, 100])
def test_the_end_of_the_text_waits(server: LiveServer, end_id: int, n: int) -> None:
    wanted = {**BODY, "logit_bias": {str(end_id): 100}, "min_tokens": n}
    native = server.post("/generate", json={**wanted, "stream": False}).json()
    assert native["finish_reason"] == ("length" if n >= 12 else "stop")
    assert len(native["token_ids"]) == min(n, 12)
    openai = server.post("/v1/completions", json=wanted).json()
    assert openai["usage"]["completion_tokens"] == min(n, 12)
    assert openai["choices"][0]["text"] == native["text"]


def test_a_stop_string_waits(server: LiveServer) -> None:
    free = server.post("/generate", json={**BODY, "stream": False}).json()["text"]
    stop = free[:4]
    assert server.post("/generate", json={**BODY, "stream": False, "stop": stop}).json()["text"] == ""
    waited = server.post(
        "/generate", json={**BODY, "stream": False, "stop": [stop, "a"], "min_tokens": 3}
    ).json()
    assert waited["matched_stop"] == "a"
    assert waited["text"].startswith(stop)
    assert free.startswith(waited["text"])


@pytest.mark.parametrize("min_tokens", [-1, "5", 1.5])
def test_what_is_no_count_is_refused(server: LiveServer, min_tokens: object) -> None:
    for route in ("/generate", "/v1/completions"):
        answer = server.post(route, json={**BODY, "min_tokens": min_tokens})
        assert answer.status_code == 400, answer.text
        assert "min_tokens" in answer.text


def test_of_the_python_interface(end_id: int) -> None:
    with llorch.load("demo") as model:
        wanted: dict[str, Any] = {"max_tokens": 12, "temperature": 0, "logit_bias": {end_id: 100.0}}
        assert model.generate("Once", **wanted).token_ids == ()
        assert len(model.generate("Once", **wanted, min_tokens=4).token_ids) == 4
        assert len("".join(model.stream("Once", **wanted, min_tokens=4))) > 0
        with pytest.raises(RequestError, match="min_tokens"):
            model.generate("Once", **wanted, min_tokens=-1)
