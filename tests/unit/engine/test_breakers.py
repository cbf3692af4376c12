"""Sequence breakers in a vocabulary: tokens that hold one, and tokens in which one begins."""

from __future__ import annotations

import threading

import pytest

from llorch.engine.breakers import BreakerFinder
from llorch.engine.dry import Breakers
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


def test_what_is_known_does_not_wait_for_a_look_at_the_vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    finder = BreakerFinder(TOKENIZER, N_VOCAB)
    known = finder.find(("x",))
    look, has_begun, may_end = BreakerFinder._look, threading.Event(), threading.Event()

    def slow(self: BreakerFinder, strings: tuple[str, ...]) -> Breakers:
        has_begun.set()
        assert may_end.wait(60)
        return look(self, strings)

    monkeypatch.setattr(BreakerFinder, "_look", slow)
    slow_one = threading.Thread(target=finder.find, args=(("y",),))
    slow_one.start()
    assert has_begun.wait(60)
    found: list[Breakers] = []
    quick_one = threading.Thread(target=lambda: found.append(finder.find(("x",))))
    quick_one.start()
    for _ in range(100):  # turns, not seconds: this process may be paused
        quick_one.join(0.1)
        if not quick_one.is_alive():
            break
    has_waited = quick_one.is_alive()
    may_end.set()
    for thread in (slow_one, quick_one):
        thread.join(60)
    assert not has_waited
    assert found == [known]


def test_no_breakers_are_fine() -> None:
    assert not BreakerFinder(TOKENIZER, N_VOCAB).find(()).tails
