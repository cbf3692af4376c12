"""`llorch warmup`: compile the kernels now, so that no later start has to."""

from __future__ import annotations

import argparse
import time

from llorch import kernels
from llorch.cli import console
from llorch.cli.options import add_field, add_json, settings_from
from llorch.kernels import paths
from llorch.machine.cpu import model_name
from llorch.open_model import compile_kernels_for


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command."""
    add_field(parser, "kv_type")
    add_field(parser, "weights")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Compile or load what the model of `-m` needs, or everything, and say how long it took."""
    settings = settings_from(args)
    started_s = time.perf_counter()
    with console.Progress() as progress:
        if "model" in args:
            was_cached = compile_kernels_for(
                settings.model, weights=settings.weights, kv_type=settings.kv_type, progress=progress
            )
        else:
            was_cached = kernels.compile_all(progress)
    seconds = time.perf_counter() - started_s
    if args.json:
        console.print_json({"seconds": round(seconds, 3), "cached": was_cached, "kernels": paths.describe()})
    else:
        how = "loaded from the cache" if was_cached else "compiled"
        print(f"kernels {how} in {seconds:.1f} s: {paths.path()} for {model_name()}")
    return 0
