"""Numbers of ONNX tensors: every type, in every field that may hold them, viewed where they lie."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from llorch.errors import OnnxError
from llorch.formats.onnx.graph import OnnxTensor
from llorch.formats.onnx.open_graph import read_graph
from llorch.formats.onnx.varints import decode_varints
from tests.support import onnx_writer as w

RNG = np.random.default_rng(0)
NAMES = sorted(set(w.TYPE_NUMBERS) - {"bfloat16"})


def read(tmp_path: Path, content: bytes) -> OnnxTensor:
    opened = read_graph(w.write(tmp_path / "m.onnx", w.identity_model(content)))
    opened.close()
    (tensor,) = opened.graph.initializers.values()
    return tensor


def random(name: str) -> NDArray[np.generic]:
    """Random bits of a type, without NaN."""
    dtype = np.dtype(name)
    if name == "bool":
        return RNG.integers(0, 2, (3, 4)).astype(bool)
    values = RNG.integers(0, 256, (3, 4 * dtype.itemsize), np.uint8).view(dtype)
    return values if dtype.kind in "iu" else np.nan_to_num(values, posinf=1.0, neginf=-1.0)


@pytest.mark.parametrize("name", NAMES)
def test_raw_data_of_every_type(name: str, tmp_path: Path) -> None:
    values = random(name)
    tensor = read(tmp_path, w.tensor("t", values))
    assert (tensor.name, tensor.dtype, tensor.shape, tensor.n_elements) == ("t", name, (3, 4), 12)
    assert tensor.values().dtype == values.dtype
    np.testing.assert_array_equal(tensor.values(), values)


def fields(name: str, values: NDArray[np.generic], is_packed: bool) -> bytes:
    """The same numbers in the repeated field of their type."""
    flat = values.ravel()
    if name in ("float32", "complex64", "float64", "complex128"):
        size, number, wire = (4, 4, 5) if name in ("float32", "complex64") else (8, 10, 1)
        raw = flat.tobytes()
        if is_packed:
            return w.block(number, raw)
        return b"".join(w.key(number, wire) + raw[i : i + size] for i in range(0, len(raw), size))
    number = {"int64": 7, "uint32": 11, "uint64": 11}.get(name, 5)
    numbers = [int(value) for value in (flat.view(np.uint16) if name == "float16" else flat)]
    if is_packed:
        return w.block(number, b"".join(map(w.varint, numbers)))
    return b"".join(w.integer(number, value) for value in numbers)


@pytest.mark.parametrize("is_packed", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_the_repeated_field_of_every_type(name: str, is_packed: bool, tmp_path: Path) -> None:
    values = random(name)
    content = w.tensor(
        "t", dims=values.shape, dtype=w.TYPE_NUMBERS[name], more=fields(name, values, is_packed)
    )
    np.testing.assert_array_equal(read(tmp_path, content).values(), values)


def test_numbers_may_come_in_several_pieces(tmp_path: Path) -> None:
    pieces = w.block(4, struct.pack("<2f", 1, 2)) + w.key(4, 5) + struct.pack("<f", 3) + w.block(4, b"")
    tensor = read(tmp_path, w.tensor("t", dims=[3], dtype=1, more=pieces))
    assert tensor.values().tolist() == [1, 2, 3]


def test_bfloat16_becomes_float32(tmp_path: Path) -> None:
    bits = np.array([0x3F80, 0xC000, 0x7F80], np.uint16)
    for content in (
        w.tensor("t", dims=[3], dtype=16, raw=bits.tobytes()),
        w.tensor("t", dims=[3], dtype=16, more=w.block(5, b"".join(w.varint(int(bit)) for bit in bits))),
    ):
        tensor = read(tmp_path, content)
        assert tensor.dtype == "bfloat16"
        assert tensor.values().dtype == np.float32
        assert tensor.values().tolist() == [1, -2, float("inf")]


@pytest.mark.parametrize(
    ("number", "name", "n_bytes"), [(22, "int4", 3), (25, "uint2", 2), (27, "float6e2m3", 4)]
)
def test_numbers_of_less_than_a_byte_are_counted_and_not_read(
    number: int, name: str, n_bytes: int, tmp_path: Path
) -> None:
    tensor = read(tmp_path, w.tensor("t", dims=[5], dtype=number, raw=bytes(n_bytes)))
    assert (tensor.dtype, tensor.data.nbytes) == (name, n_bytes)
    with pytest.raises(OnnxError, match=f"'t' has values of the type {name}, which are not read"):
        tensor.values()


def test_strings_are_not_read(tmp_path: Path) -> None:
    tensor = read(tmp_path, w.tensor("t", dims=[1], dtype=8, more=w.block(6, b"text")))
    assert (tensor.dtype, tensor.data.nbytes) == ("string", 0)
    with pytest.raises(OnnxError, match="of the type string"):
        tensor.values()


@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3), (1, 1, 1, 1, 1, 1, 1, 1)])
def test_shapes_without_numbers_and_without_dimensions(shape: tuple[int, ...], tmp_path: Path) -> None:
    tensor = read(tmp_path, w.tensor("t", np.ones(shape, np.float32)))
    assert tensor.values().shape == shape


def test_weights_inside_the_file_are_views_on_its_map_wherever_they_start(tmp_path: Path) -> None:
    values = RNG.standard_normal((64, 64)).astype(np.float32)
    starts = set()
    for i in range(1, 5):
        tensor = read(tmp_path, w.tensor("t" * i, values))
        assert not tensor.data.flags.owndata
        assert not tensor.data.flags.writeable
        starts.add(tensor.data.ctypes.data % 4)
        np.testing.assert_array_equal(tensor.values(), values)
    assert len(starts) == 4


def test_packed_numbers_of_every_length() -> None:
    numbers = [0, 1, 127, 128, 16383, 16384, 2**31, 2**56, 2**63, 2**64 - 1]
    packed = np.frombuffer(b"".join(map(w.varint, numbers)), np.uint8)
    decoded = decode_varints(packed)
    assert decoded is not None
    assert decoded.tolist() == numbers
    assert decode_varints(packed[:0]) is not None
    assert decode_varints(packed[:-1]) is None
