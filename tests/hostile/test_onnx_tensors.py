"""Tensors of ONNX files whose sizes, types, names or numbers are wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from llorch.formats.onnx import tensors
from tests.support import onnx_writer as w
from tests.support.hostile_onnx import check

ONES = np.ones((2, 3), np.float32)
FLOATS = w.block(4, ONES.tobytes())

TENSORS = {
    "no name": (w.tensor("", ONES), "initializer 0 of the graph at offset .* has no name"),
    "a name that is no UTF-8": (w.tensor(b"\xff", ONES), "field 8 is not valid UTF-8"),
    "two names": (w.tensor("t", ONES, more=w.block(8, "u")), "field 8 stands twice"),
    "no type": (w.tensor("t", dims=[2], raw=bytes(8)), "'t' has the unknown data type 0"),
    "an unknown type": (w.tensor("t", ONES, dtype=77), "'t' has the unknown data type 77"),
    "a negative type": (w.tensor("t", ONES, dtype=-1), "'t' has the unknown data type -1"),
    "a type twice": (w.tensor("t", ONES, more=w.integer(2, 10)), "field 2 stands twice"),
    "a negative dimension": (w.tensor("t", ONES, dims=[2, -3]), "'t' has the dimension -3 at place 1"),
    "the smallest dimension": (w.tensor("t", ONES, dims=[-(2**63)]), "the dimension -9223372036854775808"),
    "an enormous dimension": (w.tensor("t", ONES, dims=[2**62]), r"\[4611686018427387904\], of more numbers than"),
    "a product that wraps to 0": (w.tensor("t", ONES, dims=[2**32, 2**32]), "more numbers than any file"),
    "a product that wraps to 6": (w.tensor("t", ONES, dims=[2**62 + 3, 4, 2]), "more numbers than any file"),
    "dimensions of 2^63 - 1": (w.tensor("t", ONES, dims=[2**63 - 1] * 16), "more numbers than any file"),
    "a petabyte": (w.tensor("t", ONES, dims=[2**48]), "has 24 bytes in `raw_data`; .* need 1125899906842624"),
    "too many dimensions": (w.tensor("t", ONES, dims=[1] * 17), "more than 16 dimensions"),
    "packed dimensions without an end": (w.block(1, b"\x80") + w.tensor("t", ONES), "ends inside a number"),
    "very many packed dimensions": (w.block(1, b"\1" * 200) + w.tensor("t", ONES), "has more than 16 numbers"),
    "dimensions that are floats": (w.key(1, 5) + bytes(4) + w.tensor("t", ONES), "field 1 has wire type 5"),
    "too few bytes": (w.tensor("t", ONES, raw=bytes(23)), r"'t' \[2, 3\] float32 has 23 bytes .* need 24"),
    "too many bytes": (w.tensor("t", ONES, raw=bytes(25)), "has 25 bytes in `raw_data`; its type and shape need 24"),
    "no bytes": (w.tensor("t", dims=[2], dtype=1), "has 0 bytes in `raw_data`; its type and shape need 8"),
    "bytes of an empty tensor": (w.tensor("t", ONES, dims=[0, 3]), "has 24 bytes in `raw_data`; .* need 0"),
    "half a number of 4 bits": (w.tensor("t", dims=[3], dtype=22, raw=b"1"), "has 1 bytes .* need 2"),
    "raw data twice": (w.tensor("t", ONES, more=w.block(9, ONES.tobytes())), "field 9 stands twice"),
    "raw data longer than the file": (w.tensor("t", dims=[2], dtype=1, more=w.block(9, b"", 2**40)), "behind the end"),
    "raw data of 2^63 bytes": (w.tensor("t", dims=[2], dtype=1, more=w.block(9, b"", 2**63)), "behind the end"),
    "raw data that are a number": (w.tensor("t", dims=[2], dtype=1, more=w.integer(9, 1)), "field 9 has wire type 0"),
    "raw data and numbers": (w.tensor("t", ONES, more=FLOATS), "numbers twice: in `float_data` and in `raw_data`"),
    "numbers of two types": (
        w.tensor("t", dims=[2, 3], dtype=1, more=FLOATS + w.block(7, b"\1" * 6)),
        "twice: in `float_data` and in `int64_data`",
    ),
    "numbers of another type": (
        w.tensor("t", dims=[2, 3], dtype=7, more=FLOATS),
        "has its numbers in `float_data`; `int64_data` or `raw_data` was expected",
    ),
    "too few floats": (w.tensor("t", dims=[7], dtype=1, more=FLOATS), "has 24 bytes in `float_data`; .* need 28"),
    "floats as integers": (w.tensor("t", dims=[1], dtype=1, more=w.integer(4, 1)), "field 4 has wire type 0"),
    "integers as floats": (w.tensor("t", dims=[1], dtype=7, more=w.key(7, 5) + bytes(4)), "field 7 has wire type 5"),
    "too few integers": (w.tensor("t", dims=[7], dtype=7, more=w.block(7, b"\1" * 6)), "has 6 numbers .* 7 were"),
    "an integer without an end": (w.tensor("t", dims=[2], dtype=7, more=w.block(7, b"\1\x80")), "malformed numbers"),
    "an integer of 11 bytes": (
        w.tensor("t", dims=[1], dtype=7, more=w.block(7, b"\x80" * 10 + b"\1")),
        "malformed numbers",
    ),
    "an integer too large": (w.tensor("t", dims=[1], dtype=3, more=w.integer(5, 128)), "do not fit its type"),
    "an integer too small": (w.tensor("t", dims=[1], dtype=3, more=w.integer(5, -129)), "do not fit its type"),
    "a negative number without sign": (w.tensor("t", dims=[1], dtype=2, more=w.integer(5, -1)), "do not fit its type"),
    "a truth value of 2": (w.tensor("t", dims=[1], dtype=9, more=w.integer(5, 2)), "do not fit its type"),
    "a float16 of 17 bits": (w.tensor("t", dims=[1], dtype=10, more=w.integer(5, 1 << 16)), "do not fit its type"),
    "strings as bytes": (w.tensor("t", dims=[1], dtype=8, raw=b"a"), "has strings outside `string_data`"),
    "a segment": (w.tensor("t", ONES, more=w.block(3, w.integer(1, 0) + w.integer(2, 3))), "is a segment of another"),
    "an unknown place of data": (w.tensor("t", ONES, raw=b"", more=w.integer(14, 7)), "has the data location 7"),
    "data of unknown place and inside": (w.tensor("t", ONES, more=w.integer(14, 7)), "twice"),
}  # fmt: skip


@pytest.mark.parametrize("kind", TENSORS)
def test_a_tensor_that_lies_is_refused(kind: str, tmp_path: Path) -> None:
    content, said = TENSORS[kind]
    check(tmp_path, w.identity_model(content), said)


@pytest.mark.parametrize(
    "kind", ["a negative dimension", "an enormous dimension", "too few bytes", "an unknown type"]
)
def test_the_constant_of_a_node_is_checked_alike(kind: str, tmp_path: Path) -> None:
    content, said = TENSORS[kind]
    node = w.node("Constant", [], ["y"], w.attribute("value", content))
    check(tmp_path, w.model(w.graph([node], outputs=[w.value_info("y")])), f"the constant .*{said}")


def test_two_tensors_of_one_name_are_refused(tmp_path: Path) -> None:
    check(
        tmp_path,
        w.identity_model(w.tensor("t", ONES), w.tensor("t", ONES)),
        "initializer 't' stands there twice",
    )


def test_numbers_that_would_have_to_be_copied_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensors, "MAX_COPIED_BYTES", 1000)
    content = w.identity_model(w.tensor("t", dims=[1001], dtype=7, more=w.block(7, bytes(1001))))
    check(tmp_path, content, "1001 bytes that would have to be copied; .* write it as `raw_data`")


@pytest.mark.parametrize("more", [b"", w.block(2, w.tensor("i", np.zeros(1, np.int64)))])
def test_a_sparse_tensor_without_values_is_refused(more: bytes, tmp_path: Path) -> None:
    content = w.model(w.graph(more=w.block(15, more)))
    check(tmp_path, content, "the sparse initializer at offset .* has no values")
