"""Malformed GGUF files: each raises one clear `GGUFError`, at once, without a memory spike."""

from __future__ import annotations

import os
import re
import socket
import time
from pathlib import Path

import pytest

from llorch.errors import GGUFError
from llorch.formats.gguf.file import GGUFFile
from tests.support import gguf_bytes as raw
from tests.support.gguf_bytes import ARCHITECTURE, GGUFBytes, array, info, pair, small_file, string, u32, u64
from tests.support.hostile_gguf import ENORMOUS, MAX_SECONDS, check, refused

# Magic and version


@pytest.mark.parametrize("magic", [b"GGML", b"gguf", b"PK\x03\x04", b"\0\0\0\0", b"GGU\0"])
def test_a_wrong_magic_is_named(tmp_path: Path, magic: bytes) -> None:
    check(tmp_path, GGUFBytes(magic=magic).build(), "not a GGUF file")


@pytest.mark.parametrize("version", [0, 1, 4, 5, 65535, 2**31, 2**32 - 1])
def test_other_versions_are_refused(tmp_path: Path, version: int) -> None:
    check(
        tmp_path,
        GGUFBytes(version=u32(version)).build(),
        f"version {version}; versions 2 and 3 are supported",
    )


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_a_big_endian_file_is_recognised(tmp_path: Path, version: int) -> None:
    check(tmp_path, GGUFBytes(version=version.to_bytes(4, "big")).build(), "big-endian")
    check(tmp_path, GGUFBytes(magic=b"FUGG", version=version.to_bytes(4, "big")).build(), "big-endian")


# Counts and lengths


@pytest.mark.parametrize("n", ENORMOUS)
def test_an_enormous_number_of_tensors_is_refused(tmp_path: Path, n: int) -> None:
    check(tmp_path, GGUFBytes(pairs=[ARCHITECTURE], n_tensors=n).build(), f"number of tensors is {n}")


@pytest.mark.parametrize("n", ENORMOUS)
def test_an_enormous_number_of_keys_is_refused(tmp_path: Path, n: int) -> None:
    check(tmp_path, GGUFBytes(pairs=[ARCHITECTURE], n_keys=n).build(), f"number of metadata keys is {n}")


def test_more_keys_or_tensors_than_there_are_is_a_truncated_file(tmp_path: Path) -> None:
    check(tmp_path, GGUFBytes(pairs=[ARCHITECTURE], n_keys=2).build(), "metadata key 1")
    content = GGUFBytes(infos=[info("a", [8])], n_tensors=2, data=bytes(32)).build()
    check(tmp_path, content, "tensor 1")


def test_absurd_numbers_of_keys_and_tensors_are_refused_even_when_the_file_is_long(tmp_path: Path) -> None:
    path = tmp_path / "sparse.gguf"
    for header, pattern in [
        (GGUFBytes(n_keys=2**36), "number of metadata keys is .*at most"),
        (GGUFBytes(n_tensors=2**35), "number of tensors is .*at most"),
        (GGUFBytes(pairs=[string("k") + u32(raw.STRING) + u64(2**40)], n_keys=1), "'k' is .*at most"),
        (GGUFBytes(pairs=[string("k") + u32(raw.ARRAY) + u32(raw.UINT8) + u64(2**40)]), "'k' is .*at most"),
        (GGUFBytes(pairs=[string("k") + u32(raw.ARRAY) + u32(raw.STRING) + u64(2**37)]), "'k' is .*at most"),
        (GGUFBytes(pairs=[u64(2**40)], n_keys=1), "name of metadata key 0 is .*at most"),
    ]:
        with path.open("wb") as file:
            file.write(header.build())
            file.truncate(1 << 41)
        assert re.search(pattern, refused(path))


@pytest.mark.parametrize("n", ENORMOUS)
def test_an_enormous_key_length_is_refused(tmp_path: Path, n: int) -> None:
    content = GGUFBytes(pairs=[ARCHITECTURE, string("key", n) + u32(4) + u32(1)]).build()
    check(tmp_path, content, f"length of the name of metadata key 1 is {n}")


@pytest.mark.parametrize("n", ENORMOUS)
def test_an_enormous_string_value_is_refused(tmp_path: Path, n: int) -> None:
    check(tmp_path, small_file(string("a.text") + u32(raw.STRING) + string("x", n)), f"'a.text' is {n}")


@pytest.mark.parametrize("n", ENORMOUS)
@pytest.mark.parametrize("kind", [raw.UINT8, raw.UINT16, raw.FLOAT32, raw.UINT64, raw.BOOL, raw.STRING])
def test_an_enormous_array_is_refused(tmp_path: Path, kind: int, n: int) -> None:
    check(tmp_path, small_file(array("an.array", kind, [], count=n)), f"elements of .*'an.array' is {n}")


@pytest.mark.parametrize("n", ENORMOUS)
def test_an_enormous_string_in_an_array_is_refused(tmp_path: Path, n: int) -> None:
    strings = string("first") + string("second", n) + string("third")
    content = small_file(string("tokens") + u32(raw.ARRAY) + u32(raw.STRING) + u64(3) + strings)
    check(tmp_path, content, f"element 1 of .*'tokens' has {n} bytes")


def test_many_arrays_of_strings_share_one_limit(tmp_path: Path) -> None:
    path = tmp_path / "sparse.gguf"
    n = 1 << 18
    arrays = [string(f"k{i}") + u32(raw.ARRAY) + u32(raw.STRING) + u64(n) + bytes(8 * n) for i in range(17)]
    path.write_bytes(GGUFBytes(pairs=arrays).build())
    start = time.thread_time()
    with pytest.raises(GGUFError, match=r"'k16' is 262144; at most 0"):
        GGUFFile(path)
    assert time.thread_time() - start < 2 * MAX_SECONDS  # 4 million strings, 35 MB


@pytest.mark.parametrize("n", ENORMOUS)
def test_an_enormous_tensor_name_is_refused(tmp_path: Path, n: int) -> None:
    tensor = string("t", n) + u32(1) + u64(8) + u32(0) + u64(0)
    check(tmp_path, small_file(infos=[tensor], data=bytes(32)), f"name of tensor 0 is {n}")


# Metadata types and values


@pytest.mark.parametrize("kind", [13, 14, 255, 2**31, 2**32 - 1])
def test_an_unknown_value_type_names_the_key(tmp_path: Path, kind: int) -> None:
    check(
        tmp_path, small_file(string("a.key") + u32(kind) + u64(0)), f"'a.key' has unknown value type {kind}"
    )
    content = small_file(string("a.key") + u32(raw.ARRAY) + u32(kind) + u64(1) + u64(0))
    check(tmp_path, content, f"'a.key' is an array of unknown type {kind}")


@pytest.mark.parametrize("depth", [1, 2, 1000])
def test_arrays_of_arrays_are_refused(tmp_path: Path, depth: int) -> None:
    nested = (u32(raw.ARRAY) + u64(1)) * depth + u32(raw.UINT8) + u64(1) + b"\1"
    check(tmp_path, small_file(string("deep") + u32(raw.ARRAY) + nested), "'deep' is an array of arrays")


def test_a_bool_is_0_or_1(tmp_path: Path) -> None:
    check(tmp_path, small_file(pair("flag", raw.BOOL, 2)), "'flag' is a bool stored as 2")
    path = tmp_path / "flags.gguf"
    path.write_bytes(small_file(array("flags", raw.BOOL, [0, 1, 255])))
    with pytest.raises(GGUFError, match="'flags' holds a bool that is neither 0 nor 1"):
        GGUFFile(path).metadata["flags"]


BAD_UTF8 = [b"\xff", b"abc\x80", b"\xc3", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80"]


@pytest.mark.parametrize("name", BAD_UTF8)
def test_names_and_texts_must_be_utf8(tmp_path: Path, name: bytes) -> None:
    check(tmp_path, small_file(pair(name, raw.UINT8, 1)), "name of metadata key 1 is not valid UTF-8")
    check(tmp_path, small_file(pair("text", raw.STRING, name)), "'text' is not valid UTF-8")
    check(
        tmp_path, small_file(infos=[info(name, [8])], data=bytes(32)), "name of tensor 0 is not valid UTF-8"
    )


@pytest.mark.parametrize("name", ["\0", "a\0", "llama.block_count\0x"])
def test_names_contain_no_nul(tmp_path: Path, name: str) -> None:
    check(tmp_path, small_file(pair(name, raw.UINT8, 1)), "name of metadata key 1 contains a NUL")
    check(tmp_path, small_file(infos=[info(name, [8])], data=bytes(32)), "name of tensor 0 contains a NUL")


def test_names_are_not_empty(tmp_path: Path) -> None:
    check(tmp_path, small_file(pair("", raw.UINT8, 1)), "name of metadata key 1 is empty")
    check(tmp_path, small_file(infos=[info("", [8])], data=bytes(32)), "name of tensor 0 is empty")


def test_names_are_not_repeated(tmp_path: Path) -> None:
    check(tmp_path, small_file(ARCHITECTURE), "'general.architecture' appears twice")
    check(tmp_path, small_file(pair("k", raw.UINT8, 1), array("k", raw.UINT8, [])), "'k' appears twice")
    infos = [info("t", [8]), info("t", [8], offset=32)]
    check(tmp_path, small_file(infos=infos, data=bytes(64)), "tensor 't' appears twice")


def test_names_have_a_sane_length_and_are_shortened_in_messages(tmp_path: Path) -> None:
    check(tmp_path, small_file(pair("k" * 70_000, raw.UINT8, 1)), "name of metadata key 1 is 70000; at most")
    check(
        tmp_path,
        small_file(infos=[info("t" * 65, [8])], data=bytes(32)),
        "name of tensor 0 is 65; at most 64",
    )
    check(tmp_path, small_file(string("k" * 60_000) + u32(99)), "kkk[.]{3}'")


def test_control_characters_in_names_are_escaped_in_messages(tmp_path: Path) -> None:
    content = small_file(string("bell\a\n\x1b[31m\u202e") + u32(99))
    check(tmp_path, content, re.escape(r"'bell\x07\n\x1b[31m\u202e' has unknown value type"))


# Alignment


@pytest.mark.parametrize("alignment", [0, 1, 3, 4, 12, 33, 2**25, 2**31, 2**32 - 1])
def test_an_alignment_must_be_a_sane_power_of_two(tmp_path: Path, alignment: int) -> None:
    key = pair("general.alignment", raw.UINT32, alignment)
    content = small_file(key, infos=[info("t", [8])], data=bytes(32))
    check(tmp_path, content, rf"'general.alignment' is {alignment}; a power of two")


@pytest.mark.parametrize(
    "key",
    [
        pair("general.alignment", raw.UINT64, 32),
        pair("general.alignment", raw.INT32, -32),
        pair("general.alignment", raw.FLOAT32, 32.0),
        pair("general.alignment", raw.STRING, "32"),
        pair("general.alignment", raw.BOOL, 1),
        array("general.alignment", raw.UINT32, [32]),
    ],
)
def test_an_alignment_must_be_a_uint32(tmp_path: Path, key: bytes) -> None:
    check(tmp_path, small_file(key), "'general.alignment' has type .*; uint32 was expected")


def test_padding_to_the_alignment_must_not_pass_the_end(tmp_path: Path) -> None:
    key = pair("general.alignment", raw.UINT32, 2**24)
    check(tmp_path, small_file(key, infos=[info("t", [8])], data=bytes(32)), "tensor 't'.*only 0 are there")


# Paths


def test_a_file_that_is_missing_or_empty(tmp_path: Path) -> None:
    assert "No such file" in refused(tmp_path / "missing.gguf")
    (tmp_path / "empty.gguf").touch()
    assert "is empty" in refused(tmp_path / "empty.gguf")


def test_things_that_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.gguf")
    assert "named pipe" in refused(tmp_path / "fifo.gguf")
    assert "a directory" in refused(tmp_path)
    for device in ("/dev/zero", "/dev/null", "/dev/stdin"):
        if Path(device).exists():
            refused(Path(device))
    assert "a device" in refused(Path("/dev/zero"))
    with socket.socket(socket.AF_UNIX) as listener:
        name = str(tmp_path / "s")
        if len(name) < 100:
            listener.bind(name)
            assert "a socket" in refused(Path(name))


def test_unusable_paths(tmp_path: Path) -> None:
    loop = tmp_path / "loop.gguf"
    loop.symlink_to(loop)
    assert "symbolic links" in refused(loop)
    assert "Not a directory" in refused(Path("/dev/null/model.gguf"))
    with pytest.raises(GGUFError, match="name too long"):
        GGUFFile("x" * 5000)
    with pytest.raises(GGUFError, match="not a usable path"):
        GGUFFile("a\0b.gguf")
    with pytest.raises(GGUFError, match="No such file") as caught:
        GGUFFile(tmp_path / "line\nbreak.gguf")
    assert "\n" not in str(caught.value)
    if os.geteuid() != 0:
        secret = tmp_path / "secret.gguf"
        secret.write_bytes(small_file())
        secret.chmod(0)
        assert "Permission denied" in refused(secret)
