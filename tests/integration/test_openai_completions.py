"""A real client and a real server: `/v1/completions` and `/v1/models`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.live_server import LiveServer
from tests.support.openai_client import chunks, fault, text_of, whole

PATH = "/v1/completions"
GREEDY = {"prompt": "Once upon a time", "temperature": 0, "max_tokens": 8}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    server = LiveServer("demo", tmp_path_factory.mktemp("demo") / "log", "-np", "4", "--max-waiting", "8")
    yield server.wait_until_ready()
    assert server.stop() == 0


def ask(server: LiveServer, **body: Any) -> dict[str, Any]:
    return whole(server, PATH, **{**GREEDY, **body})


def native(server: LiveServer, **body: Any) -> dict[str, Any]:
    """What `POST /generate` says."""
    return whole(server, "/generate", **{**GREEDY, "stream": False, **body})


def test_an_answer_has_openais_shape_and_llama_servers_timings(demo: LiveServer) -> None:
    answer = ask(demo)
    assert set(answer) == {
        "id", "object", "created", "model", "system_fingerprint", "choices", "usage", "timings",
    }  # fmt: skip
    assert answer["object"] == "text_completion"
    assert answer["model"] == "llorch demo"
    end = native(demo)
    assert answer["choices"] == [
        {"index": 0, "text": end["text"], "logprobs": None, "finish_reason": "length"}
    ]
    assert answer["usage"]["prompt_tokens"] == end["usage"]["prompt_tokens"]
    assert answer["usage"]["completion_tokens"] == 8
    assert answer["usage"]["total_tokens"] == 8 + end["usage"]["prompt_tokens"]
    assert answer["timings"]["predicted_n"] == 8


def test_sixteen_tokens_come_where_nothing_is_said(demo: LiveServer) -> None:
    assert ask(demo, max_tokens=None, ignore_eos=True)["usage"]["completion_tokens"] == 16
    assert ask(demo, max_tokens=-1, ignore_eos=True)["usage"]["total_tokens"] == 512


def test_chunks_joined_are_the_whole_answer(demo: LiveServer) -> None:
    answer = ask(demo)
    documents = chunks(demo, PATH, **GREEDY)
    assert text_of(documents) == answer["choices"][0]["text"]
    assert [one["choices"][0]["finish_reason"] for one in documents] == [None] * (len(documents) - 1) + [
        "length"
    ]
    assert "timings" in documents[-1]
    assert not any("usage" in one for one in documents)


def test_usage_comes_in_a_chunk_of_its_own_when_asked_for(demo: LiveServer) -> None:
    *documents, last = chunks(demo, PATH, **GREEDY, stream_options={"include_usage": True})
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 8
    assert "timings" in last
    assert "timings" not in documents[-1]


def test_lists_of_prompts_and_choices_are_numbered_prompt_by_prompt(demo: LiveServer) -> None:
    ids = native(demo, prompt="Once upon a time", max_tokens=1)
    token_ids = ask(demo, return_token_ids=True)["choices"][0]["prompt_token_ids"]
    assert ids["usage"]["prompt_tokens"] == len(token_ids)
    body = {"n": 2, "seed": 5, "temperature": 1}
    answer = ask(demo, prompt=["Tom", token_ids], **body)
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]
    alone = [
        ask(demo, prompt=prompt, temperature=1, seed=5 + k)["choices"][0]["text"]
        for prompt in ("Tom", "Once upon a time")
        for k in range(2)
    ]
    assert [choice["text"] for choice in answer["choices"]] == alone
    n_prompts = [ask(demo, prompt=prompt)["usage"]["prompt_tokens"] for prompt in ("Tom", token_ids)]
    assert answer["usage"]["prompt_tokens"] == sum(n_prompts)
    assert "timings" not in answer
    documents = chunks(demo, PATH, **{**GREEDY, **body, "prompt": ["Tom", token_ids]})
    assert [text_of(documents, k) for k in range(4)] == alone


def test_echo_puts_the_prompt_first(demo: LiveServer) -> None:
    text = ask(demo)["choices"][0]["text"]
    for prompt in ("Once upon a time", ask(demo, return_token_ids=True)["choices"][0]["prompt_token_ids"]):
        assert ask(demo, prompt=prompt, echo=True)["choices"][0]["text"] == "Once upon a time" + text
        streamed = text_of(chunks(demo, PATH, **{**GREEDY, "prompt": prompt}, echo=True))
        assert streamed == "Once upon a time" + text


def test_nothing_but_the_prompt_is_an_answer(demo: LiveServer) -> None:
    for logprobs in (None, 0, 3):
        answer = ask(demo, max_tokens=0, echo=True, logprobs=logprobs)
        assert answer["choices"][0]["text"] == "Once upon a time"
        assert answer["usage"]["completion_tokens"] == 0
        if logprobs is not None:
            arrays = answer["choices"][0]["logprobs"]
            assert {len(array) for array in arrays.values()} == {answer["usage"]["prompt_tokens"]}


def test_scores_of_a_prompt_are_as_the_evaluation_harness_reads_them(demo: LiveServer) -> None:
    ids = [
        ask(demo, prompt=p, return_token_ids=True)["choices"][0]["prompt_token_ids"]
        for p in ("Tom ran.", "A cat")
    ]
    body = {"prompt": ids, "max_tokens": 1, "logprobs": 1, "echo": True, "seed": 1234}
    answer = ask(demo, **body)
    for choice, prompt in zip(answer["choices"], ids, strict=True):
        scores = choice["logprobs"]
        assert {len(array) for array in scores.values()} == {len(prompt) + 1}
        assert scores["token_logprobs"][0] is scores["top_logprobs"][0] is None
        assert scores["text_offset"] == sorted(scores["text_offset"])
        names = ("tokens", "token_logprobs", "top_logprobs")
        for token, logprob, top in zip(*(scores[name][1:] for name in names), strict=True):
            assert top[token] >= logprob
            assert max(top.values()) >= logprob
        assert max(scores["top_logprobs"][-1].values()) == scores["token_logprobs"][-1]  # greedy: the argmax
        joined = chunks(demo, PATH, **{**GREEDY, **body, "prompt": prompt})
        arrays = [one["choices"][0]["logprobs"] for one in joined if one["choices"][0]["logprobs"]]
        for name, array in scores.items():
            assert [item for part in arrays for item in part[name]] == array


def test_the_token_that_ends_the_text_has_a_score(demo: LiveServer) -> None:
    """Else a harness that takes one token off the end would take one of the prompt's."""
    answer = ask(demo, max_tokens=1, echo=True, logprobs=1, logit_bias={"2": 100})
    (choice,) = answer["choices"]
    assert choice["finish_reason"] == "stop"
    assert choice["logprobs"]["tokens"][-1] == "</s>"
    assert len(choice["logprobs"]["tokens"]) == answer["usage"]["prompt_tokens"] + 1
    assert choice["text"] == "Once upon a time"


def test_ids_come_with_each_chunk_when_asked_for(demo: LiveServer) -> None:
    choice = ask(demo, return_token_ids=True)["choices"][0]
    first, *documents = chunks(demo, PATH, **GREEDY, return_token_ids=True)
    assert first["choices"][0]["prompt_token_ids"] == choice["prompt_token_ids"]
    streamed = [one["choices"][0].get("token_ids", []) for one in documents]
    assert (
        [token_id for ids in streamed for token_id in ids] == choice["token_ids"] == native(demo)["token_ids"]
    )


def test_a_stop_string_is_held_back(demo: LiveServer) -> None:
    text = ask(demo, max_tokens=30)["choices"][0]["text"]
    word = text.split()[3]
    for stop in (word, [word, "never there"]):
        choice = ask(demo, max_tokens=30, stop=stop)["choices"][0]
        assert choice["finish_reason"] == "stop"
        assert choice["text"] == text.partition(word)[0]
        assert text_of(chunks(demo, PATH, **{**GREEDY, "max_tokens": 30}, stop=stop)) == choice["text"]


def test_faults_are_400_in_openais_shape(demo: LiveServer) -> None:
    status, error = fault(demo, PATH, prompt=[], temperature=9, best_of=5)
    assert (status, error["type"], error["param"]) == (400, "invalid_request_error", "prompt")
    assert "temperature" in error["message"]
    assert "best_of" in error["message"]
    assert fault(demo, PATH, **{**GREEDY, "prompt": [1, 10**6]})[1]["param"] == "prompt"
    status, error = fault(demo, PATH, prompt=[1] * 600)
    assert (status, error["code"], error["param"]) == (400, "context_length_exceeded", "prompt")
    assert "600" in error["message"]
    assert "512" in error["message"]
    assert fault(demo, PATH, **GREEDY, n=13)[1]["param"] == "n"
    assert demo.get("/v1/nothing").json()["error"]["code"] == "not_found"
    assert demo.get(PATH).status_code == 405


def test_a_stream_tells_a_fault_before_it_begins(demo: LiveServer) -> None:
    assert fault(demo, PATH, prompt=[1] * 600, stream=True)[0] == 400
    assert fault(demo, PATH, prompt=[[1], [10**6]], stream=True)[0] == 400


def test_an_answer_can_be_cancelled_by_its_id(demo: LiveServer) -> None:
    body = {**GREEDY, "max_tokens": -1, "stream": True, "ignore_eos": True}
    with demo.stream(PATH, json=body) as response:
        lines = (line.removeprefix("data: ") for line in response.iter_lines() if line)
        answer_id = json.loads(next(lines))["id"]
        assert demo.post("/cancel", json={"job_id": answer_id}).status_code == 200
        *_, last, done = lines
    assert done == "[DONE]"
    assert json.loads(last)["choices"][0]["finish_reason"] == "abort"


def test_the_model_is_listed_with_its_sizes(demo: LiveServer) -> None:
    listed = demo.get("/v1/models").json()
    assert listed["object"] == "list"
    (model,) = listed["data"]
    assert (model["id"], model["object"], model["max_model_len"]) == ("llorch demo", "model", 512)
    assert set(model["meta"]) == {"n_vocab", "n_ctx", "n_ctx_train", "n_embd", "n_params", "size"}
    assert demo.get("/v1/models/llorch%20demo").json() == model
    missing = demo.get("/v1/models/gpt-4")
    assert missing.status_code == 404
    assert missing.json()["error"]["param"] == "model"


def test_any_name_of_a_model_is_answered_with_its_own(demo: LiveServer) -> None:
    assert ask(demo, model="gpt-4")["model"] == "llorch demo"


def test_progress_is_told_when_asked_for(demo: LiveServer) -> None:
    documents = chunks(demo, PATH, **GREEDY, return_progress=True)
    progress = [one["prompt_progress"] for one in documents if "prompt_progress" in one]
    n_prompt = ask(demo)["usage"]["prompt_tokens"]
    assert progress[-1]["total"] == progress[-1]["processed"] == n_prompt


def test_a_whole_number_is_an_integer_however_it_is_spelt(demo: LiveServer) -> None:
    body = b'{"prompt": [1.0, 5.0], "max_tokens": 3.0, "temperature": 0, "ignore_eos": true}'
    answer = demo.post(PATH, content=body, headers={"Content-Type": "application/json"}).json()
    assert answer["usage"]["completion_tokens"] == 3
    assert fault(demo, PATH, **{**GREEDY, "max_tokens": 1.5})[1]["param"] == "max_tokens"
