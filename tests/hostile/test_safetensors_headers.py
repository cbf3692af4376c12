"""Malformed safetensors files: each raises one clear `SafetensorsError`, at once, without a memory spike."""

from __future__ import annotations

import json
import os
import re
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from llorch.errors import SafetensorsError
from llorch.formats.safetensors.file import SafetensorsFile
from llorch.formats.safetensors.header import MAX_HEADER_BYTES, MAX_TENSORS
from tests.support.hostile_files import MAX_BYTES, MAX_SECONDS, error_of
from tests.support.mutants import overwrite
from tests.support.safetensors_writer import safetensors_bytes

ENORMOUS = [2**31 - 1, 2**31, 2**32, 2**61, 2**63 - 1, 2**63, 2**64 - 8, 2**64 - 1]


def refused(path: Path, max_bytes: int = MAX_BYTES) -> str:
    return error_of(lambda: SafetensorsFile(path), SafetensorsError, names=path.name, max_bytes=max_bytes)


def check(tmp_path: Path, content: bytes, pattern: str) -> None:
    path = tmp_path / "hostile.safetensors"
    overwrite(path, content)
    message = refused(path)
    assert re.search(pattern, message), message


def entry(begin: Any = 0, end: Any = 8, dtype: Any = "F32", shape: Any = (2,), **more: Any) -> dict[str, Any]:
    shape = list(shape) if isinstance(shape, tuple) else shape
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]} | more


def file_of(header: Mapping[str, Any] | bytes, n_bytes: int = 8) -> bytes:
    return safetensors_bytes(header, bytes(n_bytes))


def test_the_file_that_the_others_are_made_of_opens(tmp_path: Path) -> None:
    path = tmp_path / "good.safetensors"
    path.write_bytes(file_of({"a": entry()}))
    assert SafetensorsFile(path).infos["a"].shape == (2,)


# Length of the header


@pytest.mark.parametrize("n", range(1, 8))
def test_a_file_shorter_than_the_length_of_its_header_is_refused(tmp_path: Path, n: int) -> None:
    check(tmp_path, file_of({"a": entry()})[:n], f"has {n} bytes; a safetensors file begins with the 8")


@pytest.mark.parametrize("n", ENORMOUS)
def test_an_enormous_header_is_refused(tmp_path: Path, n: int) -> None:
    check(tmp_path, struct.pack("<Q", n) + file_of({"a": entry()})[8:], f"claims {n} bytes, but only")


def test_an_enormous_header_is_refused_even_when_the_file_is_long(tmp_path: Path) -> None:
    path = tmp_path / "sparse.safetensors"
    for n in (MAX_HEADER_BYTES + 1, 2**36):
        with path.open("wb") as file:
            file.write(struct.pack("<Q", n) + b"{")
            file.truncate(1 << 40)
        assert re.search(f"header has {n} bytes; at most {MAX_HEADER_BYTES}", refused(path))


@pytest.mark.parametrize("kept", [8, 9, 20, 40, 60])
def test_a_header_that_is_cut_short_is_refused(tmp_path: Path, kept: int) -> None:
    check(tmp_path, file_of({"a": entry()})[:kept], "cut short|but only")


@pytest.mark.parametrize("change", [-2, -1, 1, 2])
def test_a_length_that_is_off_is_refused(tmp_path: Path, change: int) -> None:
    content = file_of(json.dumps({"a": entry()}).encode() + b"  ")
    n = struct.unpack("<Q", content[:8])[0] + change * 8
    check(tmp_path, struct.pack("<Q", n) + content[8:], "not JSON|UTF-8|end at byte|only")


@pytest.mark.parametrize("n", [0, 1])
def test_a_header_of_no_object_is_refused(tmp_path: Path, n: int) -> None:
    check(tmp_path, struct.pack("<Q", n) + b"{}", "not JSON|is empty")


# What is no header


@pytest.mark.parametrize(
    ("start", "pattern"),
    [
        (b"GGUF\3\0\0\0\0\0", "not a safetensors file"),
        (b"PK\3\4" + bytes(20), "not a safetensors file"),
        (b"\x80\2\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "not a safetensors file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 1\n", "not a safetensors file"),
        (b"<!DOCTYPE html><html>", "not a safetensors file"),
        (struct.pack("<Q", 2) + b"[]", "starts with b'\\['"),
        (struct.pack("<Q", 4) + b"null", "not a safetensors file"),
        (struct.pack("<Q", 2) + b" {}", "not a safetensors file"),
        (struct.pack(">Q", 2) + b"{}", "claims"),
        (struct.pack("<Q", 5) + b"\xef\xbb\xbf{}", "not a safetensors file"),
    ],
)
def test_another_kind_of_file_is_refused(tmp_path: Path, start: bytes, pattern: str) -> None:
    check(tmp_path, start, pattern)


@pytest.mark.parametrize(
    ("header", "pattern"),
    [
        (b"{", "not JSON"),
        (b'{"a"', "not JSON"),
        (b"{}{}", "not JSON"),
        (b'{"a":}', "not JSON"),
        (b"{'a':1}", "not JSON"),
        (b'{"a\xff":1}', "not JSON"),
        (b'{"a":"\xed\xa0\x80"}', "not JSON"),
        ('{"a":1}'.encode("utf-16-le"), "not UTF-8"),
        (b'{"a":NaN}', "NaN is no number"),
        (b'{"a":-Infinity}', "no number"),
        (b'{"a":' + b"1" * 5000 + b"}", "not JSON"),
        (b'{"a":' + b"[" * 100_000, "too deeply"),
        (b'{"a":' * 100_000, "too deeply"),
        (b'{"a":1,"a":2}', "'a' stands twice"),
        (b'{"__metadata__":{"a":"1","a":"2"}}', "'a' stands twice"),
        (b'{"__metadata__":{},"__metadata__":{}}', "'__metadata__' stands twice"),
        (b'{"a":1,"\\u0061":2}', "'a' stands twice"),
        (b'{"a":{"dtype":"F32","dtype":"F16","shape":[2],"data_offsets":[0,8]}}', "'dtype' stands twice"),
        (b'{"x\\u001b[2J":1}', r"x\\x1b\[2J"),
        (b'{"' + b"n" * 100_000 + b'":1}', r"nnn\.\.\."),
    ],
    ids=range(20),
)
def test_a_header_that_is_no_plain_json_is_refused(tmp_path: Path, header: bytes, pattern: str) -> None:
    check(tmp_path, file_of(header), pattern)


# Entries


@pytest.mark.parametrize("found", [None, True, 1, "F32", [], [1], {}, {"dtype": "F32"}, entry(offset=1)])
def test_an_entry_that_is_no_tensor_is_refused(tmp_path: Path, found: Any) -> None:
    check(tmp_path, file_of({"a": found}), "tensor 'a': expected dtype, shape and data_offsets")


@pytest.mark.parametrize("dtype", ["f32", "F31", "", "Q8_0", "F32\n", None, 1, ["F32"], {}, "x" * 1000])
def test_an_unknown_dtype_is_refused(tmp_path: Path, dtype: Any) -> None:
    check(
        tmp_path,
        file_of({"a": entry(dtype=dtype)}),
        "tensor 'a': dtype .* is none of the format's: F32, F16, BF16",
    )


@pytest.mark.parametrize(
    "shape", [None, 2, "2", {}, [-2], [2.0], [True], ["2"], [[2]], [2**63], [10**40], [-1, -2]]
)
def test_a_shape_of_anything_but_whole_numbers_is_refused(tmp_path: Path, shape: Any) -> None:
    check(tmp_path, file_of({"a": entry(shape=shape)}), "tensor 'a': shape: expected a list of whole numbers")


@pytest.mark.parametrize("n", [9, 1000])
def test_too_many_dimensions_are_refused(tmp_path: Path, n: int) -> None:
    check(tmp_path, file_of({"a": entry(shape=[1] * n)}), f"has {n} dimensions; at most 8")


@pytest.mark.parametrize("shape", [[3], [1], [], [0], [2, 2], [2**31, 2**31], [2**62, 2**62], [2**62] * 8])
def test_a_shape_that_takes_another_number_of_bytes_is_refused(tmp_path: Path, shape: list[int]) -> None:
    check(
        tmp_path,
        file_of({"a": entry(shape=shape)}),
        r"tensor 'a': F32 of shape .* bytes, but data_offsets \[0, 8\]",
    )


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F64", "I8", "BOOL", "F8_E4M3", "F4"])
def test_a_dtype_of_another_width_is_refused(tmp_path: Path, dtype: str) -> None:
    check(tmp_path, file_of({"a": entry(dtype=dtype)}), f"tensor 'a': {dtype} of shape")


@pytest.mark.parametrize(
    "offsets", [None, 0, "0", {}, [0, 8.0], [-8, 0], [0, "8"], [False, 8], [0, 2**63], [0, None]]
)
def test_offsets_that_are_no_whole_numbers_are_refused(tmp_path: Path, offsets: Any) -> None:
    check(
        tmp_path,
        file_of({"a": entry() | {"data_offsets": offsets}}),
        "'a': data_offsets: expected a list of whole",
    )


@pytest.mark.parametrize("offsets", [[], [0], [0, 8, 16], [8, 0]])
def test_offsets_that_are_no_range_are_refused(tmp_path: Path, offsets: list[int]) -> None:
    check(tmp_path, file_of({"a": entry() | {"data_offsets": offsets}}), "are not a begin and an end")


@pytest.mark.parametrize("metadata", [None, 1, "x", [], ["x"], {"a": 1}, {"a": None}, {"a": {}}])
def test_metadata_of_anything_but_strings_is_refused(tmp_path: Path, metadata: Any) -> None:
    check(tmp_path, file_of({"__metadata__": metadata, "a": entry()}), "__metadata__.*object of strings")


# Where the data lies


@pytest.mark.parametrize(
    ("entries", "n_bytes", "pattern"),
    [
        ({"a": entry(0, 8), "b": entry(4, 12)}, 12, "'b': begins 4 bytes before the end"),
        ({"a": entry(0, 8), "b": entry(0, 8)}, 8, "begins 8 bytes before the end"),
        ({"a": entry(0, 16, shape=(4,)), "b": entry(4, 12)}, 16, "'b': begins 12 bytes before"),
        ({"a": entry(0, 8), "b": entry(9, 17)}, 17, "'b': begins 1 bytes behind .* a gap"),
        ({"a": entry(1, 9)}, 9, "'a': begins 1 bytes behind"),
        ({"a": entry(2**62, 2**62 + 8)}, 8, "'a': begins 4611686018427387904 bytes behind"),
        ({"a": entry(0, 8), "b": entry(2**62, 2**62 + 8)}, 16, "'b': begins .* a gap"),
        ({"a": entry()}, 7, "the file is cut short: fetch it again"),
        ({"a": entry()}, 0, "the file is cut short"),
        ({"a": entry()}, 9, "the rest belongs to none"),
        ({"a": entry()}, 1000, "the rest belongs to none"),
        ({}, 8, "the rest belongs to none"),
        ({"a": entry(), "b": entry(4, 4, shape=(0,))}, 8, "'b': begins 4 bytes before"),
        ({"a": entry(0, 2**62, "I8", [2**62])}, 8, "the file is cut short"),
    ],
)  # fmt: skip
def test_overlaps_gaps_and_rests_are_refused(
    tmp_path: Path, entries: dict[str, Any], n_bytes: int, pattern: str
) -> None:
    check(tmp_path, file_of(entries, n_bytes), pattern)


@pytest.mark.parametrize("rest", range(1, 8))
def test_data_at_any_address_is_read(tmp_path: Path, rest: int) -> None:
    """The format wants the header padded to 8 bytes, but files of old writers are not."""
    header = json.dumps({"a": entry()}).encode()
    header += b" " * (-(8 + len(header)) % 8 + rest)
    path = tmp_path / "odd.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + struct.pack("<2f", 1.5, -2))
    file = SafetensorsFile(path)
    assert file.infos["a"].begin % 8 == rest
    assert file.raw("a").tobytes() == struct.pack("<2f", 1.5, -2)


def test_too_many_tensors_are_refused(tmp_path: Path) -> None:
    entries = {f"t{number}": entry(0, 0, shape=(0,)) for number in range(MAX_TENSORS + 1)}
    path = tmp_path / "many.safetensors"
    path.write_bytes(file_of(entries, 0))
    start = time.thread_time()
    with pytest.raises(SafetensorsError, match=f"has {MAX_TENSORS + 1} tensors; at most {MAX_TENSORS}"):
        SafetensorsFile(path)
    assert time.thread_time() - start < 2 * MAX_SECONDS


def test_more_values_than_a_header_can_need_are_refused_before_they_take_memory(tmp_path: Path) -> None:
    path = tmp_path / "values.safetensors"
    path.write_bytes(file_of(b'{"a":[' + b"[]," * (9 << 20) + b"[]]}"))
    assert "values; at most 8388608" in refused(path, 64 << 20)


# What is no file


def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "is a named pipe; a safetensors file was expected" in refused(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    assert "is a directory" in refused(tmp_path / "folder")
    (tmp_path / "zero").symlink_to("/dev/zero")
    assert "is a device" in refused(tmp_path / "zero")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        assert "is a socket" in refused(tmp_path / "socket")


def test_a_missing_an_empty_and_a_circular_file_are_refused(tmp_path: Path) -> None:
    assert "cannot be opened: No such file" in refused(tmp_path / "none")
    (tmp_path / "empty").touch()
    assert "is empty" in refused(tmp_path / "empty")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    assert "cannot be opened" in refused(tmp_path / "circle")
