"""Traces of the tiny model, which has llama.cpp's dumps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llorch.cli.main import main
from llorch.report.trace_file import TraceSummary, read_trace
from tests.support.proof import GOLDEN

TINY_MODEL = GOLDEN / "tiny.gguf"
TINY_REFERENCE = GOLDEN / "tiny-native"


def trace_tiny(path: Path, *words: str) -> dict[str, Any]:
    """Trace the tiny model on its reference's prompt, greedily, and read the file."""
    command = ["trace", "-m", str(TINY_MODEL), "-o", str(path), "--temperature", "0", "--warm", "0", *words]
    assert main(command) == 0
    document: dict[str, Any] = json.loads(path.read_text())
    return document


def operations_of(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Slices of operations on the first thread, in order."""
    slices = [e for e in document["traceEvents"] if e["ph"] == "X" and e["cat"] == "operation"]
    first = min(e["tid"] for e in slices)
    return [e for e in slices if e["tid"] == first]


def summary_of(path: Path, **changes: Any) -> TraceSummary:
    """The summary of a trace file, with something changed."""
    return read_trace(path).model_copy(update=changes)
