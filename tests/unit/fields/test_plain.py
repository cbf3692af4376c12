"""Values of Python callers as plain ones; what is of another kind stays as it is."""

from __future__ import annotations

from array import array
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from llorch.fields.plain import (
    plain_biases,
    plain_integer,
    plain_number,
    plain_prompt,
    plain_strings,
    plain_token_ids,
)


@pytest.mark.parametrize("value", [5, np.int8(5), np.uint64(5), np.int64(5)], ids=repr)
def test_integers_become_int(value: Any) -> None:
    assert (plain_integer(value), type(plain_integer(value))) == (5, int)


@pytest.mark.parametrize(
    "value", [True, 5.0, "5", None, np.True_, np.float32(5), np.timedelta64(5, "s")], ids=repr
)
def test_what_is_no_integer_stays(value: Any) -> None:
    assert plain_integer(value) is value


@pytest.mark.parametrize(
    "value", [0.5, np.float16(0.5), np.float64(0.5), Fraction(1, 2), Decimal("0.5")], ids=repr
)
def test_numbers_become_float(value: Any) -> None:
    assert (plain_number(value), type(plain_number(value))) == (0.5, float)


@pytest.mark.parametrize("value", [True, "1", None, 10**400, Decimal("sNaN"), 1j, np.array(1.0)], ids=str)
def test_what_is_no_number_stays(value: Any) -> None:
    assert plain_number(value) is value


@pytest.mark.parametrize(
    "value", [[1, 2], (1, 2), range(1, 3), np.array([1, 2], np.uint8), array("l", [1, 2])], ids=repr
)
def test_sequences_become_tuples_of_int(value: Any) -> None:
    ids = plain_token_ids(value)
    assert isinstance(ids, tuple)
    assert (ids, [type(i) for i in ids]) == ((1, 2), [int, int])
    assert plain_token_ids(ids) is ids


@pytest.mark.parametrize(
    "value",
    [b"ab", bytearray(b"a"), memoryview(b"a"), "ab", {1}, {1: 2}, np.eye(2), None],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_sequence_of_ids_stays(value: Any) -> None:
    assert plain_token_ids(value) is value
    assert plain_prompt("text") == "text"


def test_strings_and_biases() -> None:
    assert plain_strings(None) == ()
    assert plain_strings("ab") == ("ab",)
    assert plain_strings(["a", "b"]) == ("a", "b")
    assert plain_strings(b"ab") == b"ab"
    biases = plain_biases({np.int64(5): np.float32(0.5), True: 1, "a": "b"})
    assert biases == {5: 0.5, True: 1.0, "a": "b"}
    assert plain_biases([(5, 0.5)]) == [(5, 0.5)]
