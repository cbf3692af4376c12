"""A safetensors header is believed only if it describes every byte behind it exactly once."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest

from llorch.errors import SafetensorsError
from llorch.formats.safetensors import header
from llorch.formats.safetensors.header import read_header
from tests.support.safetensors_writer import safetensors_bytes


def entry(begin: int, end: int, shape: list[Any] | None = None, dtype: Any = "F32") -> dict[str, Any]:
    return {
        "dtype": dtype,
        "shape": [(end - begin) // 4] if shape is None else shape,
        "data_offsets": [begin, end],
    }


def read(content: bytes) -> tuple[dict[str, header.SafetensorsInfo], dict[str, str]]:
    return read_header(content, len(content), "model.safetensors")


def refused(tensors: Any, n_bytes: int = 16) -> str:
    with pytest.raises(SafetensorsError, match=r"^model\.safetensors") as caught:
        read(safetensors_bytes(tensors, bytes(n_bytes)))
    return str(caught.value)


def test_tensors_come_in_the_order_of_their_data_with_offsets_in_the_file() -> None:
    content = safetensors_bytes({"b": entry(8, 16), "a": entry(0, 8, [2, 1])}, bytes(16))
    infos, metadata = read(content)
    start = len(content) - 16
    assert list(infos) == ["a", "b"]
    assert (infos["a"].shape, infos["a"].begin, infos["a"].end) == ((2, 1), start, start + 8)
    assert (infos["b"].dtype, infos["b"].n_bytes, metadata) == ("F32", 8, {})


def test_metadata_is_what_the_file_says_of_itself() -> None:
    _, metadata = read(safetensors_bytes({"__metadata__": {"format": "pt"}, "a": entry(0, 16)}, bytes(16)))
    assert metadata == {"format": "pt"}


def test_a_file_without_tensors_and_tensors_without_elements_are_fine() -> None:
    assert read(safetensors_bytes({}, b"")) == ({}, {})
    infos, _ = read(safetensors_bytes({"none": entry(0, 0, [3, 0]), "one": entry(0, 4, [])}, bytes(4)))
    assert (infos["none"].n_bytes, infos["one"].shape) == (0, ())


def test_types_that_llorch_cannot_run_are_listed_with_their_sizes() -> None:
    tensors = {
        "fp8": entry(0, 8, [8], "F8_E4M3"),
        "fp4": entry(8, 12, [8], "F4"),
        "i": entry(12, 16, [2], "I16"),
    }
    infos, _ = read(safetensors_bytes(tensors, bytes(16)))
    assert [info.dtype for info in infos.values()] == ["F8_E4M3", "F4", "I16"]


@pytest.mark.parametrize(
    ("tensors", "fault"),
    [
        (
            {"a": entry(0, 8), "b": entry(4, 16)},
            "tensor 'b': begins 4 bytes before the end of the one in front",
        ),
        ({"a": entry(0, 8), "b": entry(0, 8)}, "tensor 'b': begins 8 bytes before the end"),
        (
            {"a": entry(0, 8), "b": entry(12, 16)},
            "tensor 'b': begins 4 bytes behind the end of the one in front",
        ),
        ({"a": entry(4, 16)}, "tensor 'a': begins 4 bytes behind"),
        ({"a": entry(0, 12)}, "its tensors end at byte"),
        ({"a": entry(0, 20)}, "cut short: fetch it again"),
        ({"a": entry(0, 16, [5])}, r"F32 of shape (5,) takes 20 bytes, but data_offsets [0, 16] hold 16"),
        ({"a": entry(0, 16, [1 << 62, 1 << 62])}, "takes"),
        ({"a": entry(0, 1, [1], "F4")}, "takes 0.5 bytes"),
        ({"a": entry(0, 16, [-4])}, "shape: expected a list of whole numbers"),
        ({"a": entry(0, 16, [4.0])}, "shape: expected a list of whole numbers"),
        ({"a": entry(0, 16, [True])}, "shape: expected a list of whole numbers"),
        ({"a": entry(0, 16, [1] * 9)}, "has 9 dimensions; at most 8"),
        ({"a": {"dtype": "F32", "shape": [4], "data_offsets": [16, 0]}}, "are not a begin and an end"),
        ({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0]}}, "are not a begin and an end"),
        ({"a": {"dtype": "F32", "shape": [4]}}, "expected dtype, shape and data_offsets"),
        ({"a": [1]}, "expected dtype, shape and data_offsets"),
        ({"a": entry(0, 16, dtype="f32")}, "dtype 'f32' is none of the format's"),
        ({"a": entry(0, 16, dtype=[])}, "dtype [] is none of the format's"),
        (
            {"__metadata__": {"n": 1}, "a": entry(0, 16)},
            "'__metadata__' of the header: expected an object of strings",
        ),
        (b'{"a":1,"a":2}', "'a' stands twice"),
        (b"[]", "header starts with b'['"),
        (b"{", "is not JSON"),
        (b'{"a":NaN}', "NaN is no number"),
        ('{"a":1}'.encode("utf-16-le"), "is not UTF-8"),
        (b'{"a":' * 100_000, "nested too deeply"),
    ],
)
def test_a_header_that_lies_is_refused_with_the_tensor_and_the_fault(tensors: Any, fault: str) -> None:
    assert fault in refused(tensors)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "has 0 bytes"),
        (struct.pack("<Q", 2)[:7], "has 7 bytes"),
        (struct.pack("<Q", 1 << 63) + b"{}", "claims 9223372036854775808 bytes, but only 2 follow"),
        (struct.pack("<Q", 3) + b"{}", "claims 3 bytes, but only 2 follow"),
        (struct.pack("<Q", 0) + b"{}", "is empty"),
        (b"GGUF" + bytes(60), "is not a safetensors file"),
    ],
)
def test_a_file_that_is_no_safetensors_file_is_refused(content: bytes, fault: str) -> None:
    with pytest.raises(SafetensorsError) as caught:
        read(content)
    assert fault in str(caught.value)


def test_headers_and_numbers_of_tensors_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    content = safetensors_bytes({"a": entry(0, 8), "b": entry(8, 16)}, bytes(16))
    monkeypatch.setattr(header, "MAX_TENSORS", 1)
    with pytest.raises(SafetensorsError, match="has 2 tensors; at most 1"):
        read(content)
    monkeypatch.setattr(header, "MAX_HEADER_BYTES", 10)
    with pytest.raises(SafetensorsError, match="at most 10 are read"):
        read(content)


def test_names_are_printed_on_one_line() -> None:
    message = refused({"a\n" + "x" * 1000: entry(0, 12)} | {"b": json.loads("[1]")})
    assert "\n" not in message
    assert len(message) < 400
