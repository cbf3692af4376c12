"""Sequence breakers in a vocabulary: tokens that hold one, and tokens in which one begins."""

from __future__ import annotations

import threading

from llorch.engine.breakers import BreakerFinder
from tests.support.vocabularies import make_bpe, make_tokenizer

TOKENIZER = make_bpe(["a n", "an d", "x an", "b \u010a"])
N_VOCAB = TOKENIZER.vocab.n_vocab


def token(piece: str) -> int:
    return TOKENIZER.vocab.tokens.index(piece.encode())


def test_tokens_that_hold_a_breaker_and_tokens_that_begin_one() -> None:
    breakers = BreakerFinder(TOKENIZER, N_VOCAB).find(("\n", "and"))
    assert breakers.tails == {
        token("\u010a"): {()},
        token("b\u010a"): {()},
        token("and"): {()},
        token("a"): {(token("n"), token("d"))},
        token("an"): {(token("d"),)},
        token("xan"): {(token("d"),)},
    }
    assert breakers.is_head.sum() == 6
    assert breakers.is_head[token("xan")]
    assert breakers.is_whole(token("and"))
    assert not breakers.is_whole(token("an"))
    assert not breakers.is_whole(token("x"))


def test_control_tokens_are_looked_at_as_they_are_spelled() -> None:
    tokenizer = make_tokenizer(["\u2581a"])
    breakers = BreakerFinder(tokenizer, tokenizer.vocab.n_vocab).find(("</s>",))
    assert () in breakers.tails[tokenizer.vocab.tokens.index(b"</s>")]


def test_what_was_found_is_kept_and_threads_may_share_it() -> None:
    finder, found = BreakerFinder(TOKENIZER, N_VOCAB), []
    threads = [threading.Thread(target=lambda: found.append(finder.find(("x",)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(breakers is found[0] for breakers in found)
    for i in range(20):
        finder.find((str(i),))
    assert finder.find(("x",)) is not found[0]


def test_no_breakers_are_fine() -> None:
    assert not BreakerFinder(TOKENIZER, N_VOCAB).find(()).tails
