"""Messages on the wire: a field of each type worked out by hand, and messages that lie."""

from __future__ import annotations

import pytest

from llorch.errors import ModelError, OnnxError
from llorch.formats.protobuf import BYTES, FIXED_32, FIXED_64, VARINT, Message


def message(raw: bytes) -> Message:
    return Message(raw, 0, len(raw), "m.onnx", OnnxError)


def test_a_field_of_each_type() -> None:
    raw = b"\x08\x96\x01" + b"\x11" + bytes(7) + b"\x40" + b"\x1a\x02hi" + b"\x25\x00\x00\x80\x3f"
    m = message(raw)
    fields = list(m.fields())
    assert [(f.number, f.wire_type) for f in fields] == [
        (1, VARINT),
        (2, FIXED_64),
        (3, BYTES),
        (4, FIXED_32),
    ]
    assert m.signed(fields[0]) == 150
    assert m.text(fields[2]) == "hi"
    assert m.float32(fields[3]) == 1.0


def test_negative_numbers_take_ten_bytes() -> None:
    m = message(b"\x08" + b"\xff" * 9 + b"\x01")
    (field,) = m.fields()
    assert m.signed(field) == -1
    assert m.numbers(field) == [-1]


def test_repeated_numbers_may_be_packed() -> None:
    m = message(b"\x0a\x03\x01\xac\x02")
    (field,) = m.fields()
    assert m.numbers(field) == [1, 300]


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"\x0a\x05hi", "reaches to offset 7"),
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "reaches to offset"),
        (b"\x08", "ends inside a number"),
        (b"\x08" + b"\xff" * 11, "more than 10 bytes"),
        (b"\x00\x01", "field number 0"),
        (b"\x0b", "wire type 3"),
        (b"\x15\x01", "reaches to offset 5"),
    ],
)
def test_a_message_that_lies_is_refused(raw: bytes, said: str) -> None:
    with pytest.raises(OnnxError, match=said):
        list(message(raw).fields())


def test_a_field_of_another_type_than_expected_is_refused() -> None:
    m = message(b"\x08\x01")
    (field,) = m.fields()
    for read in (m.text, m.float32, m.message):
        with pytest.raises(ModelError, match="was expected"):
            read(field)
