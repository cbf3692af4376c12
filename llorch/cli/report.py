"""`llorch report TRACE|BUNDLE [TRACE|BUNDLE] -o report.html`: one page that joins time and truth."""

from __future__ import annotations

import argparse
from pathlib import Path

from llorch.cli import console
from llorch.cli.options import add_json
from llorch.convert.written_beside import check_place, written_beside
from llorch.errors import InputError
from llorch.formats.printed import printable
from llorch.report.bundle_figures import BundleFigures, read_bundle
from llorch.report.document import page_of
from llorch.report.trace_file import TraceSummary, read_trace


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument(
        "sources",
        nargs="+",
        type=Path,
        metavar="TRACE|BUNDLE",
        help="a file that `llorch trace` wrote, the folder of a proof bundle, or one of each",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        default=Path("report.html"),
        help="where the page goes; a file that is there is replaced (default: report.html)",
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Write the page."""
    folders = [path for path in args.sources if path.is_dir()]
    files = [path for path in args.sources if not path.is_dir()]
    if len(folders) > 1 or len(files) > 1:
        raise InputError(
            f"one trace and one bundle at most, got {len(files)} files and {len(folders)} folders"
        )
    if any(args.output.parent.samefile(folder) for folder in folders):
        raise InputError(
            f"{printable(args.output)} would be in the bundle, where nothing else belongs; write elsewhere"
        )
    check_place(args.output, tuple(path for path in files if path.exists()))
    trace: TraceSummary | None = read_trace(files[0]) if files else None
    figures: BundleFigures | None = read_bundle(folders[0]) if folders else None
    page = page_of(trace, figures).encode()
    with written_beside(args.output, len(page), check=lambda _: None) as file:
        file.write(0, page)
    if args.json:
        console.print_json({"path": str(args.output)})
    else:
        print(f"{printable(args.output)}: open it in a browser; it needs no network")
    return 0
