"""Which replica has read which beginning."""

from __future__ import annotations

from llorch.ray_serve.holders import Holders


def test_the_replica_that_read_most_of_the_text_is_found() -> None:
    holders: Holders[str] = Holders()
    holders.record([b"1", b"2"], "one")
    holders.record([b"1"], "two")
    assert holders.find([b"1", b"2", b"3"], {"one", "two"}) == "one"
    assert holders.find([b"1", b"x"], {"one", "two"}) == "two"
    assert holders.find([b"x"], {"one", "two"}) is None


def test_only_replicas_that_may_be_chosen_are_found() -> None:
    holders: Holders[str] = Holders()
    holders.record([b"1"], "two")
    holders.record([b"1", b"2"], "one")
    assert holders.find([b"1", b"2"], {"two"}) is None
    assert holders.find([b"1", b"2"], {"one"}) == "one"


def test_what_was_not_used_for_longest_is_forgotten_first() -> None:
    holders: Holders[str] = Holders(max_keys=2)
    for key in (b"1", b"2", b"1", b"3"):
        holders.record([key], "one")
    assert [holders.find([key], {"one"}) for key in (b"1", b"2", b"3")] == ["one", None, "one"]
