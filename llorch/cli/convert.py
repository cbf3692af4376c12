"""`llorch convert IN OUT`: a GGUF file of a model in another format."""

from __future__ import annotations

import argparse

from llorch.cli import console
from llorch.cli.written_model import add_places, add_writing_options, settings_without_model, write_model


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command."""
    add_places(parser, "directory of a Llama model with safetensors, or an ONNX graph of one")
    parser.add_argument(
        "--type",
        metavar="TYPE",
        help="F32, F16, BF16, Q8_0, Q4_0 ..., Q4_K_M, Q5_K_M, Q6_K (default: what most weights have)",
    )
    add_writing_options(parser)


def run(args: argparse.Namespace) -> int:
    """Write the file, then say how large it is and how long it took."""
    from llorch.convert.conversion import own_type, plan_conversion
    from llorch.convert.mixtures import file_type
    from llorch.formats.printed import printable
    from llorch.formats.source import open_source
    from llorch.model_files import resolve_model_path, warn_about
    from llorch.open_model import check_source

    settings = settings_without_model(args)
    wanted = file_type(args.type) if args.type is not None else None
    source = open_source(resolve_model_path(args.input))
    try:
        has_tokenizer = "tokenizer.ggml.model" in source.metadata
        if not has_tokenizer:
            console.note(
                f"{printable(source.path)}: has no tokenizer, nor will the file: it takes token ids only"
            )
        contents = check_source(source, with_tokenizer=has_tokenizer)
        warn_about(source, contents.oddities)
        plan = plan_conversion(source, args.output, wanted or own_type(source), is_pure=args.pure)
        n_read = sum(info.n_bytes for info in source.tensor_infos.values())
        write_model(source, plan, args, n_read, settings.threads)
    finally:
        source.close()
    return 0
