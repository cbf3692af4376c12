"""What llama-server's monitoring clients ask for, and its paths without a version."""

from __future__ import annotations

from contextlib import ExitStack

import httpx
import pytest

from tests.support.live_server import WAIT_S, LiveServer, wait_until

LONG = {"prompt": "Hello", "n_predict": 30_000, "ignore_eos": True, "stream": True, "stop": ["a secret stop"]}


def test_props_say_what_is_served_and_how(server: LiveServer) -> None:
    props = server.get("/props").json()
    assert props["total_slots"] == 2
    assert props["model_alias"] == "tiny llama"
    assert props["model_path"].endswith("long.gguf")
    assert (props["bos_token"], props["eos_token"]) == ("<s>", "</s>")
    defaults = props["default_generation_settings"]
    assert defaults["n_ctx"] == 65536
    assert (defaults["params"]["temperature"], defaults["params"]["n_predict"]) == (0.8, 256)
    assert "{%" in props["chat_template"]
    assert props["build_info"].startswith("llorch ")
    assert props["memory"]["kv_positions"] >= 65536
    assert props["memory"]["weights_bytes"] > 1000


def test_slots_show_counts_of_what_runs_and_no_text(server: LiveServer) -> None:
    _wait_for_idle(server)
    slots = server.get("/slots").json()
    assert [slot["id"] for slot in slots] == [0, 1]
    with server.stream("/completion", json=LONG) as answer:
        lines = answer.iter_lines()
        next(lines)
        busy = [slot for slot in server.get("/slots").json() if slot["is_processing"]]
        assert len(busy) == 1
        assert busy[0]["n_ctx"] == 65536
        assert busy[0]["n_prompt_tokens"] > 1
        assert busy[0]["next_token"][0]["n_decoded"] >= 1
        assert busy[0]["params"]["n_predict"] == 30_000
        assert "secret" not in server.get("/slots").text


def test_slots_can_say_that_none_is_free(server: LiveServer) -> None:
    _wait_for_idle(server)
    assert server.get("/slots?fail_on_no_slot=1").status_code == 200
    with server.stream("/completion", json=LONG) as one, server.stream("/completion", json=LONG) as two:
        streams = one.iter_lines(), two.iter_lines()
        for stream in streams:
            next(stream)
        answer = server.get("/slots", params={"fail_on_no_slot": 1})
        assert answer.status_code == 503
        assert answer.json()["error"]["type"] == "unavailable_error"
        assert server.get("/slots").status_code == 200


def _wait_for_idle(server: LiveServer) -> None:
    for _ in wait_until(WAIT_S):
        if not any(slot["is_processing"] for slot in server.get("/slots").json()):
            return
    raise TimeoutError(server.log[-2000:])


def test_messages_become_the_prompt_that_completion_takes(server: LiveServer) -> None:
    body = {"messages": [{"role": "user", "content": "hi"}]}
    prompt = server.post("/apply-template", json=body).json()["prompt"]
    assert "hi" in prompt
    bare = server.post("/apply-template", json={**body, "add_generation_prompt": False}).json()["prompt"]
    assert prompt.startswith(bare)
    assert prompt != bare


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "robot", "content": "a"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 5}], "tools": 1}, "tools"),
        (
            {"messages": [{"role": "user", "content": "a"}], "add_generation_prompt": "yes"},
            "add_generation_prompt",
        ),
        ({"messages": [{"role": "user", "content": "a"}], "chat_template_kwargs": {"messages": 1}}, "taken"),
    ],
)
def test_messages_that_are_none_are_refused(server: LiveServer, body: dict[str, object], words: str) -> None:
    answer = server.post("/apply-template", json=body)
    assert answer.status_code == 400
    assert words in answer.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/models", "/v1/models"])
def test_the_model_is_listed_with_and_without_a_version(server: LiveServer, path: str) -> None:
    assert server.get(path).json()["data"][0]["id"] == "tiny llama"


def test_chats_are_answered_without_a_version_too(server: LiveServer) -> None:
    body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
    answer = server.post("/chat/completions", json=body).json()
    assert answer["object"] == "chat.completion"
    counted = server.post("/chat/completions/input_tokens", json=body).json()
    assert counted["input_tokens"] == answer["usage"]["prompt_tokens"]
    answer = server.post("/chat/completions", json={})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "messages")


def test_the_version_of_health_is_a_probe(server: LiveServer) -> None:
    assert server.get("/v1/health").json() == {"status": "ok"}
    assert httpx.head(f"{server.url}/v1/health", timeout=WAIT_S).status_code == 200


def test_a_full_line_is_503_with_a_time_to_come_back_and_takes_none_of_several_prompts(
    server: LiveServer,
) -> None:
    _wait_for_idle(server)
    with ExitStack() as stack:
        for _ in range(4):  # two places, two may wait
            stack.enter_context(server.stream("/completion", json={**LONG, "return_progress": True}))
        answer = server.post("/completion", json={"prompt": ["a", "b"], "n_predict": 1})
        assert (answer.status_code, answer.json()["error"]["type"]) == (503, "unavailable_error")
        assert int(answer.headers["retry-after"]) >= 1
    _wait_for_idle(server)
    assert server.post("/completion", json={"prompt": ["a", "b"], "n_predict": 1}).status_code == 200
    message = server.post("/completion", json={"prompt": ["a"] * 5}).json()["error"]["message"]
    assert "prompt: 5 choices are asked for, and the server takes at most 4 at once" in message


def test_a_client_that_leaves_ends_all_of_its_generations(server: LiveServer) -> None:
    _wait_for_idle(server)
    with server.stream("/completion", json={**LONG, "prompt": ["a", "b"]}) as answer:
        lines = answer.iter_lines()
        next(lines)
    _wait_for_idle(server)
    assert not any(slot["is_processing"] for slot in server.get("/slots").json())
