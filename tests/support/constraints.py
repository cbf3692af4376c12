"""Constraints as tests use them: which tokens they allow, and what tokens chosen at random spell."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from llorch.chat.grammar import GrammarConstraint
from llorch.formats.source import open_source
from llorch.text.tokenizer import Tokenizer, load_tokenizer
from tests.conftest import test_models_dir


@cache
def real_tokenizer(name: str) -> Tokenizer:
    """The tokenizer of a test model."""
    path = test_models_dir() / name
    if not path.exists():
        pytest.skip(f"{name} is not among the test models in {path.parent}")
    source = open_source(path)
    try:
        return load_tokenizer(source.metadata)
    finally:
        source.close()


def allowed_ids(constraint: GrammarConstraint, n_vocab: int) -> list[int]:
    """The tokens that may come next; none beyond the vocabulary."""
    bits = np.unpackbits(constraint.allowed().view(np.uint8), bitorder="little")
    assert not bits[n_vocab:].any()
    found: list[int] = bits.nonzero()[0].tolist()
    return found


def fault_of(constraint: GrammarConstraint, tokenizer: Tokenizer, text: str) -> str | None:
    """What keeps `text` from being a whole answer: the text up to the token that is not allowed; None if nothing."""
    token_ids = tokenizer.encode(text, add_bos=False, parse_special=True)
    for i, token_id in enumerate(token_ids):
        if token_id not in allowed_ids(constraint, tokenizer.vocab.n_vocab):
            return tokenizer.decode(token_ids[: i + 1], special=True)
        constraint.accept(token_id)
    may_end = tokenizer.vocab.eog_ids.issubset(allowed_ids(constraint, tokenizer.vocab.n_vocab))
    return None if may_end else text


def is_whole(constraint: GrammarConstraint, tokenizer: Tokenizer, text: str) -> bool:
    """Whether `text`, to the letter, is a whole answer. Each token is the longest one that the rest begins with."""
    rest = text.encode()
    while rest:
        allowed = allowed_ids(constraint, tokenizer.vocab.n_vocab)
        lengths = range(1, min(len(rest), 16) + 1)
        n, token_id = max((n, i) for n in lengths for i in _ids_of(tokenizer).get(rest[:n], ()))
        if token_id not in allowed:
            return False
        constraint.accept(token_id)
        rest = rest[n:]
    return tokenizer.vocab.eog_ids.issubset(allowed_ids(constraint, tokenizer.vocab.n_vocab))


@cache
def _ids_of(tokenizer: Tokenizer) -> dict[bytes, list[int]]:
    """The visible tokens by what they spell."""
    found: dict[bytes, list[int]] = {}
    for i in range(tokenizer.vocab.n_vocab):
        if not tokenizer.vocab.is_control(i):
            found.setdefault(tokenizer.token_bytes(i), []).append(i)
    return found


@cache
def _closing_ids(tokenizer: Tokenizer) -> frozenset[int]:
    closing = (b'"', b"]", b"}", b'",', b'"}')
    return frozenset(i for i in range(tokenizer.vocab.n_vocab) if tokenizer.token_bytes(i).strip() in closing)


def random_answer(constraint: GrammarConstraint, tokenizer: Tokenizer, rng: np.random.Generator) -> str:
    """What tokens chosen at random among the allowed ones spell; it ends where it may."""
    n_vocab = tokenizer.vocab.n_vocab
    ends = _closing_ids(tokenizer)
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
