"""A server started as llama-server is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.live_server import LiveServer

FLAGS = "-c 64 -np 1 -n 5 -b 32 -t 1 --alias it --temp 0 --repeat-penalty 1.1 --no-mmap -cb --jinja --slots"


@pytest.fixture(scope="module")
def small(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A context of 64 tokens and one place."""
    flags = FLAGS.replace("", "").split()
    live = LiveServer(tiny_model, tmp_path_factory.mktemp("small") / "log", *flags).wait_until_ready()
    yield live
    assert live.stop() == 0


def test_its_flags_are_the_defaults_of_requests(small: LiveServer) -> None:
    answer = small.post("/completion", json={"prompt": "Hello", "ignore_eos": True}).json()
    settings = answer["generation_settings"]
    assert (answer["model"], answer["tokens_predicted"]) == ("it", 5)
    assert (settings["temperature"], settings["repeat_penalty"], settings["n_predict"]) == (0, 1.1, 5)
    assert small.get("/props").json()["total_slots"] == 1


def test_minus_one_means_to_the_end_of_the_context(small: LiveServer) -> None:
    body = {"prompt": [300] * 60, "n_predict": -1, "ignore_eos": True}
    answer = small.post("/completion", json=body).json()
    assert (answer["tokens_predicted"], answer["stop_type"], answer["truncated"]) == (4, "limit", False)
    assert answer["generation_settings"]["n_predict"] == -1


def test_n_minus_one_of_the_server_means_the_same(tiny_model: Path, tmp_path: Path) -> None:
    live = LiveServer(tiny_model, tmp_path / "log", "-c", "64", "-n", "-1", "-t", "1").wait_until_ready()
    body = {"prompt": [300] * 60, "ignore_eos": True}
    answer = live.post("/completion", json=body).json()
    assert (answer["tokens_predicted"], answer["stop_type"]) == (4, "limit")
    native = live.post(
        "/generate", json={"token_ids": [300] * 61, "ignore_eos": True, "stream": False}
    ).json()
    assert (native["usage"]["completion_tokens"], native["finish_reason"]) == (3, "length")
    assert live.stop() == 0


def test_a_prompt_that_fills_the_context_is_refused_with_both_lengths(small: LiveServer) -> None:
    error = small.post("/completion", json={"prompt": [300] * 64}).json()["error"]
    assert error["type"] == "exceed_context_size_error"
    assert (error["n_prompt_tokens"], error["n_ctx"]) == (64, 64)
