"""The stories of the demo corpus are whole, different, and always the same."""

from __future__ import annotations

import re
from itertools import islice

import pytest

from tools.demo.corpus import Story, Teller, stories
from tools.demo.grammar import polish, split_choices

N_STORY = 2000


@pytest.fixture(scope="module")
def told() -> list[Story]:
    return list(stories(5, N_STORY))


def test_the_same_seed_tells_the_same_stories(told: list[Story]) -> None:
    assert list(stories(5, 50)) == told[:50]
    assert list(stories(6, 50)) != told[:50]


def test_no_story_is_told_twice_nor_one_already_seen(told: list[Story]) -> None:
    texts = [story.text for story in told]
    assert len(set(texts)) == N_STORY
    seen = set(texts)
    assert not set(texts) & {story.text for story in stories(5, 100, seen)}


def test_no_template_shows_through(told: list[Story]) -> None:
    for story in told:
        assert not re.search(r"[<>{}|]|  | [,.!?]|\b[Aa] [aeio]", story.text + story.request), story.text


def test_every_sentence_begins_with_a_capital(told: list[Story]) -> None:
    for story in told:
        assert not re.search(r"(?<!Mr)(?<!Mrs)[.!?] [a-z]|\n[a-z]|^[a-z]", story.text), story.text


def test_the_words_are_many_and_the_lengths_varied(told: list[Story]) -> None:
    words = [re.findall(r"[a-z']+", story.text.lower()) for story in told]
    lengths = sorted(map(len, words))
    assert len({word for story_words in words for word in story_words}) > 2300
    assert lengths[0] > 25
    assert lengths[N_STORY // 10] < 90
    assert lengths[-N_STORY // 10] > 140


def test_what_is_lost_is_what_is_found() -> None:
    teller = Teller(3)
    lost = (story.text for story in iter(teller.tell, None) if " could not find " in story.text)
    for text in islice(lost, 20):
        item = teller_item(text)
        assert item is None or text.count(item) >= 2, text


def teller_item(text: str) -> str | None:
    found = re.search(
        r"could not find (?:his|her) (?:bright |sky |pale )?\w+ ([\w -]+?)\. It was a gift", text
    )
    return found[1] if found else None


def test_choices_split_only_outside_brackets() -> None:
    assert split_choices("a|{b|c}|<d|e>") == ["a", "{b|c}", "<d|e>"]


@pytest.mark.parametrize(
    ("rough", "polished"),
    [
        ("a owl saw a unicorn .", "An owl saw a unicorn."),
        ('"stop!" he cried. "why?" asked an old mule.', '"Stop!" he cried. "Why?" asked an old mule.'),
        ("it was  mrs. Bell.", "It was mrs. Bell."),
    ],
)
def test_polish_mends_articles_and_capitals(rough: str, polished: str) -> None:
    assert polish(rough) == polished
