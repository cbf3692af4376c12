"""External data of ONNX files: places outside the directory, missing files, false offsets, lengths and checksums."""

from __future__ import annotations

import gc
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llorch.errors import OnnxError
from llorch.formats.onnx import external
from llorch.formats.onnx.open_graph import read_graph
from tests.support import onnx_writer as w
from tests.support.hostile_onnx import NAME, check, refused

VALUES = np.arange(6, dtype=np.float32)
DATA = VALUES.tobytes()
SHA1 = hashlib.sha1(DATA).hexdigest()


def model(entries: Mapping[str, str | bytes], *, dtype: int = 1, more: bytes = b"") -> bytes:
    """A model with a tensor of 24 bytes in another file."""
    return w.identity_model(w.tensor("t", dims=[6], dtype=dtype, external=entries, more=more))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory for the model; beside it lie files that no model may reach."""
    (tmp_path / "outside.bin").write_bytes(DATA)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "w.bin").write_bytes(DATA)
    return tmp_path / "model"


NOT_INSIDE = "names the file .*, which is not one inside its directory"
PLACES: dict[str, tuple[str | bytes, str]] = {
    "up": ("../outside.bin", NOT_INSIDE),
    "up from below": ("a/../../outside.bin", NOT_INSIDE),
    "up and back": ("../model/w.bin", NOT_INSIDE),
    "up in the middle": ("sub/../w.bin", NOT_INSIDE),
    "up as Windows spells it": ("..\\outside.bin", NOT_INSIDE),
    "absolute": ("/etc/hostname", NOT_INSIDE),
    "absolute, two slashes": ("//etc/hostname", NOT_INSIDE),
    "of a drive": ("C:w.bin", NOT_INSIDE),
    "of a URL": ("file:///etc/hostname", NOT_INSIDE),
    "nothing": ("", NOT_INSIDE),
    "with a null": ("w.bin\0.txt", NOT_INSIDE),
    "very long": ("w" * 5000, NOT_INSIDE),
    "a name too long for the system": ("w" * 300, "names the file .*, which is missing in"),
    "missing": ("v.bin", "names the file 'v.bin', which is missing in"),
    "in a file": ("w.bin/v.bin", "names the file 'w.bin/v.bin', which is missing in"),
    "of a home": ("~/w.bin", "which is missing in"),
    "of a variable": ("$HOME/w.bin", "which is missing in"),
    "in memory": ("*/_ORT_MEM_ADDR_/*", "which is missing in"),
    "the directory": (".", "is a directory; external data of .* was expected"),
    "no UTF-8": (b"\xff.bin", "field 2 is not valid UTF-8"),
    "lines and colours": ("\x1b[31m\nw", "which is missing in"),
}


@pytest.mark.parametrize("kind", PLACES)
def test_a_place_outside_the_directory_or_without_a_file_is_refused(kind: str, folder: Path) -> None:
    location, said = PLACES[kind]
    check(folder, model({"location": location}), said)


@pytest.mark.parametrize("target", ["../outside.bin", "/etc/hostname", "/dev/zero", "/proc/self/mem"])
@pytest.mark.parametrize("location", ["link.bin", "sub/link.bin"])
def test_a_link_out_of_the_directory_is_not_followed(location: str, target: str, folder: Path) -> None:
    link = folder / location
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(folder / target)
    check(folder, model({"location": location}), "a link to .* outside its directory")


def test_a_folder_that_is_a_link_out_is_not_followed(folder: Path) -> None:
    (folder / "sub").symlink_to(folder.parent)
    check(folder, model({"location": "sub/outside.bin"}), "a link to .* outside its directory")


def test_links_in_a_circle_and_to_nothing_are_missing_files(folder: Path) -> None:
    (folder / "a").symlink_to("b")
    (folder / "b").symlink_to("a")
    (folder / "c").symlink_to("nothing")
    for location in ("a", "c"):
        check(folder, model({"location": location}), "which is missing in")


def test_a_pipe_is_not_opened(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    check(folder, model({"location": "pipe"}), "is a named pipe; external data of .* was expected")


def test_an_empty_file_is_refused(folder: Path) -> None:
    (folder / "empty").touch()
    check(folder, model({"location": "empty"}), "is empty; external data of")


NUMBER = "a whole number from 0 up was expected"
ENTRIES = {
    "no location": ({"offset": "0"}, "said to lie in another file, but no `location` names"),
    "an offset at the end": ({"offset": "24"}, "needs 24 bytes at offset 24 of 'w.bin', which has only 24"),
    "an offset that cuts": ({"offset": "1"}, "needs 24 bytes at offset 1"),
    "an offset of 2^31": ({"offset": str(2**31)}, "at offset 2147483648 .* only 24 bytes .is the download complete"),
    "an offset of 2^63 - 1": ({"offset": str(2**63 - 1)}, "at offset 9223372036854775807"),
    "an offset of 2^63": ({"offset": str(2**63)}, "at offset 9223372036854775808"),
    "an offset of 2^64 - 1": ({"offset": str(2**64 - 1)}, NUMBER),
    "an offset of many digits": ({"offset": "9" * 10_000}, NUMBER),
    "a negative offset": ({"offset": "-1"}, f"`offset` '-1'; {NUMBER}"),
    "an offset with a sign": ({"offset": "+1"}, NUMBER),
    "an offset with a blank": ({"offset": " 1"}, NUMBER),
    "an offset with a line feed": ({"offset": "0\n"}, NUMBER),
    "an offset with an underscore": ({"offset": "1_0"}, NUMBER),
    "an offset that is a fraction": ({"offset": "1.0"}, NUMBER),
    "an offset in other digits": ({"offset": "٣"}, NUMBER),
    "an offset in hexadecimal": ({"offset": "0x10"}, NUMBER),
    "an offset that is a word": ({"offset": "start"}, NUMBER),
    "an empty offset": ({"offset": ""}, NUMBER),
    "a length too small": ({"length": "23"}, "a `length` of 23 bytes; its type and shape need 24"),
    "a length too large": ({"length": "25"}, "a `length` of 25 bytes; its type and shape need 24"),
    "a length of 0": ({"length": "0"}, "a `length` of 0 bytes"),
    "a length of 2^63": ({"length": str(2**63)}, "a `length` of 9223372036854775808 bytes"),
    "a negative length": ({"length": "-24"}, f"`length` '-24'; {NUMBER}"),
    "a length that is a word": ({"length": "all"}, NUMBER),
    "a checksum that is none": ({"checksum": "abc"}, "`checksum` 'abc'; 40 digits of SHA-1 were expected"),
    "a checksum of SHA-256": ({"checksum": "0" * 64}, "40 digits of SHA-1 were expected"),
    "a checksum of other letters": ({"checksum": "g" * 40}, "40 digits of SHA-1 were expected"),
}  # fmt: skip


@pytest.mark.parametrize("kind", ENTRIES)
def test_an_entry_that_lies_is_refused(kind: str, folder: Path) -> None:
    entries, said = ENTRIES[kind]
    location = {} if kind == "no location" else {"location": "w.bin"}
    check(folder, model({**location, **entries}), said)


MORE: dict[str, tuple[dict[str, Any], str]] = {
    "strings": ({"dtype": 8}, "has strings outside `string_data`"),
    "numbers inside, too": ({"more": w.block(9, DATA)}, "in `raw_data` and in another file"),
    "floats inside, too": ({"more": w.block(4, DATA)}, "in `float_data` and in another file"),
    "a location twice": (
        {"more": w.block(13, w.pair("location", "v.bin"))},
        "external data key 'location' twice",
    ),
    "an unknown place": ({"more": w.integer(14, 1)}, "field 14 stands twice"),
    "a larger type": ({"dtype": 11}, "needs 48 bytes at offset 0 of 'w.bin', which has only 24"),
}


@pytest.mark.parametrize("kind", MORE)
def test_a_tensor_that_contradicts_its_file_is_refused(kind: str, folder: Path) -> None:
    said_of, said = MORE[kind]
    check(folder, model({"location": "w.bin"}, **said_of), said)


def test_two_checksums_of_one_file_are_refused(folder: Path) -> None:
    tensors = [
        w.tensor(name, dims=[6], dtype=1, external={"location": location, "checksum": checksum})
        for name, location, checksum in (("a", "w.bin", SHA1), ("b", "./w.bin", "0" * 40))
    ]
    check(folder, w.identity_model(*tensors), "states another `checksum` of 'w.bin' than tensors before it")


def test_a_file_that_has_another_checksum_is_refused_before_its_tensors_are_used(folder: Path) -> None:
    w.write(folder / NAME, model({"location": "w.bin", "checksum": "0" * 40}))
    opened = read_graph(folder / NAME)
    with pytest.raises(OnnxError, match=f"states the SHA-1 0{{40}} for 'w.bin', which has {SHA1}: fetch"):
        opened.external.verify()
    opened.close()


def test_the_number_of_files_is_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(external, "MAX_FILES", 2)
    tensors = []
    for name in ("a", "b", "c"):
        (folder / name).write_bytes(DATA)
        tensors.append(w.tensor(name, dims=[6], dtype=1, external={"location": name}))
    check(folder, w.identity_model(*tensors), "has tensors in more than 2 files")


def test_the_constant_of_a_node_may_not_lie_outside_either(folder: Path) -> None:
    content = w.tensor("", dims=[6], dtype=1, external={"location": "../outside.bin"})
    node = w.node("Constant", [], ["y"], w.attribute("value", content))
    check(folder, w.model(w.graph([node])), NOT_INSIDE)


def test_a_refused_model_leaves_no_file_open(folder: Path) -> None:
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    tensors = [
        w.tensor("a", dims=[6], dtype=1, external={"location": "w.bin"}),
        w.tensor("b", dims=[1], dtype=1),
    ]
    w.write(folder / NAME, w.identity_model(*tensors))
    refused(folder / NAME)
    gc.collect()  # frames of the error hold views on the maps
    assert len(os.listdir("/proc/self/fd")) == before
