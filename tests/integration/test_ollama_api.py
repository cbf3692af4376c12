"""`/api/...` as Ollama's clients know it: chats, texts, vectors, the list of models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from tests.support.live_server import LiveServer

USER = [{"role": "user", "content": "Hello there"}]
FEW = {"temperature": 0, "num_predict": 6}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A model with a chat template."""
    server = LiveServer("demo", tmp_path_factory.mktemp("demo") / "log", "--chat-template", "chatml")
    yield server.wait_until_ready()
    assert server.stop() == 0


def asked(server: LiveServer, path: str, **body: object) -> Any:
    """The JSON of a whole answer."""
    answer = server.post(path, json={"model": "any", "stream": False, **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


def lines(server: LiveServer, path: str, **body: object) -> list[dict[str, Any]]:
    """The objects of a streamed answer."""
    with server.stream(path, json={"model": "any", **body}) as response:
        assert response.headers["content-type"] == "application/x-ndjson"
        return [json.loads(line) for line in response.iter_lines()]


def refused(answer: httpx.Response, status: int = 400) -> str:
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["error"]
    return str(answer.json()["error"])


def test_a_chat_is_answered_as_the_same_chat_of_openais_api(server: LiveServer) -> None:
    answer = asked(server, "/api/chat", messages=USER, options=FEW)
    body = {"messages": USER, "max_tokens": 6, "temperature": 0}
    twin = server.post("/v1/chat/completions", json=body).json()
    assert answer["message"] == {"role": "assistant", "content": twin["choices"][0]["message"]["content"]}
    assert (answer["model"], answer["done"], answer["done_reason"]) == ("tiny llama", True, "length")
    assert answer["prompt_eval_count"] == twin["usage"]["prompt_tokens"]
    assert answer["eval_count"] == 6
    durations = ("prompt_eval_duration", "eval_duration", "load_duration")
    assert answer["total_duration"] >= max(answer[name] for name in durations) > 0


def test_a_stream_is_an_object_on_each_line_and_the_default(server: LiveServer) -> None:
    whole = asked(server, "/api/chat", messages=USER, options=FEW)
    stream = lines(server, "/api/chat", messages=USER, options=FEW)
    assert [one["done"] for one in stream] == [False] * (len(stream) - 1) + [True]
    assert "".join(one["message"]["content"] for one in stream) == whole["message"]["content"]
    assert {one["message"]["role"] for one in stream} == {"assistant"}
    assert stream[-1]["eval_count"] == 6
    texts = lines(server, "/api/generate", prompt="Hello", options=FEW)
    text = asked(server, "/api/generate", prompt="Hello", options=FEW)["response"]
    assert "".join(one["response"] for one in texts) == text


def test_a_raw_prompt_is_continued_as_it_is(server: LiveServer, demo: LiveServer) -> None:
    body = {"prompt": "Hello", "max_tokens": 6, "temperature": 0, "stream": False}
    for one in (server, demo):
        raw = asked(one, "/api/generate", prompt="Hello", raw=True, context=[], options=FEW)
        assert raw["response"] == one.post("/generate", json=body).json()["text"]
        assert "context" not in raw


def test_a_prompt_is_a_chat_where_the_model_has_a_template(server: LiveServer, demo: LiveServer) -> None:
    text = asked(demo, "/api/generate", prompt="Hello there", system="Be brief.", options=FEW)
    messages = [{"role": "system", "content": "Be brief."}, *USER]
    chat = asked(demo, "/api/chat", messages=messages, options=FEW)
    assert (text["response"], text["prompt_eval_count"]) == (
        chat["message"]["content"],
        chat["prompt_eval_count"],
    )
    plain = asked(server, "/api/generate", prompt="Hello there", system="Be brief.", options=FEW)
    body = {"prompt": "Be brief.\n\nHello there", "max_tokens": 6, "temperature": 0, "stream": False}
    assert plain["response"] == server.post("/generate", json=body).json()["text"]


def test_a_context_goes_on_where_the_answer_ended(server: LiveServer, demo: LiveServer) -> None:
    for one in (server, demo):
        first = asked(one, "/api/generate", prompt="Hello there", options=FEW)
        assert len(first["context"]) == first["prompt_eval_count"] + first["eval_count"]
        again = asked(one, "/api/generate", prompt="And you?", context=first["context"], options=FEW)
        assert again["context"][: len(first["context"])] == first["context"]
        assert again["prompt_eval_count"] > len(first["context"])
    turns = [
        *USER,
        {"role": "assistant", "content": first["response"]},
        {"role": "user", "content": "And you?"},
    ]
    written = "".join(demo.post("/detokenize", json={"tokens": again["context"]}).json()["content"])
    rendered = demo.post("/apply-template", json={"messages": turns}).json()["prompt"]
    assert written.removeprefix("<s>").removesuffix(again["response"]).strip() == rendered.strip()


def test_options_choose_tokens_as_the_engines_do(server: LiveServer) -> None:
    options = {
        "seed": 7,
        "temperature": 1.5,
        "top_k": 5,
        "repeat_penalty": 1.3,
        "repeat_last_n": -1,
        "num_predict": 9,
    }
    answer = asked(
        server, "/api/generate", prompt="Hello", raw=True, options={**options, "num_ctx": 4096, "f16_kv": 1}
    )
    twin = {"seed": 7, "temperature": 1.5, "top_k": 5, "repetition_penalty": 1.3, "penalty_last_n": -1}
    same = server.post("/generate", json={"prompt": "Hello", "max_tokens": 9, "stream": False, **twin}).json()
    assert answer["response"] == same["text"]
    word = answer["response"][2:5]
    stopped = asked(server, "/api/generate", prompt="Hello", raw=True, options={**options, "stop": [word]})
    assert (stopped["response"], stopped["done_reason"]) == (answer["response"][:2], "stop")


def test_probabilities_are_those_of_openais_chats(server: LiveServer) -> None:
    body: dict[str, Any] = {"messages": USER, "logprobs": True, "top_logprobs": 2}
    twin = server.post("/v1/chat/completions", json={**body, "max_tokens": 6, "temperature": 0}).json()
    expected = twin["choices"][0]["logprobs"]["content"]
    assert asked(server, "/api/chat", **body, options=FEW)["logprobs"] == expected
    stream = lines(server, "/api/chat", **body, options=FEW)
    assert [entry for one in stream for entry in one.get("logprobs", ())] == expected


def test_calls_without_ids_and_their_results_make_openais_prompt(server: LiveServer) -> None:
    def call(name: str, **more: object) -> dict[str, object]:
        return {**more, "function": {"name": name, "arguments": {"a": 1}}}

    ours = [
        *USER,
        {"role": "assistant", "tool_calls": [call("add"), call("sub")]},
        {"role": "tool", "tool_name": "sub", "content": "0"},
        {"role": "tool", "content": "2"},
        {"role": "user", "content": "And?"},
    ]
    calls = [call("add", id="call00000", type="function"), call("sub", id="call00001", type="function")]
    theirs = [
        *USER,
        {"role": "assistant", "content": "", "tool_calls": calls},
        {"role": "tool", "name": "sub", "tool_call_id": "call00001", "content": "0"},
        {"role": "tool", "name": "add", "tool_call_id": "call00000", "content": "2"},
        {"role": "user", "content": "And?"},
    ]
    body = {"messages": theirs, "max_tokens": 6, "temperature": 0}
    twin = server.post("/v1/chat/completions", json=body).json()
    answer = asked(server, "/api/chat", messages=ours, options=FEW)
    assert answer["prompt_eval_count"] == twin["usage"]["prompt_tokens"]
    assert answer["message"]["content"] == twin["choices"][0]["message"]["content"]


def test_an_answer_can_be_bound_to_json(server: LiveServer) -> None:
    pytest.importorskip("llguidance", reason="needs the extra `grammar`")
    shape = {
        "type": "object",
        "properties": {"a": {"enum": [1, 2]}},
        "required": ["a"],
        "additionalProperties": False,
    }
    answer = asked(server, "/api/chat", messages=USER, format=shape, options={"num_predict": 100})
    assert json.loads(answer["message"]["content"])["a"] in (1, 2)
    text = asked(server, "/api/generate", prompt="Hi", format=shape, options={"num_predict": 100})
    assert json.loads(text["response"])["a"] in (1, 2)


def test_a_request_without_a_question_says_that_the_model_is_there(server: LiveServer) -> None:
    for path, name in (("/api/chat", "message"), ("/api/generate", "response")):
        for answer in (asked(server, path), *lines(server, path, keep_alive=0)):
            assert (answer["done"], answer["done_reason"]) == (True, "load")
            assert name in answer


def test_vectors_are_those_of_openais_route(server: LiveServer) -> None:
    twin = server.post("/v1/embeddings", json={"input": ["Hello", "you there"]}).json()
    answer = asked(server, "/api/embed", input=["Hello", "you there"])
    assert answer["embeddings"] == [one["embedding"] for one in twin["data"]]
    assert answer["prompt_eval_count"] == twin["usage"]["prompt_tokens"]
    (short,) = asked(server, "/api/embed", input="Hello", dimensions=8)["embeddings"]
    np.testing.assert_allclose(np.linalg.norm(short), 1, rtol=1e-6)
    np.testing.assert_allclose(short / np.float64(short[0]), np.array(answer["embeddings"][0][:8])
                               / answer["embeddings"][0][0], rtol=1e-4)  # fmt: skip
    raw = np.array(asked(server, "/api/embeddings", prompt="Hello")["embedding"])
    np.testing.assert_allclose(raw / np.linalg.norm(raw), answer["embeddings"][0], rtol=1e-4, atol=1e-7)
    assert asked(server, "/api/embed", input=[])["embeddings"] == []
    assert asked(server, "/api/embeddings", prompt="")["embedding"] == []


def test_a_text_longer_than_the_context_is_cut_unless_that_is_not_wanted(demo: LiveServer) -> None:
    n_ctx = demo.get("/props").json()["default_generation_settings"]["n_ctx"]
    text = "a b " * n_ctx
    assert asked(demo, "/api/embed", input=text)["prompt_eval_count"] == n_ctx
    assert "input" in refused(demo.post("/api/embed", json={"input": text, "truncate": False}))


def test_the_model_is_listed_shown_and_loaded(server: LiveServer) -> None:
    (listed,) = server.get("/api/tags").json()["models"]
    (running,) = server.get("/api/ps").json()["models"]
    assert listed["name"] == listed["model"] == running["model"] == "tiny llama:latest"
    assert len(listed["digest"]) == 64
    assert listed["size"] == running["size"] == server.get("/props").json()["memory"]["weights_bytes"]
    assert running["context_length"] == server.get("/props").json()["default_generation_settings"]["n_ctx"]
    shown = asked(server, "/api/show", model="tiny llama:latest")
    assert shown["details"] == listed["details"]
    assert (shown["details"]["family"], shown["details"]["format"]) == ("llama", "gguf")
    assert shown["model_info"]["general.architecture"] == "llama"
    assert shown["model_info"]["general.parameter_count"] > 0
    assert shown["template"] == server.get("/props").json()["chat_template"]
    assert "completion" in shown["capabilities"]
    assert server.get("/api/version").json()["version"].count(".") == 2


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/api/chat", {"messages": USER, "options": {"temperature": 9}}, "options.temperature: expected a number"),
        ("/api/chat", {"messages": USER, "options": {"num_predict": "x"}}, "options.num_predict"),
        ("/api/chat", {"messages": USER, "think": True}, "think"),
        ("/api/chat", {"messages": [{**USER[0], "images": ["aGk="]}]}, "messages[0].images"),
        ("/api/chat", {"messages": [{"role": "nobody"}]}, "messages[0].role"),
        ("/api/chat", {"messages": USER, "format": "xml"}, "format: expected"),
        ("/api/chat", {"messages": USER, "format": {"type": 5}}, "format"),
        ("/api/chat", {"messages": USER, "top_logprobs": 2}, "top_logprobs needs logprobs"),
        ("/api/chat", {"messages": USER, "tools": [{"type": "function"}]}, "tools[0].function"),
        ("/api/generate", {"prompt": "a", "suffix": "b"}, "suffix"),
        ("/api/generate", {"prompt": "a", "template": "{{ .Prompt }}"}, "template"),
        ("/api/generate", {"prompt": "a", "context": [10**9]}, "context"),
        ("/api/generate", {"context": [10**9]}, "context"),
        ("/api/generate", {"prompt": 5}, "prompt"),
        ("/api/embed", {"input": [""]}, "input"),
        ("/api/embed", {"input": 5}, "input"),
    ],
)  # fmt: skip
def test_a_refusal_names_the_field(
    server: LiveServer, path: str, body: dict[str, object], words: str
) -> None:
    assert words in refused(server.post(path, json=body))


def test_a_body_may_be_announced_as_anything_unless_a_web_page_sends_it(server: LiveServer) -> None:
    body = b'{"prompt": "Hello", "stream": false, "options": {"num_predict": 1}}'
    form = {"Content-Type": "application/x-www-form-urlencoded"}  # what `curl -d` says
    assert server.post("/api/generate", content=body, headers=form).json()["eval_count"] == 1
    for header in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        refused(server.post("/api/generate", content=body, headers={**form, **header}), 415)


def test_there_is_no_store_of_models(server: LiveServer) -> None:
    for path in ("/api/pull", "/api/create", "/api/copy", "/api/push"):
        assert "llorch pull" in refused(server.post(path, json={"model": "llama3.2"}), 501)
    assert "nothing at this path" in refused(server.get("/api/nothing"), 404)
