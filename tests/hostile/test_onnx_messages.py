"""ONNX files that are something else, are cut off, or lie about lengths, versions and names."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from llorch.formats.onnx import budget
from tests.support import onnx_writer as w
from tests.support.hostile_onnx import NAME, check, refused

GOOD = w.identity_model()
PROMISES = (1 << 31, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)

OTHER_FILES = {
    "a text": (b"# Model card\n\nThis is a model.\n", "wire type 3 of field 4"),
    "a web page": (b"<!DOCTYPE html><html></html>", "wire type 4.*is it an ONNX model"),
    "JSON": (b'{"model_type": "llama"}', "wire type 3"),
    "zeros": (bytes(4096), "field number 0"),
    "ones": (b"\xff" * 4096, "more than 10 bytes"),
    "a GGUF file": (b"GGUF" + struct.pack("<IQQ", 3, 0, 0), "is it an ONNX model"),
    "a ZIP file": (b"PK\x03\x04" + bytes(60), "is it an ONNX model"),
    "a safetensors file": (struct.pack("<Q", 2) + b"{}", "is it an ONNX model"),
    "a SentencePiece model": (w.block(1, w.block(1, "<unk>") + b"\x15\0\0\0\0"), "field 1 has wire type 2"),
    "a graph without a model": (w.graph([w.node("Identity", ["x"], ["y"])]), "is it an ONNX model"),
    "a pointer of Git LFS": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        "is it an ONNX model",
    ),
}


@pytest.mark.parametrize("kind", OTHER_FILES)
def test_another_file_is_none(kind: str, tmp_path: Path) -> None:
    content, said = OTHER_FILES[kind]
    check(tmp_path, content, said)


def test_an_empty_file_is_none(tmp_path: Path) -> None:
    (tmp_path / NAME).touch()
    assert "is empty; an ONNX model was expected" in refused(tmp_path / NAME)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("nothing")])
def test_what_is_no_file_is_never_opened(make, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    make(tmp_path / NAME)
    refused(tmp_path / NAME)


@pytest.mark.parametrize("n_bytes", range(1, len(GOOD)))
def test_a_file_that_is_cut_off_is_refused_wherever_that_is(n_bytes: int, tmp_path: Path) -> None:
    check(
        tmp_path, GOOD[:n_bytes], "is the download complete|holds no graph|opset|ends inside|behind the end"
    )


MODELS = {
    "no graph": (w.integer(1, 8) + w.block(8, w.opset_id("", 17)), "holds no graph"),
    "two graphs": (GOOD + w.block(7, w.graph()), "field 7 stands twice"),
    "two IR versions": (GOOD + w.integer(1, 8), "field 1 stands twice"),
    "no IR version": (w.model(w.graph(), ir_version=0), "IR version 0; 3 to 14 are supported"),
    "an IR version of the future": (w.model(w.graph(), ir_version=99), "IR version 99"),
    "a negative IR version": (w.model(w.graph(), ir_version=-1), "IR version -1"),
    "no opset": (w.model(w.graph(), opsets={}), "does not say which version"),
    "the opset of another domain": (w.model(w.graph(), opsets={"com.microsoft": 1}), "does not say which version"),
    "an old opset": (w.model(w.graph(), opsets={"": 7}), "opset 7.*13 to 28 are supported: export it"),
    "an opset of the future": (w.model(w.graph(), opsets={"": 2**40}), "opset 1099511627776"),
    "two opsets of one domain": (
        w.model(w.graph(), more=w.block(8, w.opset_id("ai.onnx", 18))),
        "two versions of the operations ''",
    ),
    "a graph that is a number": (w.integer(1, 8) + w.integer(7, 3), "field 7 has wire type 0"),
    "a version that is a text": (w.block(1, "8"), "field 1 has wire type 2"),
    "a group": (GOOD + w.key(9, 3), "wire type 3 of field 9"),
    "an unknown wire type": (GOOD + w.key(9, 6), "wire type 6 of field 9"),
    "field number 0": (GOOD + b"\x02\0", "field number 0"),
    "an endless number": (b"\x08" + b"\xff" * 60, "more than 10 bytes"),
    "an endless length": (b"\x3a" + b"\x80" * 60, "more than 10 bytes"),
    "a producer that is no UTF-8": (GOOD.replace(b"hand", b"h\xff\xfe\x80"), "field 2 is not valid UTF-8"),
    "a domain that is no UTF-8": (
        w.model(w.graph(), more=w.block(8, w.opset_id(b"\xc0\x80", 1))),
        "field 1 is not valid UTF-8",
    ),
    "metadata that are no message": (w.model(w.graph(), more=w.block(14, b"\x0a\x50abc")), "behind the end"),
}  # fmt: skip


@pytest.mark.parametrize("kind", MODELS)
def test_a_model_that_lies_is_refused(kind: str, tmp_path: Path) -> None:
    content, said = MODELS[kind]
    check(tmp_path, content, said)


@pytest.mark.parametrize("n_bytes", PROMISES)
@pytest.mark.parametrize("number", [2, 7, 8, 14, 25])
def test_a_length_beyond_the_file_is_refused(number: int, n_bytes: int, tmp_path: Path) -> None:
    check(tmp_path, w.integer(1, 8) + w.block(number, b"abc", n_bytes), f"field {number} reaches to offset")


GRAPHS = {
    "a node of no operation": (w.graph([w.block(1, "x")]), "node '' at offset .* has no operation"),
    "an operation that is no UTF-8": (w.graph([w.node(b"\xff", [], [])]), "field 4 is not valid UTF-8"),
    "a name that is no UTF-8": (w.graph([w.node("Add", [], [], name=b"\xed\xa0\x80")]), "field 3 is not valid UTF-8"),
    "an input that is no UTF-8": (w.graph([w.node("Add", [b"\xfe"], [])]), "field 1 is not valid UTF-8"),
    "an enormous name": (w.graph([w.node("Add", [], [], name="n" * 70_000)]), "has 70000 bytes"),
    "two names": (w.graph([w.node("Add", [], [], more=w.block(3, "n"))]), "field 3 stands twice"),
    "a node that is a number": (w.graph(more=w.integer(1, 4)), "field 1 has wire type 0"),
    "a node longer than its graph": (w.graph(more=w.block(1, b"\x0a", 99)), "behind the end of its message"),
    "an input without a name": (w.graph(inputs=[b""]), "input or output at offset .* has no name"),
    "an input of an unknown type": (w.graph(inputs=[w.value_info("x", 99)]), "unknown data type 99"),
    "an input of negative size": (w.graph(inputs=[w.value_info("x", 1, [-4])]), "the dimension -4"),
    "two inputs of one name": (w.graph(inputs=[w.value_info("x")] * 2), "the input 'x' stands there twice"),
    "an attribute without a name": (
        w.graph([w.node("Add", [], [], w.attribute("", 1))]),
        "attribute at offset .* has no name",
    ),
    "an attribute twice": (
        w.graph([w.node("Add", [], [], w.attribute("axis", 1), w.attribute("axis", 2), name="n")]),
        "node 'n' has the attribute 'axis' twice",
    ),
    "an attribute of an unknown kind": (
        w.graph([w.node("Add", [], [], w.attribute("axis", 1, 99))]),
        "attribute 'axis' .*",
    ),
    "an attribute of another kind": (
        w.graph([w.node("Add", [], [], w.attribute("axis", 1, 7))]),
        "is of kind 7 and has a value of kind 2",
    ),
    "a graph of an attribute that is none": (
        w.graph([w.node("If", [], [], w.block(1, "then") + w.integer(20, 5))]),
        "of kind 5 has no value",
    ),
    "a sparse tensor in an attribute": (
        w.graph([w.node("Constant", [], ["c"], w.block(1, "sparse_value") + w.block(22, b""))]),
        "'sparse_value' holds a sparse tensor, which is not read",
    ),
    "a type in an attribute": (
        w.graph([w.node("Optional", [], ["c"], w.block(1, "type") + w.block(14, b""))]),
        "'type' holds a type, which is not read",
    ),
    "a float that is a list": (
        w.graph([w.node("Add", [], [], w.block(1, "a") + w.block(2, b"") + w.integer(20, 1))]),
        "field 2 has wire type 2",
    ),
    "half a number in a list": (
        w.graph([w.node("Add", [], [], w.block(1, "a") + w.block(7, b"abcde") + w.integer(20, 6))]),
        "5 bytes .* floats have 4 each",
    ),
    "numbers without an end in a list": (
        w.graph([w.node("Add", [], [], w.block(1, "a") + w.block(8, b"\x80\x80") + w.integer(20, 7))]),
        "ends inside a number",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", GRAPHS)
def test_a_graph_that_lies_is_refused(kind: str, tmp_path: Path) -> None:
    content, said = GRAPHS[kind]
    check(tmp_path, w.model(content), said)


def test_a_list_of_very_many_numbers_is_not_read(tmp_path: Path) -> None:
    content = w.block(1, "a") + w.block(8, bytes(11 << 20)) + w.integer(20, 7)
    check(tmp_path, w.model(w.graph([w.node("Add", [], [], content)])), "has more than 1048576 numbers")


@pytest.mark.parametrize(
    ("limit", "content", "said"),
    [
        ("MAX_FIELDS", w.model(w.graph(more=w.block(13, b"") * 3000)), "more than 2000 fields"),
        ("MAX_NODES", w.model(w.graph([w.node("Add", [], [])] * 2001)), "more than 2000 nodes"),
    ],
)
def test_what_is_read_of_a_file_is_bounded(
    limit: str, content: bytes, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "MAX_FIELDS", 1 << 30)
    monkeypatch.setattr(budget, limit, 2000)
    check(tmp_path, content, said)
