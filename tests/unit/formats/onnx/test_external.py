"""External data: several files, offsets beyond 2 GB, tied weights, links, checksums."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from llorch.errors import OnnxError
from llorch.formats.onnx.open_graph import OpenGraph, read_graph
from tests.support import onnx_writer as w

VALUES = np.arange(12, dtype=np.float32)


def opened(path: Path, **tensors: dict[str, str]) -> OpenGraph:
    """A model of tensors of 6 numbers in other files, given where each lies."""
    content = [w.tensor(name, dims=[6], dtype=1, external=where) for name, where in tensors.items()]
    return read_graph(w.write(path / "m.onnx", w.identity_model(*content)))


def test_tensors_lie_in_several_files_and_folders(tmp_path: Path) -> None:
    w.write(tmp_path / "a.bin", VALUES.tobytes())
    w.write(tmp_path / "sub" / "b.bin", b"?" + VALUES[::-1].tobytes())
    graph = opened(
        tmp_path,
        first={"location": "a.bin"},
        second={"location": "a.bin", "offset": "24", "length": "24"},
        third={"location": "sub/b.bin", "offset": "1"},
        tied={"location": "./a.bin", "offset": "12", "length": "24", "basepath": "x", "unknown": "y"},
    )
    expected = {"first": VALUES[:6], "second": VALUES[6:], "third": VALUES[:5:-1], "tied": VALUES[3:9]}
    for name, values in expected.items():
        np.testing.assert_array_equal(graph.graph.initializers[name].values(), values)
    assert graph.sizes == {"a.bin": 48, "sub/b.bin": 49}
    graph.close()


def test_offsets_beyond_4_gb(tmp_path: Path) -> None:
    offset = (1 << 32) + 4096
    with (tmp_path / "large.bin").open("wb") as file:
        file.truncate(offset)  # a hole: the file takes a page of the disk
        file.seek(offset)
        file.write(VALUES.tobytes())
    graph = opened(
        tmp_path,
        zeros={"location": "large.bin", "offset": str((1 << 31) - 8), "length": "24"},
        values={"location": "large.bin", "offset": str(offset), "length": "24"},
    )
    assert graph.graph.initializers["zeros"].values().tolist() == [0] * 6
    np.testing.assert_array_equal(graph.graph.initializers["values"].values(), VALUES[:6])
    graph.close()


def test_links_are_followed_inside_the_directory_and_into_the_cache_of_the_hub(tmp_path: Path) -> None:
    snapshot, blobs = (
        tmp_path / "models--a--b" / "snapshots" / "0f" / "onnx",
        tmp_path / "models--a--b" / "blobs",
    )
    w.write(blobs / "12ab", VALUES.tobytes())
    snapshot.mkdir(parents=True)
    (snapshot / "w.bin").symlink_to(blobs / "12ab")
    (snapshot / "again.bin").symlink_to("w.bin")
    graph = opened(snapshot, a={"location": "w.bin"}, b={"location": "again.bin"})
    for tensor in graph.graph.initializers.values():
        np.testing.assert_array_equal(tensor.values(), VALUES[:6])
    graph.close()


def test_weights_in_other_files_are_views_on_their_maps(tmp_path: Path) -> None:
    w.write(tmp_path / "w.bin", b"??" + VALUES.tobytes())
    graph = opened(tmp_path, a={"location": "w.bin", "offset": "2"}, b={"location": "w.bin", "offset": "10"})
    graph.close()
    a, b = (graph.graph.initializers[name].data for name in "ab")
    assert b.ctypes.data - a.ctypes.data == 8
    assert not a.flags.owndata
    np.testing.assert_array_equal(a.view(np.float32), VALUES[:6])


@pytest.mark.parametrize("spell", [str.lower, str.upper])
def test_a_checksum_is_compared_once_and_only_where_it_is_stated(spell, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    for name in ("a.bin", "b.bin"):
        w.write(tmp_path / name, VALUES.tobytes())
    checksum = hashlib.sha1(VALUES.tobytes()).hexdigest()
    graph = opened(tmp_path, a={"location": "a.bin", "checksum": spell(checksum)}, b={"location": "b.bin"})
    assert graph.external.checksums == {"a.bin": checksum}
    graph.external.verify()
    graph.close()
    graph.external.verify()  # the files are closed, so this has read nothing


def test_a_checksum_of_another_file_is_an_error_that_says_both(tmp_path: Path) -> None:
    w.write(tmp_path / "a.bin", VALUES.tobytes())
    graph = opened(tmp_path, a={"location": "a.bin", "checksum": "ab" * 20})
    with pytest.raises(
        OnnxError, match=r"m.onnx: states the SHA-1 (ab){20} for 'a.bin', which has [0-9a-f]{40}"
    ):
        graph.external.verify()
    graph.close()


def test_a_file_of_a_graph_that_is_written_to_is_noticed(tmp_path: Path) -> None:
    w.write(tmp_path / "a.bin", VALUES.tobytes())
    graph = opened(tmp_path, a={"location": "a.bin"})
    assert all(file.changed() is None for file in graph.files())
    with (tmp_path / "a.bin").open("ab") as file:
        file.write(b"more")
    assert [file.changed() for file in graph.files()] == [None, "a.bin had 48 bytes and now has 52"]
    graph.close()
