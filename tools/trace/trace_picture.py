#!/usr/bin/env python3
"""Draw some layers of one step of a trace: what each thread did, as README shows it.

    llorch trace "Once upon a time" -m 1.1B.gguf -n 8 -o trace.json
    python -m tools.trace.trace_picture trace.json --step 5 --layers 8-9 -o docs/pictures/trace.png

Needs matplotlib (extra `plots`).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tools.trace.gantt import COLOURS, OTHER

BARRIER = "#f3d7d7"
CHARACTERS = 165
"""As many as go into a row: a bar has a name in it if that fits."""


def slices_of(events: Sequence[dict[str, Any]], step: int, layers: range) -> list[dict[str, Any]]:
    """Operations of these layers of a step on all threads, and the barriers between their first begin and last end."""
    operations = [
        event
        for event in events
        if event.get("cat") == "operation"
        and event["args"]["step"] == step
        and event["args"]["layer"] in layers
    ]
    if not operations:
        return []
    begin = min(event["ts"] for event in operations)
    end = max(event["ts"] + event["dur"] for event in operations)
    barriers = [
        e for e in events if e.get("cat") == "barrier" and begin <= e["ts"] and e["ts"] + e["dur"] <= end
    ]
    return [*operations, *barriers]


def _ink(colour: str) -> str:
    """Black or white, whichever is read better on a colour ``#rrggbb``."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "black" if 2 * red + 5 * green + blue > 1000 else "white"


def draw(slices: Sequence[dict[str, Any]], title: str, path: Path) -> None:
    """Draw slices as a PNG: a row for each thread."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    begin = min(event["ts"] for event in slices)
    whole = max(event["ts"] + event["dur"] for event in slices) - begin
    threads = sorted({(event["pid"], event["tid"]) for event in slices})
    figure, axes = plt.subplots(figsize=(11.5, 1.1 + 0.75 * len(threads)))
    for event in slices:
        row, left = threads.index((event["pid"], event["tid"])), event["ts"] - begin
        is_barrier = event["cat"] == "barrier"
        colour = BARRIER if is_barrier else COLOURS.get(event["name"], OTHER)
        axes.barh(row, event["dur"], left=left, height=0.8, color=colour, edgecolor="white", linewidth=0.5)
        if not is_barrier and len(event["name"]) < CHARACTERS * event["dur"] / whole:
            share = event["args"].get("roofline")
            words = f"{share:.0%} of roof" if share else ""
            words = words if len(words) < CHARACTERS * event["dur"] / whole else ""
            axes.text(
                left + event["dur"] / 2, row, f"{event['name']}\n{words}".strip(), ha="center", va="center",
                fontsize=8, clip_on=True, color=_ink(colour),
            )  # fmt: skip
    axes.set_yticks(range(len(threads)), [f"thread {i}" for i in range(len(threads))])
    axes.invert_yaxis()
    axes.set_xlim(0, whole)
    axes.set_xlabel("microseconds; pale: waiting for the other threads")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(title, loc="left", fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    plt.close(figure)


def main(words: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("trace", type=Path, help="a file of llorch trace")
    parser.add_argument("--step", type=int, default=1, help="number of the step (1)")
    parser.add_argument("--layers", default="0-1", metavar="FIRST-LAST", help="layers (0-1)")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.png")
    args = parser.parse_args(words)
    first, _, last = args.layers.partition("-")
    layers = range(int(first), int(last or first) + 1)
    document = json.loads(args.trace.read_text("utf-8"))
    slices = slices_of(document["traceEvents"], args.step, layers)
    if not slices:
        print(
            f"trace_picture: {args.trace} has no operation of step {args.step} in layers {args.layers}",
            file=sys.stderr,
        )
        return 2
    about = document["llorch"]
    rows = slices[0]["args"]["rows"]
    title = (
        f"{about['model']['name']}, layers {args.layers} of step {args.step} ({rows} row{'s' if rows != 1 else ''}), "
        f"{about['kernel_path']} kernels"
    )
    draw(slices, title, args.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
