"""One value, one spelling."""

from __future__ import annotations

import json
import math

import pytest

from llorch.receipts.canonical import canonical, sha256_of


def test_keys_are_sorted_and_nothing_is_between_them() -> None:
    assert canonical({"b": [1, None, True], "a": "é\n"}) == '{"a":"é\\n","b":[1,null,true]}'.encode()


def test_whole_numbers_are_spelled_alike_whoever_wrote_them() -> None:
    assert (
        canonical({"x": [1.0, -0.0, 2.5]})
        == canonical(json.loads('{"x": [1, 0, 2.50]}'))
        == b'{"x":[1,0,2.5]}'
    )


def test_the_hash_is_what_other_programs_compute_of_that_spelling() -> None:
    # printf '[1,2]' | sha256sum
    assert sha256_of([1, 2]) == "49a64717d5d4cb19952e6eac2946415cf6879adacf9908e7d872332d32c6e684"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_json_cannot_say_is_no_value(value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical([value])
