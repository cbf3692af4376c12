"""Grammars, expressions and choices through a real server, under the names of llama-server and of vLLM."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.live_server import LiveServer
from tests.support.openai_client import chunks, fault, text_of, whole

CHAT, TEXT, NATIVE = "/v1/chat/completions", "/v1/completions", "/completion"
GRAMMAR = 'root ::= "<" item ("," item)? ">" # one or two\nitem ::= [a-c]{2} | "(" root ")"'
FITS = r"<((?:[a-c]{2}|\(.*\))(?:,(?:[a-c]{2}|\(.*\)))?)>"
SCHEMA = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "blue"]}},
    "required": ["colour"],
    "additionalProperties": False,
}
PHONE, COLOURS = r"\d{3}-\d{4}", ["red", "dark blue", "green"]
FIELDS: list[tuple[str, dict[str, Any], str]] = [
    ("grammar", {"grammar": GRAMMAR}, FITS),
    ("guided_grammar", {"guided_grammar": GRAMMAR}, FITS),
    ("structured grammar", {"structured_outputs": {"grammar": GRAMMAR}}, FITS),
    ("guided_regex", {"guided_regex": PHONE}, PHONE),
    ("structured regex", {"structured_outputs": {"regex": PHONE}}, PHONE),
    ("guided_choice", {"guided_choice": COLOURS}, "|".join(COLOURS)),
    ("structured choice", {"structured_outputs": {"choice": COLOURS}}, "|".join(COLOURS)),
    ("guided_json", {"guided_json": SCHEMA}, ""),
    ("guided_json text", {"guided_json": json.dumps(SCHEMA)}, ""),
    ("structured json", {"structured_outputs": {"json": SCHEMA}}, ""),
]
NAMES = [name for name, _, _ in FIELDS]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    flags = ("-np", "4", "--chat-template", "chatml")
    server = LiveServer("demo", tmp_path_factory.mktemp("demo") / "log", *flags)
    yield server.wait_until_ready()
    assert "ERROR" not in server.log
    assert server.stop() == 0


def check(text: str, pattern: str) -> None:
    if pattern:
        assert re.fullmatch(pattern, text), text
    else:
        assert json.loads(text)["colour"] in ("red", "blue")


@pytest.mark.parametrize("temperature", [0, 1])
@pytest.mark.parametrize(("name", "fields", "pattern"), FIELDS, ids=NAMES)
def test_an_answer_of_openai_s_routes_fits(
    demo: LiveServer, name: str, fields: dict[str, Any], pattern: str, temperature: float
) -> None:
    ask = {"max_tokens": 200, "temperature": temperature, "seed": 3, **fields}
    body = {"prompt": ["One day", "Tom said"], **ask}
    for choice in whole(demo, TEXT, **body)["choices"]:
        assert choice["finish_reason"] == "stop", name
        check(choice["text"], pattern)
    chat = {"messages": [{"role": "user", "content": "Hello"}], **ask}
    (choice,) = whole(demo, CHAT, **chat)["choices"]
    check(choice["message"]["content"], pattern)
    assert text_of(chunks(demo, CHAT, **chat)) == choice["message"]["content"]


@pytest.mark.parametrize("temperature", [0, 1])
def test_an_answer_of_llama_server_s_route_fits_its_grammar(demo: LiveServer, temperature: float) -> None:
    body = {"prompt": "One day", "n_predict": 200, "temperature": temperature, "seed": 5, "grammar": GRAMMAR}
    answer = demo.post(NATIVE, json=body).json()
    check(answer["content"], FITS)
    assert answer["stop_type"] == "eos"
    assert answer["generation_settings"]["grammar"] == GRAMMAR
    free = demo.post(NATIVE, json={**body, "n_predict": 4, "grammar": ""}).json()
    assert not free["content"].startswith("<")
    assert free["generation_settings"]["grammar"] == ""


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"grammar": "root ::= x"}, "grammar", "line 1, column 10: no rule is called x"),
        ({"guided_regex": "("}, "guided_regex", "unclosed group"),
        ({"structured_outputs": {"regex": "(?=a)"}}, "structured_outputs.regex", "look"),
        ({"guided_choice": ["a", 5]}, "guided_choice", "a list of at most"),
        ({"guided_json": {"type": "banana"}}, "guided_json", "banana"),
        ({"guided_regex": "a", "guided_choice": ["a"]}, "guided_choice", "guided_regex and guided_choice"),
        ({"guided_regex": "a", "ignore_eos": True}, "ignore_eos", "ignore_eos"),
    ],
)
def test_a_fault_is_a_400_that_names_the_field(
    demo: LiveServer, fields: dict[str, Any], param: str, words: str
) -> None:
    for path, prompt in ((TEXT, {"prompt": "a"}), (CHAT, {"messages": [{"role": "user", "content": "a"}]})):
        status, error = fault(demo, path, **prompt, **fields)
        assert (status, error["type"], error["param"]) == (400, "invalid_request_error", param)
        assert words in error["message"]


def test_two_constraints_of_llama_server_s_route_are_refused_by_name(demo: LiveServer) -> None:
    answer = demo.post(NATIVE, json={"prompt": "a", "grammar": GRAMMAR, "json_schema": SCHEMA})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["type"]) == (400, 400, "invalid_request_error")
    assert "json_schema and grammar" in error["message"]


def test_a_grammar_without_an_end_ends_with_the_limit(demo: LiveServer) -> None:
    (choice,) = whole(demo, TEXT, prompt="a", max_tokens=9, grammar='root ::= "ab" root')["choices"]
    assert choice["finish_reason"] == "length"
    assert choice["text"] == ("ab" * 9)[: len(choice["text"])]
