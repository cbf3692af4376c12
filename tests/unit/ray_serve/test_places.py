"""How many requests are let in."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from llorch.errors import QueueFullError
from llorch.ray_serve.places import Places


def test_each_owner_has_the_slots_and_a_line_of_its_own() -> None:
    places = Places(lambda: 2, 1, lambda: 0.0)
    with ExitStack() as held:
        for _ in range(3):
            held.enter_context(places.taken("one"))
        with pytest.raises(QueueFullError), places.taken("one"):
            pass
        with places.taken("two"):
            pass
    with places.taken("one"):
        pass


def test_the_time_to_come_back_grows_with_what_requests_take() -> None:
    now = [0.0]
    places = Places(lambda: 1, 0, lambda: now[0])
    for _ in range(50):
        with places.taken(""):
            now[0] += 10.0
    with places.taken(""), pytest.raises(QueueFullError) as refused, places.taken(""):
        pass
    assert 9 <= refused.value.retry_after_s <= 11


def test_one_request_is_let_in_where_no_replica_is_known() -> None:
    with Places(lambda: 0, 0, lambda: 0.0).taken(""):
        pass
