"""GBNF's tokens: `<think>`, `<[5]>` and `!<think>` stand for tokens of the vocabulary, not for their texts."""

from __future__ import annotations

import re

import pytest

from llorch.chat.grammar import Grammars
from llorch.chat.text_rule import TextRule
from llorch.errors import RequestError
from tests.support.chat import chat_tokenizer
from tests.support.constraints import allowed_ids

TOKENIZER = chat_tokenizer()
VOCAB = TOKENIZER.vocab
THINK, THOUGHT, USER, START = (
    VOCAB.tokens.index(text) for text in (b"<think>", b"</think>", b"<|user|>", b"<|im_start|>")
)
HI = VOCAB.tokens.index(b"Hi")
ENDS = VOCAB.eog_ids
NEGATED = set(range(VOCAB.n_vocab)) - ENDS
README = "root ::= <think> thinking </think> .*\nthinking ::= !</think>*"
"""llama.cpp's example."""


def byte(char: str) -> int:
    return VOCAB.tokens.index(f"<0x{ord(char):02X}>".encode())


def allowed_behind(grammar: str, *token_ids: int) -> set[int]:
    """What may come behind these tokens, each of which is allowed where it stands."""
    constraint = TextRule("grammar", grammar, "grammar").constraint(Grammars(TOKENIZER))()
    for token_id in token_ids:
        assert token_id in allowed_ids(constraint, VOCAB.n_vocab)
        constraint.accept(token_id)
    return set(allowed_ids(constraint, VOCAB.n_vocab))


def test_a_block_of_thoughts_is_delimited_by_tokens() -> None:
    assert allowed_behind(README) == {THINK}
    assert allowed_behind(README, THINK) == NEGATED
    assert allowed_behind(README, THINK, HI, USER, THINK) == NEGATED
    behind = allowed_behind(README, THINK, HI, THOUGHT)
    assert {HI, byte("x"), *ENDS} <= behind
    assert not behind & {USER, START}  # of texts there are no control tokens


def test_numbers_and_names_are_the_same_tokens() -> None:
    numbered = README.replace("</think>", f"<[{THOUGHT}]>").replace("<think>", f"<[{THINK}]>")
    for ids in ((), (THINK,), (THINK, HI), (THINK, THOUGHT), (THINK, HI, THOUGHT, HI)):
        assert allowed_behind(numbered, *ids) == allowed_behind(README, *ids)


def test_a_token_is_not_its_text_spelt_by_others() -> None:
    assert allowed_behind(f"root ::= <[{HI}]>") == {HI}
    assert allowed_behind(f"root ::= <[{HI}]>", HI) == ENDS
    assert allowed_behind('root ::= "Hi"') == {HI, byte("H")}
    assert allowed_behind("root ::= <think>") == {THINK}


def test_tokens_are_repeated_grouped_and_chosen_like_anything_else() -> None:
    grammar = "root ::= (<think> | <|user|>){2} [a-z]+ (</think> root)?"
    assert allowed_behind(grammar) == {THINK, USER}
    assert allowed_behind(grammar, THINK) == {THINK, USER}
    text = allowed_behind(grammar, USER, THINK)
    assert byte("a") in text
    assert not text & {THINK, USER, THOUGHT, *ENDS}
    assert {THOUGHT, byte("b"), *ENDS} <= allowed_behind(grammar, USER, THINK, byte("a"))
    assert allowed_behind(grammar, USER, THINK, byte("a"), THOUGHT) == {THINK, USER}
    assert allowed_behind("root ::= <think>*") == {THINK, *ENDS}
    assert allowed_behind("root ::= x\nx ::= <think> x | <|user|>", THINK, THINK) == {THINK, USER}


def test_what_follows_a_token_is_read_to_the_letter_where_runs_overlap() -> None:
    grammar = 'root ::= <think> [a-z]* "ing"'
    behind = allowed_behind(grammar, THINK, *map(byte, "inking"))
    assert behind > ENDS
    assert byte("i") in behind


def test_an_answer_never_has_a_token_that_ends_it() -> None:
    for name in ("</s>", "<|im_end|>"):
        assert allowed_behind(f"root ::= !{name}") == NEGATED
        with pytest.raises(RequestError, match="no such token that could stand in an answer"):
            allowed_behind(f"root ::= {name}")


@pytest.mark.parametrize(
    ("grammar", "words"),
    [
        ("root ::= <nothing>", "line 1, column 10: the vocabulary has no such token"),
        (f"root ::= <[{VOCAB.n_vocab}]>", "column 10: the vocabulary has no such token"),
        ("root ::= <[-1]>", "column 10: the vocabulary has no such token"),
        ("root ::= <[99999999999999999999]>", "column 10: the vocabulary has no such token"),
        ("root ::= <think", "column 10: expected a token"),
        ("root ::= <>", "column 10: expected a token"),
        ('root ::= !"a"', "column 10: expected a token"),
        ('root ::=\n  "a" ! <think>', "line 2, column 7: expected a token"),
        ("root ::= <" + "x" * 300 + ">", "column 10: expected a token"),
        ("root ::= <think>{0,2000}", "more than 200 repetitions"),
    ],
)
def test_what_is_no_token_is_refused_with_its_place(grammar: str, words: str) -> None:
    with pytest.raises(RequestError, match=re.escape(words)):
        allowed_behind(grammar)
