"""`llorch trace --server URL`: the timeline of a running server in place of a run of its own."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

from llorch.cli import console
from llorch.convert.written_beside import written_beside
from llorch.errors import InputError
from llorch.fields.api_keys import split_key
from llorch.formats.printed import printable
from llorch.settings import Settings
from llorch.trace import viewer
from llorch.trace.from_server import fetch_trace

SECONDS = 5.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument(
        "--server",
        metavar="URL",
        help="take the timeline of this server instead; its admin key is in LLORCH_ADMIN_KEY",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        metavar="N",
        default=SECONDS,
        help=f"with --server: for so long (default: {SECONDS:g})",
    )


def run(args: argparse.Namespace, settings: Settings, path: Path) -> int:
    """Fetch the file."""
    if args.prompt is not None:
        raise InputError("--server: it shows the requests of the server, and takes no PROMPT")
    for flag in ("summary", "plot", "observed", "simulate", "reference"):
        if getattr(args, flag):
            raise InputError(f"--{flag}: it needs a run of this command's own, not one of --server")
    if not (math.isfinite(args.seconds) and 0 < args.seconds <= 600):
        raise InputError(f"--seconds: expected 0 < N <= 600, got {args.seconds:g}")
    keys = settings.admin_key and settings.admin_key.get_secret_value()
    key = split_key(keys.split("\n")[0])[1] if keys else None
    content = fetch_trace(args.server, key, args.seconds)
    n_events = len(json.loads(content)["traceEvents"])
    with written_beside(path, len(content), check=lambda _: None) as file:
        file.write(0, content)
    if args.json:
        console.print_json({"path": str(path), "n_events": n_events})
    else:
        print(f"{printable(path)}: {n_events} events. {viewer.VIEWER} opens it (Open trace file).")
    if args.open:
        viewer.show(path)
    return 0
