"""JSON of untrusted files."""

from __future__ import annotations

from pathlib import Path

import pytest

from llorch.errors import ModelError
from llorch.formats.json_file import parse_json, read_json


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b" \n", "config.json: is empty"),
        (b"{", "is not JSON"),
        (b'\xef\xbb\xbf{"a": 1}', "is not JSON"),
        ('{"a": 1}'.encode("utf-16"), "is not JSON"),
        (b'{"a": [' + b"[]," * (1 << 23) + b"[]]}", "values; at most 8388608 are read"),
        (b"\xff\xfe", "is not JSON"),
        (b"[1]", "holds no JSON object"),
        (b'{"a": NaN}', "NaN is no number"),
        (b'{"a": {"b": 1, "b": 2}}', "'b' stands twice"),
        (b'{"a": ' + b"[" * 100_000, "nested too deeply|is not JSON"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "is not JSON"),
    ],
)
def test_what_is_no_plain_object_is_refused(raw: bytes, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        parse_json(raw, "config.json")


def test_a_file_that_is_missing_a_directory_or_too_large_is_refused(tmp_path: Path) -> None:
    large = tmp_path / "large.json"
    large.write_bytes(b" " * 101)
    for path, said in (
        (tmp_path / "none", "No such file"),
        (tmp_path, "no regular file"),
        (large, "at most 100"),
    ):
        with pytest.raises(ModelError, match=said):
            read_json(path, 100)
