"""`llorch quantize IN OUT TYPE`: a model with weights of another type."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from llorch.cli import console
from llorch.cli.options import add_field, add_json, settings_from


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command."""
    parser.add_argument(
        "input", metavar="IN", help="GGUF file of a Llama model; of a split one, the first part"
    )
    parser.add_argument("output", metavar="OUT", type=Path, help="file to write; it is replaced if it exists")
    parser.add_argument("type", metavar="TYPE", help="F32, F16, BF16, Q8_0, Q4_0 ..., Q4_K_M, Q5_K_M, Q6_K")
    parser.add_argument(
        "--pure",
        action="store_true",
        help="one type for all matrices, instead of more bits where they matter most",
    )
    parser.add_argument(
        "--allow-requantize",
        action="store_true",
        help="quantise weights that are quantised already: worse than from F32, F16 or BF16",
    )
    add_field(parser, "threads")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Write the file, then say how large it is and how long it took."""
    from llorch.convert.mixtures import file_type
    from llorch.convert.quantize import plan_quantization, write_quantized
    from llorch.errors import SettingsError
    from llorch.formats.gguf.file import GGUFFile
    from llorch.formats.gguf.reader import printable
    from llorch.machine.threads import default_threads
    from llorch.model_files import resolve_model_path

    if "model" in args:
        raise SettingsError("-m/--model: IN says which model is read")
    settings = settings_from(args)
    wanted = file_type(args.type)
    with GGUFFile(resolve_model_path(args.input)) as source:
        plan = plan_quantization(
            source, args.output, wanted, is_pure=args.pure, may_requantise=args.allow_requantize
        )
        n_bytes, size = plan.layout.n_bytes, console.human_bytes
        console.note(f"{printable(source.path)}: {size(source.n_bytes)}; as {wanted.name}: {size(n_bytes)}")
        if plan.requantised:
            console.note(f"{len(plan.requantised)} tensors are quantised already: the result is less precise")
        if plan.n_unfit:
            block = wanted.quant.block_size
            console.note(f"{plan.n_unfit} tensors get another type: their rows are no multiple of {block}")
        started_s = time.perf_counter()
        with console.Progress() as progress:

            def with_speed(what: str, done: int, total: int) -> None:
                progress(f"{_speed(done, started_s)} {what}", done, total)

            n_threads = settings.threads or default_threads()[0]
            write_quantized(source, plan, n_threads=n_threads, progress=with_speed)
    seconds = time.perf_counter() - started_s
    if args.json:
        console.print_json({"path": str(args.output), "type": wanted.name, "bytes": n_bytes})
    else:
        speed = _speed(n_bytes, started_s)
        print(f"{printable(args.output)}: {wanted.name}, {size(n_bytes)} in {seconds:.1f} s ({speed})")
    return 0


def _speed(n_bytes: int, started_s: float) -> str:
    return f"{n_bytes / 1e6 / max(1e-9, time.perf_counter() - started_s):.1f} MB/s"
