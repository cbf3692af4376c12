"""Some layers of a trace as a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tools.trace.trace_picture import main, slices_of


def slice_of(
    name: str, thread: int, ts: float, dur: float, layer: int, category: str = "operation"
) -> dict[str, Any]:
    args = {"layer": layer, "step": 1, "rows": 1, "roofline": 0.5} if category == "operation" else {}
    return {
        "ph": "X",
        "cat": category,
        "name": name,
        "pid": 1,
        "tid": thread,
        "ts": ts,
        "dur": dur,
        "args": args,
    }


EVENTS = [
    slice_of("ffn_up", 1, 0, 10, 0),
    slice_of("ffn_up", 1, 20, 30, 1),
    slice_of("ffn_up", 2, 20, 20, 1),
    slice_of("barrier", 2, 40, 10, -1, "barrier"),
    slice_of("barrier", 2, 60, 10, -1, "barrier"),
    {"ph": "M", "name": "thread_name", "pid": 1, "tid": 1, "args": {"name": "thread 0"}},
]


def test_only_the_layers_asked_for_and_the_waits_between_them_are_taken() -> None:
    assert slices_of(EVENTS, 1, range(1, 2)) == EVENTS[1:4]
    assert slices_of(EVENTS, 2, range(1, 2)) == []


def test_a_picture_has_a_row_for_each_thread(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace, picture = tmp_path / "trace.json", tmp_path / "trace.png"
    about = {"model": {"name": "tiny"}, "kernel_path": "avx2"}
    trace.write_text(json.dumps({"traceEvents": EVENTS, "llorch": about}))
    assert main([str(trace), "--layers", "0", "-o", str(picture)]) == 0
    with Image.open(picture) as image:
        one_thread = image.height
    assert main([str(trace), "--layers", "0-1", "-o", str(picture)]) == 0
    with Image.open(picture) as image:
        assert image.height > one_thread
    assert main([str(trace), "--step", "9", "-o", str(picture)]) == 2
    assert "no operation of step 9" in capsys.readouterr().err
