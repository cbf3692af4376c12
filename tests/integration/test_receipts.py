"""Receipts of a real server, computed again by the real command."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from llorch.cli.main import main
from tests.conftest import REPOSITORY
from tests.support.commands import LLORCH
from tests.support.live_server import LiveServer, events
from tests.support.tiny_models import write_tiny_llama

PROMPT = [5 + i % 12 for i in range(60)]
"""It repeats itself: there is something to draft."""


@pytest.fixture(scope="module")
def server(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    log = tmp_path_factory.mktemp("server") / "log"
    live = LiveServer(tiny_model, log, "-np", "3", "-t", "2", "--draft", "ngram")
    yield live.wait_until_ready()
    assert live.stop() == 0


def generate(server: LiveServer, **fields: Any) -> dict[str, Any]:
    body = {"token_ids": PROMPT, "max_tokens": 12, "seed": 9, "receipt": True, "ignore_eos": True, **fields}
    if body.get("stream", True):
        with server.stream("/generate", json=body) as answer:
            return list(events(answer.iter_lines()))[-1][1]
    end: dict[str, Any] = server.post("/generate", json=body).json()
    return end


def verdict(
    receipt: object, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> dict[str, Any]:
    """What the command says, in this process."""
    path = tmp_path / "receipt.json"
    path.write_text(json.dumps(receipt))
    code = main(["verify-receipt", str(path), "-m", str(model), "-t", "1", "--json"])
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert code == {"verified": 0, "not verified": 1, "not reproducible": 3}[document["verdict"]]
    return document


def test_batched_cached_streamed_sampled_drafted_answers_are_computed_again(
    server: LiveServer, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[dict[str, Any]] = [
        {"stream": True, "temperature": 1.4, "top_k": 0},
        {"stream": False, "temperature": 0.9, "repetition_penalty": 1.2},
        {"stream": False, "temperature": 0, "logit_bias": {"7": 100}, "max_tokens": 40},
        {"stream": False, "temperature": 1.2, "mirostat": 2, "mirostat_tau": 2.5},
        {
            "stream": False,
            "dry_multiplier": 2.0,
            "xtc_probability": 0.5,
            "samplers": ["xtc", "dry", "temperature"],
        },
        {"stream": False, "typical_p": 0.6, "dynatemp_range": 0.3, "min_tokens": 12, "ignore_eos": False},
        {
            "stream": False,
            "temperature": 1.3,
            "stop_token_ids": [*range(40, 140)],
            "min_tokens": 3,
            "max_tokens": 40,
        },
    ]
    with ThreadPoolExecutor() as pool:  # side by side; again, with the prompt in the cache
        ends = [end for _ in range(2) for end in pool.map(lambda fields: generate(server, **fields), asked)]
    assert max(end["usage"]["cached_tokens"] for end in ends) > 0
    assert max(end["timings"]["drafted_tokens"] for end in ends) > 0
    n = len(asked)
    for end, again in zip(ends[:n], ends[n:], strict=True):
        assert end["receipt"]["logits"] == again["receipt"]["logits"]
    for end in ends[n:]:
        assert end["receipt"]["answer"]["token_ids"] == end["token_ids"]
        assert end["receipt"]["circumstances"]["job_id"] == end["job_id"]
        assert verdict(end, tiny_model, tmp_path, capsys)["verdict"] == "verified"


def test_the_command_says_what_holds_and_by_its_exit_code_whether_all_does(
    server: LiveServer, tiny_model: Path, tmp_path: Path
) -> None:
    receipt = generate(server)["receipt"]
    command = [*LLORCH, "verify-receipt", "-", "-m", str(tiny_model)]
    done = subprocess.run(command, input=json.dumps(receipt), capture_output=True, text=True, cwd=REPOSITORY)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "receipt of tiny llama: 60 prompt tokens, 12 generated, seed 9, length"
    assert lines[-1] == "verified"
    assert "  logits             holds" in lines
    assert "  circumstances      not checked" in lines


def test_an_altered_receipt_and_one_of_another_model_end_otherwise(
    server: LiveServer, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    receipt = generate(server)["receipt"]
    receipt["answer"]["token_ids"][3] ^= 1
    found = verdict(receipt, tiny_model, tmp_path, capsys)
    assert (found["verdict"], found["checks"]["receipt"]) == ("not verified", False)
    receipt["answer"]["token_ids"][3] ^= 1
    write_tiny_llama(tmp_path / "other.gguf", n_layer=2)
    found = verdict(receipt, tmp_path / "other.gguf", tmp_path, capsys)
    assert (found["verdict"], found["checks"]["model"]) == ("not reproducible", False)
    assert found["checks"]["logits"] is None


def test_choices_of_openais_routes_bear_a_receipt_each(
    server: LiveServer, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    body = {"prompt": [PROMPT], "n": 2, "seed": 4, "max_tokens": 6, "receipt": True, "ignore_eos": True}
    whole = server.post("/v1/completions", json=body).json()
    assert [choice["receipt"]["settings"]["seed"] for choice in whole["choices"]] == [4, 5]
    chunks = chunks_of(server, "/v1/completions", {**body, "stream": True})
    ends = {one["index"]: one for chunk in chunks for one in chunk["choices"] if one["finish_reason"]}
    assert not any(
        "receipt" in one for chunk in chunks for one in chunk["choices"] if not one["finish_reason"]
    )
    for k, choice in enumerate(whole["choices"]):
        assert ends[k]["receipt"]["logits"] == choice["receipt"]["logits"]
        assert verdict(choice, tiny_model, tmp_path, capsys)["verdict"] == "verified"


def test_a_chat_and_llama_servers_completion_bear_one_too(
    server: LiveServer, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chat = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 5, "receipt": True, "seed": 1}
    whole = server.post("/v1/chat/completions", json=chat).json()
    assert verdict(whole, tiny_model, tmp_path, capsys)["verdict"] == "verified"
    last = chunks_of(server, "/v1/chat/completions", {**chat, "stream": True})[-1]
    assert last["choices"][0]["receipt"]["logits"] == whole["choices"][0]["receipt"]["logits"]
    body = {"prompt": PROMPT, "n_predict": 5, "receipt": True, "logit_bias": [[7, False]], "seed": 3}
    completion = server.post("/completion", json=body).json()
    assert completion["receipt"]["settings"]["logit_bias"] == {"7": "-inf"}
    assert verdict(completion, tiny_model, tmp_path, capsys)["verdict"] == "verified"
    last = chunks_of(server, "/completion", {**body, "stream": True})[-1]
    assert last["receipt"]["logits"] == completion["receipt"]["logits"]


def test_a_response_bears_the_receipt_of_the_same_chat(
    server: LiveServer, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = {"input": "Hello", "max_output_tokens": 5, "receipt": True, "seed": 1}
    response = server.post("/v1/responses", json=asked).json()
    assert verdict(response, tiny_model, tmp_path, capsys)["verdict"] == "verified"
    chat = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 5, "receipt": True, "seed": 1}
    twin = server.post("/v1/chat/completions", json=chat).json()["choices"][0]
    assert response["receipt"]["logits"] == twin["receipt"]["logits"]


def chunks_of(server: LiveServer, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    with server.stream(path, json=body) as answer:
        lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def test_a_grammar_makes_a_receipt_that_is_not_reproducible(
    server: LiveServer, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("llguidance")
    schema = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"]}
    body = {"prompt": PROMPT, "json_schema": schema, "receipt": True, "max_tokens": 20, "seed": 1}
    answer = server.post("/v1/completions", json=body).json()
    found = verdict(answer, tiny_model, tmp_path, capsys)
    assert found["verdict"] == "not reproducible"
    assert (found["checks"]["logits"], found["checks"]["token_ids"]) == (True, None)


def test_there_is_no_receipt_where_none_is_asked_for(server: LiveServer) -> None:
    for path, body in (
        ("/generate", {"token_ids": PROMPT, "max_tokens": 2, "stream": False}),
        ("/v1/completions", {"prompt": PROMPT, "max_tokens": 2, "receipt": False}),
        ("/completion", {"prompt": PROMPT, "n_predict": 2}),
    ):
        assert "receipt" not in server.post(path, json=body).text
    assert "receipt" not in generate(server, receipt=False, stream=True)


@pytest.mark.parametrize("value", [1, "true", {}])
@pytest.mark.parametrize(
    "path",
    ["/generate", "/v1/completions", "/v1/chat/completions", "/completion", "/api/chat", "/api/generate"],
)
def test_a_receipt_is_asked_for_with_true(server: LiveServer, path: str, value: object) -> None:
    body = {"prompt": "a", "messages": [{"role": "user", "content": "a"}], "receipt": value}
    if path == "/generate":
        del body["messages"]
    answer = server.post(path, json=body)
    assert answer.status_code == 400
    assert "receipt: expected true or false" in answer.text


RECEIPTED: dict[str, dict[str, Any]] = {
    "/v1/messages": {"messages": [{"role": "user", "content": "a"}], "max_tokens": 2},
    "/api/chat": {"messages": [{"role": "user", "content": "a"}], "options": {"num_predict": 2}},
    "/api/generate": {"prompt": "a", "options": {"num_predict": 2}},
}


@pytest.mark.parametrize("path", RECEIPTED)
def test_anthropics_and_ollamas_answers_bear_receipts(server: LiveServer, path: str) -> None:
    whole = server.post(path, json={**RECEIPTED[path], "stream": False, "receipt": True}).json()
    assert len(whole["receipt"]["answer"]["token_ids"]) == 2
    text = server.post(path, json={**RECEIPTED[path], "stream": True, "receipt": True}).text
    assert text.count('"receipt":{') == 1
    assert (
        "receipt" not in server.post(path, json={**RECEIPTED[path], "stream": False, "receipt": False}).json()
    )


def test_neither_prompt_nor_receipt_is_logged(server: LiveServer) -> None:
    generate(server)
    assert "token_ids" not in server.log
    assert str(PROMPT[:5])[1:-1] not in server.log
