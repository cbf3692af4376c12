"""Text to ids and back, for clients of llama-server and of vLLM."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llorch.open_model import open_model
from llorch.text.tokenizer import Tokenizer
from tests.support.live_server import LiveServer

TEXT = "Once upon a time, Zoë 日 ran.\n"


@pytest.fixture(scope="module")
def tokenizer(long_model: Any) -> Tokenizer:
    with open_model(long_model) as loaded:
        return loaded.tokenizer


def tokenized(server: LiveServer, **body: object) -> Any:
    answer = server.post("/tokenize", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def message(server: LiveServer, path: str, body: object, status: int = 400) -> str:
    answer = server.post(path, content=json.dumps(body), headers={"Content-Type": "application/json"})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, status)
    assert error["type"] == "invalid_request_error"
    return str(error["message"])


def test_content_gets_no_bos_unless_asked_for_and_prompt_gets_it_unless_refused(
    server: LiveServer, tokenizer: Tokenizer
) -> None:
    bare = tokenizer.encode(TEXT, add_bos=False)
    with_bos = tokenizer.encode(TEXT)
    assert with_bos[0] == tokenizer.vocab.bos_id
    assert tokenized(server, content=TEXT)["tokens"] == bare
    assert tokenized(server, content=TEXT, add_special=True)["tokens"] == with_bos
    answer = tokenized(server, prompt=TEXT)
    assert answer == {"tokens": with_bos, "count": len(with_bos), "max_model_len": 65536}
    assert tokenized(server, prompt=TEXT, add_special_tokens=False, model="any")["tokens"] == bare


def test_control_tokens_in_the_text_are_recognised_unless_refused(
    server: LiveServer, tokenizer: Tokenizer
) -> None:
    assert tokenized(server, content="</s>")["tokens"] == [tokenizer.vocab.eos_id]
    assert len(tokenized(server, content="</s>", parse_special=False)["tokens"]) > 1


def test_content_may_mix_texts_and_ids_and_only_its_beginning_gets_bos(
    server: LiveServer, tokenizer: Tokenizer
) -> None:
    hello = tokenizer.encode("Hello", add_bos=False)
    assert tokenized(server, content=["Hello", 5], add_special=True)["tokens"] == [1, *hello, 5]
    assert tokenized(server, content=[5, "Hello"], add_special=True)["tokens"] == [5, *hello]
    assert tokenized(server, content=["Hello", "Hello"])["tokens"] == hello * 2
    assert tokenized(server, content="")["tokens"] == []
    assert tokenized(server, content=[])["tokens"] == []


def test_pieces_are_text_or_the_bytes_that_are_none(server: LiveServer) -> None:
    pieces = [token["piece"] for token in tokenized(server, content="a日", with_pieces=True)["tokens"]]
    whole = b"".join(bytes(piece) if isinstance(piece, list) else piece.encode() for piece in pieces)
    assert whole.decode().strip() == "a日"
    assert any(isinstance(piece, list) for piece in pieces)


def test_detokenize_answers_both_kinds_of_clients_and_shows_control_tokens(server: LiveServer) -> None:
    tokens = tokenized(server, prompt=TEXT)["tokens"]
    answer = server.post("/detokenize", json={"tokens": tokens}).json()
    assert answer == {"content": f"<s> {TEXT}", "prompt": f"<s> {TEXT}"}
    assert server.post("/detokenize", json={"tokens": []}).json() == {"content": "", "prompt": ""}


def test_tokenizer_info_says_what_an_evaluation_needs(server: LiveServer) -> None:
    info = server.get("/tokenizer_info").json()
    assert (info["bos_token"], info["eos_token"], info["pad_token"]) == ("<s>", "</s>", "</s>")
    assert tokenized(server, prompt=info["eos_token"], add_special_tokens=False)["tokens"] == [2]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "give the text as content, or as prompt"),
        ({"content": None, "prompt": None}, "give the text"),
        ({"content": 5}, "content: expected"),
        ({"content": {"a": 1}}, "content: expected"),
        ({"content": ["a", -1, 2.5, None]}, "3 of 4 items wrong"),
        ({"content": [True]}, "1 of 1 items wrong"),
        ({"content": "a", "add_special": "yes"}, "add_special: expected true or false"),
        ({"content": "a\ud800"}, "lone surrogate"),
        ({"content": [10**9]}, "ids of the vocabulary"),
    ],
)
def test_a_text_that_cannot_be_tokenized_is_refused_in_words(
    server: LiveServer, body: dict[str, object], words: str
) -> None:
    assert words in message(server, "/tokenize", body)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"tokens": None},
        {"tokens": "1"},
        {"tokens": [-1]},
        {"tokens": [10**9]},
        {"tokens": [10**20]},
        {"tokens": [1.5]},
    ],
)
def test_ids_that_are_none_are_refused(server: LiveServer, body: dict[str, object]) -> None:
    assert "tokens" in message(server, "/detokenize", body) or "vocabulary" in message(
        server, "/detokenize", body
    )


def test_all_faults_of_a_body_are_named_at_once(server: LiveServer) -> None:
    text = message(server, "/tokenize", {"content": 1, "add_special": 1, "with_pieces": "no"})
    assert all(name in text for name in ("content:", "add_special:", "with_pieces:"))
