"""`llorch trace --summary --plot FILE --observed`: where the time went, as text, numbers or a picture."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from llorch.bench.picture import check_picture, write
from llorch.errors import InputError
from llorch.formats.printed import printable
from llorch.trace.pictures import summary_picture
from llorch.trace.summary import Summary
from llorch.trace.summary_text import summary_text


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument(
        "--summary", action="store_true", help="print where the time went, by operation and layer"
    )
    parser.add_argument(
        "--plot", metavar="FILE", help="draw that into a PNG, beside the roofline (extra: plots)"
    )
    parser.add_argument(
        "--observed",
        action="store_true",
        help="run the program that shows every value: scores and the softmax's passes apart, more slowly",
    )


def check(args: argparse.Namespace) -> None:
    """Refuse, before anything is computed, a picture that could not be drawn or written.

    Raises:
        InputError: it cannot.
    """
    if args.plot is not None:
        check_picture(Path(args.plot))
        if Path(args.plot).resolve() == Path(args.output).resolve():
            raise InputError(
                f"--plot: expected another file than that of -o, got {printable(args.plot)} for both"
            )


def show(args: argparse.Namespace, summary: Summary, model: str) -> dict[str, Any]:
    """Print the summary and write the picture, where that is wanted; returns what ``--json`` says of them."""
    shown: dict[str, Any] = {}
    if args.plot is not None:
        write(summary_picture(summary, model), Path(args.plot))
        shown["plot"] = args.plot
    if args.summary:
        shown["summary"] = summary.described()
        if not args.json:
            print(summary_text(summary) + "\n")
    return shown
