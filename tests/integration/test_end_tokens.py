"""Every token that ends a text, a turn or a message ends a generation, and is no part of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import llorch
from llorch.text.vocab import TokenType
from tests.support.bpe_models import write_bpe_llama

SPECIAL = ("<eos>", "turn", "message", "<|im_end|>", "<|eot_id|>", "<|endoftext|>", "<|no_end|>")
FIRST_ID = 257  # behind 256 bytes and what the one merge makes
ENDS = {name: FIRST_ID + i for i, name in enumerate(SPECIAL[:-1])}
NO_END = FIRST_ID + len(SPECIAL) - 1


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "bpe.gguf"
    special = [(text, TokenType.CONTROL) for text in SPECIAL]
    write_bpe_llama(path, special, eot_token_id=ENDS["turn"], eom_token_id=ENDS["message"])
    return path


@pytest.fixture(scope="module")
def model(path: Path) -> Iterator[llorch.Model]:
    with llorch.load(path, threads=1) as model:
        yield model


def test_the_ends_are_those_of_the_keys_and_of_the_texts(model: llorch.Model) -> None:
    assert model.tokenizer.vocab.eog_ids == set(ENDS.values())


@pytest.mark.parametrize("end", ENDS)
def test_a_generation_ends_at_each_of_them(model: llorch.Model, end: str) -> None:
    result = model.generate("ab", logit_bias={ENDS[end]: 100.0}, seed=1)
    assert (result.token_ids, result.text, result.finish_reason) == ((), "", "stop")
    assert list(model.stream("ab", logit_bias={ENDS[end]: 100.0}, seed=1)) == []


@pytest.mark.parametrize("end", ENDS)
def test_what_came_before_the_end_is_the_result(model: llorch.Model, end: str) -> None:
    bias = dict.fromkeys(ENDS.values(), -100.0) | {ENDS[end]: 4.0}
    sampling: dict[str, Any] = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
    results = [
        model.generate("ab", logit_bias=bias, max_tokens=100, seed=seed, **sampling) for seed in range(12)
    ]
    assert any(result.token_ids and result.finish_reason == "stop" for result in results)
    for result in results:
        assert not set(ENDS.values()) & set(result.token_ids)
        assert result.text == model.tokenizer.decode(result.token_ids, prompt_ids=result.prompt_token_ids)


def test_ignored_none_of_them_is_chosen(model: llorch.Model) -> None:
    bias = dict.fromkeys(ENDS.values(), 4.0)
    result = model.generate("ab", logit_bias=bias, ignore_eos=True, max_tokens=40, seed=3)
    assert (len(result.token_ids), result.finish_reason) == (40, "length")
    assert not set(ENDS.values()) & set(result.token_ids)


def test_another_control_token_is_no_end(model: llorch.Model) -> None:
    result = model.generate("ab", logit_bias={NO_END: 100.0}, max_tokens=3, temperature=0)
    assert (result.token_ids, result.text) == ((NO_END,) * 3, "")
