"""Requests on their way to replicas."""

from __future__ import annotations

from llorch.ray_serve.sent import FORGET_S, Sent


def test_a_request_counts_from_the_choice_of_its_replica_until_it_arrives() -> None:
    sent: Sent[str] = Sent(lambda: 0.0)
    for request_id in "abc":
        sent.note(request_id, "one")
    sent.note("d", "two")
    assert (sent.count("one"), sent.count("two"), sent.count("three")) == (3, 1, 0)
    sent.arrived("b")
    sent.arrived("never seen")
    assert (sent.count("one"), sent.count("two")) == (2, 1)


def test_a_request_that_was_sent_elsewhere_counts_there_only() -> None:
    sent: Sent[str] = Sent(lambda: 0.0)
    sent.note("a", "one")
    sent.note("a", "two")
    assert (sent.count("one"), sent.count("two")) == (0, 1)


def test_a_request_that_never_arrives_is_forgotten() -> None:
    now = [0.0]
    sent: Sent[str] = Sent(lambda: now[0])
    sent.note("a", "one")
    now[0] = FORGET_S / 2
    sent.note("b", "one")
    assert sent.count("one") == 2
    now[0] = FORGET_S
    assert sent.count("one") == 1
