"""Malformed ONNX files: the one clear error that opening each must raise."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from llorch.errors import OnnxError
from llorch.formats.onnx.model import OnnxModel
from tests.support import onnx_writer as w
from tests.support.hostile_files import error_of
from tests.support.mutants import overwrite

MAX_BYTES = 8 << 20
NAME = "hostile.onnx"


def refused(path: Path) -> str:
    """Message of the error that opening `path` raises; fails when that takes long or much memory."""

    def open_it() -> None:
        with closing(OnnxModel(path)):
            pass

    return error_of(open_it, OnnxError, names=path.name, max_bytes=MAX_BYTES)


def check(tmp_path: Path, content: bytes, pattern: str) -> None:
    """Write `content` and check the error about it."""
    overwrite(tmp_path / NAME, content)
    message = refused(tmp_path / NAME)
    assert re.search(pattern, message), message


def with_nodes(*nodes: bytes, outputs: Iterable[str] = ("y",), functions: Iterable[bytes] = ()) -> bytes:
    """A model with the input ``x``, these nodes and outputs."""
    content = w.graph(nodes, (), [w.value_info("x", 1, [3])], [w.value_info(name) for name in outputs])
    return w.model(content, functions=functions)
