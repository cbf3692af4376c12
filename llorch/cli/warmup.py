"""`llorch warmup`: compile the kernels now, so that no later start has to."""

from __future__ import annotations

import argparse
import time

from llorch import kernels
from llorch.cli import console
from llorch.cli.options import add_field, add_json, settings_from
from llorch.errors import InputError
from llorch.kernels import paths
from llorch.machine.cpu import model_name
from llorch.open_model import compile_kernels_for


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command."""
    parser.add_argument(
        "--all", action="store_true", help="the kernels of every weight format, not only those of the model"
    )
    add_field(parser, "kv_type")
    add_field(parser, "weights")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Compile or load what the model needs, or everything, and say how long it took."""
    if args.all and "model" in args:
        raise InputError("--all compiles everything, -m FILE what that file needs: give one of them")
    settings = settings_from(args)
    n_units = 0
    started_s = time.perf_counter()
    with console.Progress() as progress:

        def report(what: str, done: int, total: int) -> None:
            nonlocal n_units
            n_units = max(n_units, total)
            progress(what, done, total)

        if args.all:
            was_cached = kernels.compile_all(report)
        else:
            was_cached = compile_kernels_for(
                settings.model, weights=settings.weights, kv_type=settings.kv_type, progress=report
            )
    seconds = time.perf_counter() - started_s
    if args.json:
        document = {"units": n_units, "seconds": round(seconds, 3), "cached": was_cached}
        console.print_json(document | {"kernels": paths.describe()})
    else:
        how = "loaded from the cache" if was_cached else "compiled"
        print(f"{n_units} kernels {how} in {seconds:.1f} s: {paths.path()} for {model_name()}")
    return 0
