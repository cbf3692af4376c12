"""Metadata written from Python values is read by the `gguf` package with llama.cpp's value types."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest

from llorch.convert.gguf_metadata import pair
from llorch.convert.gguf_writer import lay_out
from llorch.errors import InputError
from llorch.formats.gguf.file import GGUFFile
from llorch.formats.protocol import MetadataValue

VALUES: dict[str, tuple[MetadataValue, str]] = {
    "a.count": (32_000, "uint32"),
    "a.large.count": (2**32 - 1, "uint32"),
    "a.negative": (-1, "int32"),
    "a.number": (1e-5, "float32"),
    "a.flag": (True, "bool"),
    "a.text": ("ünï 🦙", "string"),
    "some.tokens": ([b"<s>", b"\xff", "▁a".encode()], "array of string"),
    "no.tokens": ([], "array of string"),
    "some.scores": (np.array([0.5, -1.0], np.float32), "array of float32"),
    "some.types": (np.array([3, 1, 6], np.int32), "array of int32"),
    "some.flags": (np.array([True, False]), "array of bool"),
}


def test_every_value_is_read_back_with_its_type(tmp_path: Path) -> None:
    path = tmp_path / "out.gguf"
    path.write_bytes(lay_out([pair(key, value) for key, (value, _) in VALUES.items()], [], 32).header)
    with GGUFFile(path) as written:
        assert list(written.metadata) == list(VALUES)
        for key, (value, kind) in VALUES.items():
            assert written.metadata.value_type(key) == kind
            expected = np.float32(value) if isinstance(value, float) else value
            np.testing.assert_array_equal(written.metadata[key], expected, err_msg=key)
    fields = gguf.GGUFReader(path).fields
    assert fields["a.text"].contents() == "ünï 🦙"
    assert fields["some.types"].contents() == [3, 1, 6]
    assert fields["a.flag"].contents() is True


@pytest.mark.parametrize("value", [2**32, -(2**31) - 1, 10**400])
def test_numbers_that_no_value_type_holds_are_refused(value: int) -> None:
    with pytest.raises(InputError, match=r"'a\.key'.* does not fit 32 bits"):
        pair("a.key", value)


def test_halves_of_surrogate_pairs_are_refused() -> None:
    """JSON can say them, UTF-8 cannot."""
    with pytest.raises(InputError, match=r"'a\.key': character 1 of the text is half of a pair \(\\ud800\)"):
        pair("a.key", "a\ud800")
