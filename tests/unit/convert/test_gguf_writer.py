"""Files laid out here are read by the `gguf` package and by our reader, which share no code with the writer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from llorch.convert.gguf_writer import lay_out, uint32_pair
from llorch.formats.gguf.file import GGUFFile
from llorch.quant.types import F32, Q4_K, Q8_0
from tests.support import gguf_bytes as raw

SCALARS: list[tuple[int, Any]] = [
    (raw.UINT8, 200), (raw.INT8, -3), (raw.UINT16, 60_000), (raw.INT16, -300), (raw.UINT32, 2**32 - 1),
    (raw.INT32, -(2**31)), (raw.FLOAT32, 1e-5), (raw.BOOL, True), (raw.STRING, "ünï".encode()),
    (raw.UINT64, 2**64 - 1), (raw.INT64, -(2**63)), (raw.FLOAT64, 1e-300),
]  # fmt: skip


def content_with_every_type(alignment: int) -> bytes:
    pairs = [raw.pair(f"of.{kind}", kind, value) for kind, value in SCALARS]
    pairs += [raw.array(f"of.array.{kind}", kind, [value] * 3) for kind, value in SCALARS]
    pairs += [raw.array("of.nothing", raw.STRING, []), raw.pair("general.alignment", raw.UINT32, alignment)]
    return raw.GGUFBytes(pairs=pairs, alignment=alignment).build()


@pytest.mark.parametrize("alignment", [8, 32, 256])
def test_every_metadata_key_keeps_its_type_and_value(tmp_path: Path, alignment: int) -> None:
    before, after = tmp_path / "before.gguf", tmp_path / "after.gguf"
    before.write_bytes(content_with_every_type(alignment))
    with GGUFFile(before) as source:
        pairs = [source.metadata.pair(key) for key in source.metadata]
        after.write_bytes(lay_out([*pairs, uint32_pair("one.more", 7)], [], source.alignment).header)
        with GGUFFile(after) as written:
            assert written.alignment == alignment
            assert list(written.metadata) == [*source.metadata, "one.more"]
            for key in source.metadata:
                assert written.metadata.value_type(key) == source.metadata.value_type(key)
                np.testing.assert_array_equal(written.metadata[key], source.metadata[key])
    fields = gguf.GGUFReader(after).fields
    assert fields["one.more"].parts[-1].tolist() == [7]
    assert {key for key in fields if not key.startswith("GGUF.")} >= {f"of.{kind}" for kind, _ in SCALARS}


@pytest.mark.parametrize("alignment", [8, 32, 256])
def test_tensors_lie_where_the_table_says(tmp_path: Path, alignment: int) -> None:
    tensors = [("vector", F32, (5,)), ("matrix", Q8_0, (3, 64)), ("cube", Q4_K, (2, 3, 512))]
    pairs = [raw.pair("general.architecture", raw.STRING, b"llama")]
    pairs += [raw.pair("general.alignment", raw.UINT32, alignment)]
    layout = lay_out(pairs, tensors, alignment)
    content = bytearray(layout.n_bytes)
    content[: len(layout.header)] = layout.header
    for number, tensor in enumerate(layout.tensors):
        assert tensor.offset % alignment == 0
        content[tensor.offset : tensor.offset + tensor.n_bytes] = bytes([number + 1]) * tensor.n_bytes
    path = tmp_path / "file.gguf"
    path.write_bytes(content)
    with GGUFFile(path) as written:
        assert [(t.name, t.shape, t.type_name) for t in written.own_infos] == [
            (name, shape, quant.name) for name, quant, shape in tensors
        ]
        for number, view in enumerate(written.tensors.values()):
            assert set(view.data.tolist()) == {number + 1}
    for number, read in enumerate(gguf.GGUFReader(path).tensors):
        assert (read.name, read.tensor_type.name) == (tensors[number][0], tensors[number][1].name)
        assert set(read.data.view(np.uint8).ravel().tolist()) == {number + 1}
