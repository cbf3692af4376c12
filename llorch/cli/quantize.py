"""`llorch quantize IN OUT TYPE`: a model with weights of another type."""

from __future__ import annotations

import argparse

from llorch.cli.written_model import add_places, add_writing_options, settings_without_model, write_model


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command."""
    add_places(parser, "GGUF file of a Llama model; of a split one, the first part")
    parser.add_argument("type", metavar="TYPE", help="F32, F16, BF16, Q8_0, Q4_0 ..., Q4_K_M, Q5_K_M, Q6_K")
    parser.add_argument(
        "--allow-requantize",
        action="store_true",
        help="quantise weights that are quantised already: worse than from F32, F16 or BF16",
    )
    add_writing_options(parser)


def run(args: argparse.Namespace) -> int:
    """Write the file, then say how large it is and how long it took."""
    from llorch.convert.mixtures import file_type
    from llorch.convert.quantize import plan_quantization
    from llorch.errors import InputError
    from llorch.formats.gguf.file import GGUFFile
    from llorch.formats.printed import printable
    from llorch.model_files import resolve_model_path

    settings = settings_without_model(args)
    wanted = file_type(args.type)
    path = resolve_model_path(args.input)
    if path.is_dir() or path.suffix.lower() == ".onnx":
        raise InputError(
            f"{printable(path)}: is no GGUF file; `llorch convert IN OUT --type TYPE` makes one of it"
        )
    with GGUFFile(path) as source:
        plan = plan_quantization(
            source, args.output, wanted, is_pure=args.pure, may_requantise=args.allow_requantize
        )
        write_model(source, plan, args, source.n_bytes, settings.threads)
    return 0
