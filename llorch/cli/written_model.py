"""What commands that write a model share: their flags, and what they say while they write it and behind it."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from llorch.cli import console
from llorch.cli.options import add_field, add_json, settings_from

if TYPE_CHECKING:
    from llorch.convert.quantize import Plan
    from llorch.formats.protocol import ModelSource
    from llorch.settings import Settings


def add_places(parser: argparse.ArgumentParser, read: str) -> None:
    """Add `IN` and `OUT`, which stand in place of -m; `read` says what the first is."""
    for action in parser._actions:
        if action.dest == "model":
            action.help = argparse.SUPPRESS
    parser.add_argument("input", metavar="IN", help=read)
    parser.add_argument("output", metavar="OUT", type=Path, help="file to write; it is replaced if it exists")


def add_writing_options(parser: argparse.ArgumentParser) -> None:
    """Add the flags of every command that writes a model."""
    parser.add_argument(
        "--pure",
        action="store_true",
        help="one type for all matrices, instead of more bits where they matter most",
    )
    add_field(parser, "threads")
    add_json(parser)


def settings_without_model(args: argparse.Namespace) -> Settings:
    """The settings of a command to which `IN` says which model is read."""
    from llorch.errors import SettingsError

    if "model" in args:
        raise SettingsError("-m/--model: IN says which model is read")
    return settings_from(args)


def write_model(
    source: ModelSource, plan: Plan, args: argparse.Namespace, n_read: int, n_threads: int
) -> None:
    """Write what is planned, then say how large it is and how long it took.

    Args:
        source: the model that the plan was made for.
        plan: what to write.
        args: `output` and `json` of the command line.
        n_read: size of the model that is read.
        n_threads: how many convert at once; 0 as many as suit the machine.
    """
    from llorch.convert.quantize import write_quantized
    from llorch.formats.printed import printable
    from llorch.machine.threads import default_threads

    wanted, n_bytes, size = plan.wanted, plan.layout.n_bytes, console.human_bytes
    console.note(f"{printable(source.path)}: {size(n_read)}; as {wanted.name}: {size(n_bytes)}")
    if plan.requantised:
        console.note(f"{len(plan.requantised)} tensors are quantised already: the result is less precise")
    if plan.n_unfit:
        block = wanted.quant.block_size
        console.note(f"{plan.n_unfit} tensors get another type: their rows are no multiple of {block}")
    started_s = time.perf_counter()
    with console.Progress() as progress:

        def with_speed(what: str, done: int, total: int) -> None:
            progress(f"{_speed(done, started_s)} {what}", done, total)

        write_quantized(source, plan, n_threads=n_threads or default_threads()[0], progress=with_speed)
    seconds = time.perf_counter() - started_s
    if args.json:
        console.print_json({"path": str(args.output), "type": wanted.name, "bytes": n_bytes})
    else:
        speed = _speed(n_bytes, started_s)
        print(f"{printable(args.output)}: {wanted.name}, {size(n_bytes)} in {seconds:.1f} s ({speed})")


def _speed(n_bytes: int, started_s: float) -> str:
    return f"{n_bytes / 1e6 / max(1e-9, time.perf_counter() - started_s):.1f} MB/s"
