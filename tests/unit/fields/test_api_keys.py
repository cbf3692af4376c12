"""Whose an API key is."""

from __future__ import annotations

from llorch.fields.api_keys import owners_by_key


def test_a_key_belongs_to_the_name_in_front_of_it_and_one_name_may_have_several() -> None:
    owners = owners_by_key("alice: one\nbob@home:  two:2\nalice: three")
    assert owners == {b"one": "alice", b"two:2": "bob@home", b"three": "alice"}


def test_a_key_without_a_name_is_known_by_a_digest_that_does_not_depend_on_its_place() -> None:
    owners = owners_by_key("sesame\nöffne dich")
    assert owners_by_key("öffne dich\nsesame") == owners
    assert set(owners) == {b"sesame", "öffne dich".encode()}
    assert len(set(owners.values())) == 2
    assert all(owner.startswith("key-") and "sesame" not in owner for owner in owners.values())


def test_a_colon_without_a_blank_belongs_to_the_key() -> None:
    assert set(owners_by_key("sk:one\n:x\na b: c")) == {b"sk:one", b":x", b"a b: c"}
