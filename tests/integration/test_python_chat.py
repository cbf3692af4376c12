"""Chats, batches and bound answers from Python: the same bits as one generation at a time."""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_type_hints

import pytest

import llorch
from llorch.api.options import Options
from llorch.api.rule import NAMES
from llorch.engine.params import SamplingParams
from llorch.errors import EngineStoppedError, RequestError
from llorch.fields.table import FIELDS

HELLO = [{"role": "user", "content": "Tell me of Lily"}]
SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["n"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def model(real_model: Path) -> Iterator[llorch.Model]:
    with llorch.load(real_model, threads=1, ctx_size=512, chat_template="llama2", n_predict=12) as model:
        yield model


def test_a_chat_continues_what_the_template_makes_of_the_messages(model: llorch.Model) -> None:
    ids = model.chat_prompt(HELLO)
    assert "[INST] Tell me of Lily [/INST]" in model.tokenizer.decode(ids)
    answer = model.chat(HELLO, seed=3)
    assert answer.prompt_token_ids == tuple(ids)
    alone = model.generate(ids, seed=3)
    assert (answer.text, answer.token_ids) == (alone.text, alone.token_ids)
    assert len(answer.token_ids) == 12
    assert "".join(model.stream_chat(tuple(HELLO), seed=3)) == answer.text


def test_the_token_that_a_template_puts_behind_answers_ends_them(
    model: llorch.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = model.chat(HELLO, temperature=0).token_ids
    end_id = next(i for i in ids[1:] if i != ids[0])
    template = SimpleNamespace(end_id=end_id, prompt_ids=model._chat_template.prompt_ids)
    monkeypatch.setitem(model.__dict__, "_chat_template", template)
    answer = model.chat(HELLO, temperature=0)
    assert (answer.token_ids, answer.finish_reason) == (ids[: ids.index(end_id)], "stop")
    assert model.chat(HELLO, temperature=0, ignore_eos=True).token_ids == ids


@pytest.mark.parametrize(
    ("messages", "fault"),
    [
        ("hello", "messages: expected a list"),
        ([], "messages: expected a list"),
        ([{"role": "user"}], r"messages\[0\].content"),
        ([{"role": "nobody", "content": ""}], r"messages\[0\].role"),
    ],
)
def test_wrong_messages_are_named_when_the_call_is_made(
    model: llorch.Model, messages: Any, fault: str
) -> None:
    with pytest.raises(RequestError, match=fault):
        model.stream_chat(messages)


def test_prompts_side_by_side_have_the_results_that_they_have_alone(model: llorch.Model) -> None:
    prompts: list[str | list[int]] = [f"{name} was" for name in ("Lily", "Tom", "Ben", "Mia", "Sue")]
    prompts += [model.tokenizer.encode("Max and"), "The end of a long, long prompt " * 8]  # more than places
    together = model.generate_all(iter(prompts), max_tokens=20, seed=9, n_logprobs=1)
    for prompt, found in zip(prompts, together, strict=True):
        alone = model.generate(prompt, max_tokens=20, seed=9, n_logprobs=1)
        assert (found.text, found.token_ids, found.logprobs) == (alone.text, alone.token_ids, alone.logprobs)
    assert model.generate_all([]) == []


def test_one_wrong_prompt_refuses_all_and_a_failure_ends_all(
    model: llorch.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RequestError, match="prompt"):
        model.generate_all(["Lily", 5])  # type: ignore[list-item]
    begun: list[str] = []
    real = model._driver.events

    def events(request: Any) -> Any:
        begun.append(request.job_id)
        if len(begun) == 2:
            return failing()
        return real(request)

    monkeypatch.setattr(model._driver, "events", events)
    with pytest.raises(EngineStoppedError, match="gone"):
        model.generate_all(["Lily", "Tom", "Ben"], max_tokens=400, ignore_eos=True)
    monkeypatch.undo()
    assert begun
    assert model.generate("Once", max_tokens=1).token_ids
    assert not model._driver._mailboxes, "nothing is left of the others"


def failing() -> Generator[None]:
    """Events of a generation that fails before the first."""
    yield from map(fail, ["gone"])


def fail(reason: str) -> None:
    raise EngineStoppedError(reason)


def test_a_schema_a_grammar_an_expression_or_a_list_binds_the_answer(model: llorch.Model) -> None:
    pytest.importorskip("llguidance")
    assert 0 <= json.loads(model.generate("A number:", json_schema=SCHEMA, max_tokens=60).text)["n"] <= 99
    assert model.generate("Lily", grammar='root ::= " is" " here"').text == " is here"
    assert re.fullmatch("[abc]{2,3}", model.generate("Lily", regex="[abc]{2,3}").text)
    assert model.chat(HELLO, choice=("yes", "no")).text in ("yes", "no")
    assert "".join(model.stream("Lily", choice=["blue"])) == "blue"


@pytest.mark.parametrize(
    ("rules", "fault"),
    [
        ({"regex": "a", "choice": ["b"]}, "regex and choice exclude each other"),
        ({"regex": "("}, "regex: cannot be enforced"),
        ({"choice": "a"}, "choice: expected a list"),
        ({"grammar": 5}, "grammar: expected a GBNF grammar"),
        ({"json_schema": "x"}, "json_schema: cannot be enforced: a schema is an object"),
        ({"json_schema": {"type": "array", "uniqueItems": True}}, "uniqueItems"),
    ],
)
def test_wrong_rules_are_named(model: llorch.Model, rules: dict[str, Any], fault: str) -> None:
    pytest.importorskip("llguidance")
    with pytest.raises(RequestError, match=fault):
        model.generate("Lily", **rules)


def test_the_options_that_editors_know_are_those_there_are() -> None:
    sampling = {name for name in SamplingParams.__dataclass_fields__ if name in FIELDS}
    ends = {"max_tokens", "stop", "ignore_eos", "min_tokens", "stop_token_ids", "n_logprobs"}
    assert set(get_type_hints(Options)) == sampling | ends | set(NAMES)


def test_a_model_says_what_it_is(model: llorch.Model) -> None:
    assert repr(model) == f"<llorch.Model {model.name!r}, context of 512 tokens>"


def test_n_predict_minus_one_goes_on_to_the_end_of_the_context(real_model: Path) -> None:
    with llorch.load(real_model, threads=1, ctx_size=64, n_predict=-1) as model:
        answer = model.generate("Once upon a time", ignore_eos=True)
        assert len(answer.prompt_token_ids) + len(answer.token_ids) == 64
