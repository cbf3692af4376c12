"""Records are read strictly, and every fault is one line that names file, key, value and what was expected."""

from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llorch.errors import ReferenceDumpError, shown
from llorch.validation.records import ArrayFile, Figure, Record, parse_record, read_record


class Inner(Record, extra="forbid"):
    n: int


class Outer(Record):
    text: str
    figures: tuple[Figure, ...] = ()
    inner: dict[str, Inner] = {}  # noqa: RUF012


@pytest.mark.parametrize(
    ("document", "fault"),
    [
        ({}, "f: text is missing"),
        ({"text": 1}, "f: text is 1, expected a valid string"),
        ({"text": "x" * 99 + "\n", "inner": 3}, "f: inner is 3, expected an object"),
        ({"text": "", "figures": 2.0}, "f: figures is 2.0, expected a valid array"),
        ({"text": "", "inner": {"a": {"n": True}}}, "f: inner: a: n is True, expected a valid integer"),
        ({"text": "", "inner": {"a": {"n": "1"}}}, "f: inner: a: n is '1', expected a valid integer"),
        ({"text": "", "inner": {"a": {"n": 1, "m": 2}}}, "f: inner: a: m is not a known key"),
        ([1], "f holds [1], expected an object"),
        (None, "f holds None, expected an object"),
    ],
)
def test_a_fault_names_key_value_and_expectation(document: Any, fault: str) -> None:
    with pytest.raises(ReferenceDumpError) as raised:
        parse_record(Outer, json.dumps(document).encode(), "f")
    assert str(raised.value) == fault


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b'{"text": "\xff"}'])
def test_what_is_no_json_is_one_short_line(content: bytes) -> None:
    with pytest.raises(ReferenceDumpError, match=r"^f is no JSON: ") as raised:
        parse_record(Outer, content, "f")
    assert len(str(raised.value)) < 200
    assert "\n" not in str(raised.value)


def test_figures_beyond_json_are_written_as_strings_and_read_back() -> None:
    figures = (1.5, math.inf, -math.inf)
    written = Outer(text="", figures=figures).model_dump(mode="json")
    assert written["figures"] == [1.5, "inf", "-inf"]
    content = json.dumps(written, allow_nan=False).encode()
    assert parse_record(Outer, content, "f").figures == figures


def test_a_file_that_is_too_large_or_absent_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"text": "' + "x" * (1 << 20) + '"}')
    with pytest.raises(ReferenceDumpError, match="is larger than 1 MiB"):
        read_record(Outer, tmp_path / "a.json", 1 << 20)
    with pytest.raises(ReferenceDumpError, match="cannot be read: No such file"):
        read_record(Outer, tmp_path / "b.json", 1 << 20)


def test_a_damaged_array_file_is_one_clear_error_wherever_a_bit_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=np.arange(50, dtype=np.float32))
    right = path.read_bytes()
    for at in range(len(right)):
        path.write_bytes(right[:at] + bytes([right[at] ^ 0x55]) + right[at + 1 :])
        with contextlib.suppress(ReferenceDumpError):
            assert np.array_equal(ArrayFile(path).read("x"), np.arange(50, dtype=np.float32))


def test_values_are_shown_in_60_characters() -> None:
    assert shown("a\nb") == "'a\\nb'"
    assert shown(list(range(100))) == "[0, 1, 2, 3, 4, 5, 6, 7, ...]"
    assert shown("x" * 100) == "'" + "x" * 56 + "..."
