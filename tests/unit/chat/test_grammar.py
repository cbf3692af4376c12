"""Grammars: every mask is right, documents end where they may, and bad schemas are refused in words."""

from __future__ import annotations

import dataclasses
import json
import sys
import threading
import time
from typing import Any

import numpy as np
import pytest

from llorch.chat.grammar import Grammars
from llorch.chat.structure import ModelStructure
from llorch.chat.template import ChatTemplate
from llorch.errors import ConstraintError, RequestError
from llorch.text.tokenizer import Tokenizer
from tests.support.constraints import allowed_ids, random_answer, real_tokenizer
from tests.support.naive_json import begins_object, is_object
from tests.support.vocabularies import make_tokenizer

PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "role": {"enum": ["admin", "user"]},
        "home": {"$ref": "#/$defs/home"},
    },
    "required": ["name", "age", "role", "home"],
    "additionalProperties": False,
    "$defs": {
        "home": {"type": "object", "properties": {"zip": {"type": "string", "pattern": "^[0-9]{5}$"}},
                 "required": ["zip"], "additionalProperties": False}
    },
}  # fmt: skip


@pytest.fixture
def tokenizer() -> Tokenizer:
    return real_tokenizer("stories260K-q8_0.gguf")


@pytest.mark.parametrize("seed", range(6))
def test_every_mask_holds_just_the_tokens_that_the_slow_twin_lets_pass(
    tokenizer: Tokenizer, seed: int
) -> None:
    """Token by token: also bytes of characters, and ends of generations only behind the last bracket."""
    vocab = tokenizer.vocab
    pieces = [b"" if vocab.is_control(i) else tokenizer.token_bytes(i) for i in range(vocab.n_vocab)]
    constraint = Grammars(tokenizer).json_object()()
    rng = np.random.default_rng(seed)
    text = b""
    for _ in range(40):
        ids = allowed_ids(constraint, vocab.n_vocab)
        expected = {i for i, piece in enumerate(pieces) if piece and _may_follow(text, piece)}
        if is_object(text.removeprefix(b" ")):
            expected |= vocab.eog_ids
        assert set(ids) == expected, text
        # Quotes, brackets and commas often, or the text would hardly ever leave its first string.
        marks = [i for i in ids if pieces[i].strip() in (b'"', b":", b",", b"{", b"}", b"[", b"]")]
        chosen = int(rng.choice(marks if marks and rng.random() < 0.5 else ids))
        if chosen in vocab.eog_ids:
            return
        constraint.accept(chosen)
        text += pieces[chosen]


def _may_follow(text: bytes, piece: bytes) -> bool:
    """A space may stand in front of the text, where the vocabulary spells first words with one."""
    return begins_object((text + piece).removeprefix(b" "))


def test_random_answers_satisfy_their_schema(tokenizer: Tokenizer) -> None:
    make = Grammars(tokenizer).json_schema(PERSON, field="schema")
    rng = np.random.default_rng(5)
    for _ in range(20):
        check_person(random_answer(make(), tokenizer, rng))


def check_person(text: str) -> None:
    person = json.loads(text)
    assert list(person) == ["name", "age", "role", "home"]
    assert len(person["name"]) <= 12
    assert 0 <= person["age"] <= 150
    assert person["role"] in ("admin", "user")
    assert len(person["home"]["zip"]) == 5
    assert person["home"]["zip"].isdecimal()


def test_constraints_of_one_grammar_do_not_disturb_one_another(
    tokenizer: Tokenizer,
) -> None:
    make = Grammars(tokenizer).json_object()
    first, second = make(), make()
    begin = allowed_ids(second, 512)
    first.accept(begin[-1])
    assert allowed_ids(second, 512) == begin
    assert allowed_ids(make(), 512) == begin
    assert allowed_ids(first, 512) != begin


def test_threads_that_ask_at_once_prepare_the_vocabulary_once(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    import llorch.chat.grammar as grammar

    prepared = []
    prepare = grammar._prepare

    def counted(tokenizer: Tokenizer, field: str) -> Any:
        prepared.append(1)
        return prepare(tokenizer, field)

    monkeypatch.setattr(grammar, "_prepare", counted)
    grammars = Grammars(tokenizer)
    threads = [threading.Thread(target=grammars.json_object) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert prepared == [1]


def test_a_token_that_was_not_allowed_is_an_error(tokenizer: Tokenizer) -> None:
    constraint = Grammars(tokenizer).json_object()()
    with pytest.raises(ConstraintError, match="cannot go on"):
        constraint.accept(tokenizer.encode("hello", add_bos=False)[-1])


def test_a_loaded_model_has_its_grammars_prepared_if_there_can_be_some(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tokenizer = make_tokenizer()
    template = ChatTemplate("", tokenizer, "none")
    assert ModelStructure(tokenizer, template).grammars._prepared is not None
    monkeypatch.setitem(sys.modules, "llguidance", None)
    assert ModelStructure(tokenizer, template).grammars._prepared is None


def test_without_the_extra_the_refusal_says_how_to_get_it(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(RequestError, match=r'pip install "llorch\[grammar\]"') as refused:
        Grammars(tokenizer).json_object("response_format")
    assert refused.value.errors[0].field == "response_format"


def test_keywords_that_no_grammar_enforces_are_refused_unless_it_is_lenient(
    tokenizer: Tokenizer,
) -> None:
    grammars = Grammars(tokenizer)
    schema = {"type": "array", "items": {"type": "integer"}, "uniqueItems": True}
    with pytest.raises(RequestError, match="uniqueItems"):
        grammars.json_schema(schema, field="schema")
    grammars.json_schema(schema, field="schema", is_lenient=True)


def test_a_schema_cannot_change_the_options_of_the_compiler(tokenizer: Tokenizer) -> None:
    schema = {"type": "object", "x-guidance": {"whitespace_pattern": "x*", "item_separator": ";"}}
    make = Grammars(tokenizer).json_schema(schema, field="schema")
    json.loads(random_answer(make(), tokenizer, np.random.default_rng(1)))


def test_a_grammar_that_comes_again_is_not_compiled_again(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    import llorch.chat.grammar as grammar

    grammars = Grammars(tokenizer)
    schemas = [{"type": "string", "maxLength": n} for n in range(grammar._N_KEPT + 1)]
    grammars.json_schema(schemas[1], field="schema")
    compiled = []
    compile_rules = grammar._compiled

    def counted(prepared: Any, rules: Any) -> Any:
        compiled.append(rules)
        return compile_rules(prepared, rules)

    monkeypatch.setattr(grammar, "_compiled", counted)
    grammars.json_schema(schemas[1], field="schema")
    assert compiled == []
    for schema in schemas:
        grammars.json_schema(schema, field="schema")
    assert len(grammars._kept) == grammar._N_KEPT


def test_tokens_that_are_too_long_for_the_compiler_are_never_allowed() -> None:
    tokenizer = make_tokenizer(["a" * 200, "b" * 5000])
    ids = allowed_ids(
        Grammars(tokenizer).json_schema({"type": "string", "minLength": 9}, field="schema")(), 261
    )
    constraint = Grammars(tokenizer).json_schema({"type": "string"}, field="schema")()
    constraint.accept(next(i for i in ids if tokenizer.token_bytes(i) == b'"'))
    ids = allowed_ids(constraint, 261)
    assert (259 in ids, 260 in ids) == (True, False)


def test_a_panic_of_the_compiler_is_an_error_like_others() -> None:
    from llguidance import LLTokenizer, TokenizerWrapper

    import llorch.chat.grammar as grammar

    vocabulary = grammar._Bytes(make_tokenizer(["b" * 5000]))
    vocabulary.tokens[-1] = b"b" * 5000
    with pytest.raises(ConstraintError, match="failed"), grammar._no_panic():
        LLTokenizer(TokenizerWrapper(vocabulary), eos_token=[2])


def test_a_model_without_an_end_token_is_refused() -> None:
    tokenizer = make_tokenizer(["a"])
    tokenizer.vocab = dataclasses.replace(tokenizer.vocab, eog_ids=frozenset())
    with pytest.raises(RequestError, match="no token that ends a text"):
        Grammars(tokenizer).json_object()


@pytest.mark.parametrize("name", ["ggml-vocab-llama-spm.gguf", "ggml-vocab-llama-bpe.gguf"])
def test_a_mask_costs_less_than_a_millisecond(name: str) -> None:
    """Of CPU time, on the mean of answers of random tokens; 32,000 and 128,000 tokens, measured: 0.1 ms."""
    tokenizer = real_tokenizer(name)
    make = Grammars(tokenizer).json_schema(PERSON, field="schema")
    rng = np.random.default_rng(7)
    costs_s = []
    for _ in range(6):
        constraint, token_ids = make(), list[int]()
        while True:
            begun_s = time.thread_time()
            mask = constraint.allowed()
            costs_s.append(time.thread_time() - begun_s)
            ids = np.unpackbits(mask.view(np.uint8), bitorder="little").nonzero()[0]
            if np.isin(ids, list(tokenizer.vocab.eog_ids)).any():
                break
            token_ids.append(int(rng.choice(ids)))
            begun_s = time.thread_time()
            constraint.accept(token_ids[-1])
            costs_s[-1] += time.thread_time() - begun_s
        check_person(tokenizer.decode(token_ids))
    print(f"{name}: {1e3 * np.mean(costs_s):.3f} ms a step, {len(costs_s)} steps")
    assert np.mean(costs_s) < 1e-3
