"""Damaged copies of ONNX files: each is a model, or is refused by one clear error, at once and in little memory."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest

from llorch.errors import InputError
from llorch.formats.onnx.model import OnnxModel
from tests.support import onnx_writer as w
from tests.support.mutants import mutants, overwrite
from tests.support.onnx_exports import unpack
from tests.support.onnx_llama import DATA, llama_graph
from tests.support.protobuf_mutants import field_mutants

MAX_SECONDS = 4.0
"""Of CPU time for one file."""
MAX_BYTES = 512 << 20
"""Of address space that the process may take beyond what it has."""


def other_constructs() -> bytes:
    """A model with what the Llama beside it lacks: constants, a nested graph, a function."""
    shape = w.tensor("", dims=[2], dtype=7, more=w.block(7, w.varint(-1) + w.varint(4)))
    body = w.graph([w.node("Neg", ["b"], ["d"])], outputs=[w.value_info("d")])
    halves = w.tensor("q", dims=[2], dtype=10, more=w.integer(5, 0x3C00) + w.integer(5, 0x4000))
    outside = w.tensor("k", dims=[4, 4], dtype=1, external={"location": DATA, "offset": "64", "length": "64"})
    nodes = [
        w.node("Mul", ["x", "q"], ["a"], name="/layers.0/Mul"),
        w.node("Norm", ["a", "k"], ["b"], w.attribute("epsilon", 1e-5), domain="local"),
        w.node("Constant", [], ["c"], w.attribute("value", shape)),
        w.node("If", ["c"], ["e"], w.attribute("then_branch", body, 5)),
        w.node("Transpose", ["e"], ["y"], w.attribute("perm", [0, 1]), w.attribute("strings", ["u", "v"])),
    ]
    norm = w.node("Mul", ["v", "g"], ["out"], w.reference("epsilon", "epsilon", 1))
    functions = [w.function("Norm", "local", ("v", "g"), ("out",), [norm])]
    values = w.block(1, w.tensor("s", np.ones(1, np.float32))) + w.integer(3, 9)
    content = w.graph(
        nodes,
        [halves, outside],
        [w.value_info("x", 1, ["n", 4])],
        [w.value_info("y")],
        more=w.block(15, values),
    )
    metadata = w.block(14, w.pair("source", "hand"))
    return w.model(content, opsets={"": 17, "local": 1}, functions=functions, more=metadata)


def damaged(original: bytes, n: int, kind: str, seed: int) -> Iterator[bytes]:
    """`n` copies with other ``"bytes"`` or ``"fields"``."""
    if kind == "bytes":
        return mutants(original, n, seed=seed, reach=len(original))
    return field_mutants(original, n, seed=seed)


@contextmanager
def bounded_memory() -> Iterator[None]:
    """Any allocation beyond the bound is a `MemoryError`."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MAX_BYTES, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def problem_of(path: Path) -> str:
    """What is wrong with a model, ``""`` if nothing is; fails if that takes long, or is not one short line."""
    start = time.thread_time()
    message = ""
    try:
        with closing(OnnxModel(path)) as source:
            source.inventory()
            assert source.metadata
            for tensor in source.tensors.values():
                tensor.all_rows()
    except InputError as error:
        message = str(error)
    assert time.thread_time() - start < MAX_SECONDS
    assert message.isprintable()
    assert len(message) < 1000
    return message


@pytest.mark.parametrize("name", ["llama", "others"])
@pytest.mark.parametrize("kind", ["bytes", "fields"])
@pytest.mark.parametrize(
    ("seed", "n"), [(1, 60), pytest.param(2, 2500, marks=[pytest.mark.slow, pytest.mark.timeout(900)])]
)
def test_mutants_are_models_or_refused(seed: int, n: int, kind: str, name: str, tmp_path: Path) -> None:
    llama, data, _ = llama_graph(n_layers=1, is_external=True)
    original = llama if name == "llama" else other_constructs()
    w.write(tmp_path / DATA, data)
    overwrite(tmp_path / "m.onnx", original)
    assert ("not" in problem_of(tmp_path / "m.onnx")) == (name == "others")
    copies = damaged(original, n, kind, seed)
    n_refused = 0
    with bounded_memory():
        for content in copies:
            overwrite(tmp_path / "m.onnx", content)
            n_refused += problem_of(tmp_path / "m.onnx") != ""
    assert n_refused > n // 3
    assert name == "others" or n_refused < n


@pytest.mark.parametrize("kind", ["bytes", "fields"])
@pytest.mark.parametrize(
    ("name", "n"),
    [
        ("genai", 8),
        *(
            pytest.param(name, n, marks=[pytest.mark.slow, pytest.mark.timeout(900)])
            for name, n in (
                ("genai_int4", 300),
                ("dynamo_past", 150),
                ("optimum_past", 150),
                ("torchscript_f16", 150),
            )
        ),
    ],
)
def test_mutants_of_real_exports_are_models_or_refused(name: str, n: int, kind: str, tmp_path: Path) -> None:
    path = unpack(name, tmp_path)
    copies = damaged(path.read_bytes(), n, kind, seed=6)
    with bounded_memory():
        for content in copies:
            overwrite(path, content)
            problem_of(path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bytes", "fields"])
def test_mutants_of_other_constructs_open_or_are_refused_when_they_are_read(
    kind: str, tmp_path: Path
) -> None:
    original = other_constructs()
    w.write(tmp_path / DATA, bytes(1 << 12))
    copies = damaged(original, 2500, kind, seed=5)
    n_opened = 0
    with bounded_memory():
        for content in copies:
            overwrite(tmp_path / "m.onnx", content)
            try:
                with closing(OnnxModel(tmp_path / "m.onnx")) as source:
                    n_opened += bool(source.inventory())
            except InputError as error:
                assert str(error).isprintable()  # noqa: PT017 - most of them are refused, some are not
    assert 50 < n_opened < 2500
