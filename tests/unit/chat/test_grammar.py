"""Grammars: every mask is right, documents end where they may, and bad schemas are refused in words."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llorch.chat.grammar import GrammarConstraint, Grammars
from llorch.errors import ConstraintError, RequestError
from llorch.model_files import open_source
from llorch.text.tokenizer import Tokenizer, load_tokenizer
from tests.support.naive_json import begins_object, is_object

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
VOCABULARIES = ["stories260K-q8_0.gguf", "ggml-vocab-llama-spm.gguf", "ggml-vocab-llama-bpe.gguf"]


@pytest.fixture(scope="module")
def tokenizer_of(model_path: Callable[[str], Path]) -> Callable[[str], Tokenizer]:
    def load(name: str) -> Tokenizer:
        with open_source(model_path(name)) as source:
            return load_tokenizer(source.metadata)

    return load


def allowed_ids(constraint: GrammarConstraint, n_vocab: int) -> list[int]:
    bits = np.unpackbits(constraint.allowed().view(np.uint8), bitorder="little")
    assert not bits[n_vocab:].any()
    found: list[int] = bits.nonzero()[0].tolist()
    return found


def written(constraint: GrammarConstraint, tokenizer: Tokenizer, rng: np.random.Generator) -> str:
    """What tokens chosen at random among the allowed ones spell; ends where the text may end."""
    n_vocab = tokenizer.vocab.n_vocab
    ends = {i for i in range(n_vocab) if tokenizer.token_bytes(i).strip() in (b'"', b"]", b"}", b'",', b'"}')}
    token_ids: list[int] = []
    for _ in range(2000):
        ids = allowed_ids(constraint, n_vocab)
        if tokenizer.vocab.eog_ids.intersection(ids):
            return tokenizer.decode(token_ids, prompt_ids=(ord("a"),))
        # Quotes and brackets often, or strings and arrays would hardly ever end.
        closing = sorted(ends.intersection(ids))
        token_ids.append(int(rng.choice(closing if closing and rng.random() < 0.5 else ids)))
        constraint.accept(token_ids[-1])
    pytest.fail("the text does not end")


@pytest.mark.parametrize("seed", range(6))
def test_every_mask_holds_just_the_tokens_that_the_slow_twin_lets_pass(
    tokenizer_of: Callable[[str], Tokenizer], seed: int
) -> None:
    """Token by token: also bytes of characters, and ends of generations only behind the last bracket."""
    tokenizer = tokenizer_of("stories260K-q8_0.gguf")
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


@pytest.mark.parametrize("name", VOCABULARIES)
def test_random_answers_satisfy_their_schema_in_every_kind_of_vocabulary(
    tokenizer_of: Callable[[str], Tokenizer], name: str
) -> None:
    tokenizer = tokenizer_of(name)
    make = Grammars(tokenizer).json_schema(PERSON, field="schema")
    rng = np.random.default_rng(5)
    for _ in range(5):
        person = json.loads(written(make(), tokenizer, rng))
        assert list(person) == ["name", "age", "role", "home"]
        assert len(person["name"]) <= 12
        assert 0 <= person["age"] <= 150
        assert person["role"] in ("admin", "user")
        assert len(person["home"]["zip"]) == 5
        assert person["home"]["zip"].isdecimal()


def test_constraints_of_one_grammar_do_not_disturb_one_another(
    tokenizer_of: Callable[[str], Tokenizer],
) -> None:
    tokenizer = tokenizer_of("stories260K-q8_0.gguf")
    make = Grammars(tokenizer).json_object()
    first, second = make(), make()
    begin = allowed_ids(second, 512)
    first.accept(begin[-1])
    assert allowed_ids(second, 512) == begin
    assert allowed_ids(make(), 512) == begin
    assert allowed_ids(first, 512) != begin


def test_threads_that_ask_at_once_prepare_the_vocabulary_once(
    tokenizer_of: Callable[[str], Tokenizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    import llorch.chat.grammar as grammar

    prepared = []
    prepare = grammar._prepare
    monkeypatch.setattr(grammar, "_prepare", lambda *args: prepared.append(1) or prepare(*args))
    grammars = Grammars(tokenizer_of("stories260K-q8_0.gguf"))
    threads = [threading.Thread(target=grammars.json_object) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert prepared == [1]


def test_a_token_that_was_not_allowed_is_an_error(tokenizer_of: Callable[[str], Tokenizer]) -> None:
    tokenizer = tokenizer_of("stories260K-q8_0.gguf")
    constraint = Grammars(tokenizer).json_object()()
    with pytest.raises(ConstraintError, match="cannot go on"):
        constraint.accept(tokenizer.encode("hello", add_bos=False)[-1])


def test_without_the_extra_the_refusal_says_how_to_get_it(
    tokenizer_of: Callable[[str], Tokenizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(RequestError, match=r'pip install "llorch\[grammar\]"') as refused:
        Grammars(tokenizer_of("stories260K-q8_0.gguf")).json_object("response_format")
    assert refused.value.errors[0].field == "response_format"


def test_keywords_that_no_grammar_enforces_are_refused_unless_it_is_lenient(
    tokenizer_of: Callable[[str], Tokenizer],
) -> None:
    grammars = Grammars(tokenizer_of("stories260K-q8_0.gguf"))
    schema = {"type": "array", "items": {"type": "integer"}, "uniqueItems": True}
    with pytest.raises(RequestError, match="uniqueItems"):
        grammars.json_schema(schema, field="schema")
    grammars.json_schema(schema, field="schema", is_lenient=True)


def test_a_schema_cannot_change_the_options_of_the_compiler(tokenizer_of: Callable[[str], Tokenizer]) -> None:
    tokenizer = tokenizer_of("stories260K-q8_0.gguf")
    schema = {"type": "object", "x-guidance": {"whitespace_pattern": "x*", "item_separator": ";"}}
    make = Grammars(tokenizer).json_schema(schema, field="schema")
    json.loads(written(make(), tokenizer, np.random.default_rng(1)))
