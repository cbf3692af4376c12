"""A real client and a real server: what `POST /generate` answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import llorch
from tests.support.live_server import WAIT_S, LiveServer, generate_events
from tests.support.real_models import greedy_text

U64_MAX = 2**64 - 1


def post(server: LiveServer, body: object, **kwargs: object) -> httpx.Response:
    return server.post("/generate", json=body, **kwargs)  # type: ignore[arg-type]


def test_stream_is_started_then_tokens_then_one_end(server: LiveServer) -> None:
    stream = generate_events(
        server.url, prompt="Hello world", max_tokens=6, ignore_eos=True, seed=7, job_id="a.1"
    )
    names = [name for name, _ in stream]
    assert names[0] == "started"
    assert names[-1] == "end"
    assert set(names[1:-1]) == {"token"}
    assert all(data["type"] == name for name, data in stream)
    started, *tokens, end = [data for _, data in stream]
    assert set(started) == {"type", "job_id", "model", "prompt_tokens", "seed"}
    assert (started["job_id"], started["model"], started["seed"]) == ("a.1", "tiny llama", 7)
    assert [token["i"] for token in tokens] == list(range(6))
    assert "".join(token["text"] for token in tokens) == end["text"]
    assert [token["id"] for token in tokens] == end["token_ids"]
    assert set(end) == {
        "type", "job_id", "finish_reason", "text", "token_ids", "usage", "seed", "matched_stop", "timings",
    }  # fmt: skip
    assert end["finish_reason"] == "length"
    assert end["usage"] == {
        "prompt_tokens": started["prompt_tokens"],
        "completion_tokens": 6,
        "cached_tokens": 0,
    }
    assert set(end["timings"]) == {
        "queue_s", "prompt_s", "prompt_tokens_per_s", "decode_s", "decode_tokens_per_s", "drafted_tokens",
            "accepted_tokens",
    }  # fmt: skip


def test_stream_false_gives_what_end_says_as_one_body(server: LiveServer) -> None:
    body = {"prompt": "Hello", "max_tokens": 5, "seed": 3}
    answer = post(server, {**body, "stream": False})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    streamed = generate_events(server.url, **body)[-1][1]
    whole = answer.json()
    for document in (streamed, whole):
        document.pop("job_id")
        document.pop("timings")
    assert whole == streamed


def test_same_seed_same_text_and_a_generated_seed_is_told(server: LiveServer) -> None:
    first = post(server, {"prompt": "Once", "max_tokens": 12, "stream": False}).json()
    again = post(server, {"prompt": "Once", "max_tokens": 12, "stream": False, "seed": first["seed"]}).json()
    assert again["text"] == first["text"]
    assert again["token_ids"] == first["token_ids"]
    assert post(server, {"prompt": "Once", "max_tokens": 1, "seed": U64_MAX}).status_code == 200


def test_token_ids_are_taken_as_they_are(server: LiveServer) -> None:
    end = post(server, {"token_ids": [1, 300, 301], "max_tokens": 1, "stream": False}).json()
    assert end["usage"]["prompt_tokens"] == 3


def test_server_and_python_interface_write_the_same(server: LiveServer, long_model: Path) -> None:
    end = post(server, {"prompt": "Hello", "max_tokens": 8, "temperature": 0, "stream": False}).json()
    with llorch.load(long_model) as model:
        assert model.generate("Hello", max_tokens=8, temperature=0).token_ids == tuple(end["token_ids"])


def test_penalties_look_back_on_penalty_last_n_tokens(server: LiveServer) -> None:
    body = {"prompt": "Hello", "max_tokens": 24, "temperature": 0, "ignore_eos": True, "stream": False}
    free = post(server, body).json()["token_ids"]
    assert post(server, {**body, "presence_penalty": 2}).json()["token_ids"] != free
    assert post(server, {**body, "presence_penalty": 2, "penalty_last_n": 0}).json()["token_ids"] == free


def test_stop_string_ends_the_text_before_it(server: LiveServer) -> None:
    body = {"prompt": "Hello", "max_tokens": 40, "seed": 1, "ignore_eos": True, "stream": False}
    text = post(server, body).json()["text"]
    stop = text[5:8]
    end = post(server, {**body, "stop": stop}).json()
    assert (end["finish_reason"], end["matched_stop"]) == ("stop", stop)
    assert end["text"] == text[: text.index(stop)]


def test_real_model_streams_a_story(real_model: Path, tmp_path: Path) -> None:
    server = LiveServer(real_model, tmp_path / "log").wait_until_ready()
    try:
        stream = generate_events(server.url, prompt="Once upon a time", max_tokens=11, temperature=0)
        assert stream[-1][1]["text"].startswith(greedy_text(real_model))
    finally:
        assert server.stop() == 0


def test_all_faults_come_in_one_answer_without_the_prompt(server: LiveServer) -> None:
    body = {
        "prompt": "my secret \ud800", "max_tokens": 0, "temperature": 2.5, "top_k": -1, "top_p": "high",
        "stop": ["ok", ""], "seed": -1, "stream": "no", "temprature": 1, "inputs": "my secret",
    }  # fmt: skip
    answer = server.post("/generate", content=json.dumps(body), headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert set(answer.json()) == {"errors"}
    errors = {error["field"]: error for error in answer.json()["errors"]}
    assert set(errors) == {
        "prompt", "max_tokens", "temperature", "top_k", "top_p", "stop[1]", "seed", "stream", "temprature", "inputs",
    }  # fmt: skip
    assert all(set(error) == {"field", "constraint", "message"} for error in errors.values())
    assert "did you mean temperature?" in errors["temprature"]["message"]
    assert "text-generation-inference" in errors["inputs"]["message"]
    assert "secret" not in answer.text
    assert "secret" not in server.log


def test_token_ids_outside_the_vocabulary_are_refused(server: LiveServer) -> None:
    answer = post(server, {"token_ids": [1, 320]})
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == "token_ids"
    assert "320" in answer.json()["errors"][0]["constraint"]


def test_over_long_prompt_states_both_lengths(server: LiveServer) -> None:
    answer = post(server, {"token_ids": [5] * 65536})
    assert answer.status_code == 400
    assert (answer.json()["n_prompt_tokens"], answer.json()["n_ctx"]) == (65536, 65536)
    assert answer.json()["errors"][0]["field"] == "prompt"


def test_prompt_length_is_limited_in_characters(server: LiveServer) -> None:
    with server.stream("/generate", json={"prompt": "a" * 32768}) as accepted:
        assert accepted.status_code == 200
    answer = post(server, {"prompt": "a" * 32769})
    assert answer.status_code == 400
    assert "32768" in answer.json()["errors"][0]["message"]


def test_taken_job_id_is_refused(server: LiveServer) -> None:
    with server.stream(
        "/generate",
        json={"prompt": "a", "max_tokens": 60000, "ignore_eos": True, "job_id": "x"},
    ):
        answer = post(server, {"prompt": "a", "job_id": "x"})
    assert answer.status_code == 409
    assert answer.json()["errors"][0]["field"] == "job_id"


@pytest.mark.parametrize(
    ("content", "status", "word"),
    [
        (b"", 400, "JSON"),
        (b"{", 400, "JSON"),
        (b"[1]", 400, "array"),
        (b'"text"', 400, "string"),
        (b"null", 400, "null"),
        (b'{"prompt": "\xff"}', 400, "UTF-8"),
        (b'{"prompt": "a", "temperature": NaN}', 400, "NaN"),
        (b'{"prompt": "a", "temperature": 1e999}', 400, "temperature"),
        (b'{"prompt": "a", "seed": ' + b"9" * 5000 + b"}", 400, "digits"),
        (b"[" * 200_000, 400, "nested"),
        (b'{"prompt": "a", "\\ud800": 1}', 400, "ud800"),
        (b'{"prompt": "' + b"a" * (1 << 20) + b'"}', 413, "1048576"),
    ],
    ids=lambda value: value[:30].decode("latin-1") if isinstance(value, bytes) else None,
)
def test_bodies_that_are_no_request_are_refused_in_words(
    server: LiveServer, content: bytes, status: int, word: str
) -> None:
    answer = server.post("/generate", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == status
    assert word in answer.text
    assert answer.json()["errors"]


def test_chunked_body_over_the_limit_is_refused(server: LiveServer) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(40):
            yield b" " * 65536

    with httpx.Client(timeout=WAIT_S) as client:
        request = client.build_request(
            "POST", f"{server.url}/generate", content=chunks(), headers={"content-type": "application/json"}
        )
        begin = len(server.log)
        try:
            answer = client.send(request)
        except httpx.NetworkError:  # the server has closed while the rest was still being sent
            pass
        else:
            assert (answer.status_code, "1048576" in answer.text) == (413, True)
    server.wait_for_log(r"POST /generate 413 ", after=begin)
    server.assert_alive()


def test_other_content_types_are_refused(server: LiveServer) -> None:
    answer = server.post("/generate", content=b'{"prompt": "a"}', headers={"content-type": "text/plain"})
    assert answer.status_code == 415


def test_unknown_paths_and_methods_are_refused_in_the_same_shape(server: LiveServer) -> None:
    for answer, status in (
        (server.get("/nothing"), 404),
        (server.get("/generate"), 405),
    ):
        assert answer.status_code == status
        assert set(answer.json()["errors"][0]) == {"field", "constraint", "message"}


def test_openapi_describes_the_request(server: LiveServer) -> None:
    document = server.get("/openapi.json").json()
    schema = document["paths"]["/generate"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert {"prompt", "token_ids", "max_tokens", "seed", "stream", "job_id"} <= set(schema["properties"])
    assert server.get("/docs").status_code == 200
