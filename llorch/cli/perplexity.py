"""`llorch perplexity`: how well a model predicts a text, in the words and by the protocol of `llama-perplexity`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from llorch.cli import console
from llorch.cli.options import add_field, add_json, load_with_progress, settings_from
from llorch.errors import InputError
from llorch.formats.printed import printable

if TYPE_CHECKING:
    from llorch.open_model import OpenModel
    from llorch.quality.measure import Measured
    from llorch.settings import Settings

CONTEXT = 512
MOST = 1 << 30


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command."""
    parser.add_argument("-f", "--file", type=Path, metavar="FILE", help="the text, UTF-8")
    parser.add_argument(
        "-c", "--ctx-size", dest="n_ctx", type=int, metavar="N", help=f"tokens of a chunk ({CONTEXT})"
    )
    parser.add_argument("--chunks", type=int, metavar="N", help="measure the first N chunks (all)")
    parser.add_argument(
        "--kl-divergence-base",
        "--kl-base",
        dest="base",
        type=Path,
        metavar="FILE",
        help="write the model's predictions there; with --kl, compare it with those that are there",
    )
    parser.add_argument(
        "--kl-divergence",
        "--kl",
        dest="is_compared",
        action="store_true",
        help="compare the model with the one that wrote the file of --kl-base, on the text in it",
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on with the same measurement where it was interrupted"
    )
    for name in ("threads", "batch_size", "kv_type", "weights", "override_pre", "pin_threads", "numa"):
        add_field(parser, name)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Measure, then print."""
    settings = settings_from(args)
    _check(args)
    measured = _compare(args, settings) if args.is_compared else _measure(args, settings)
    if args.json:
        console.print_json(measured.to_json())
    else:
        _print(measured)
    return 0


def _check(args: argparse.Namespace) -> None:
    """Refuse flags that contradict each other, all at once."""
    from llorch.quality.chunks import MIN_CONTEXT

    faults = []
    if args.is_compared and args.base is None:
        faults.append("--kl needs --kl-base FILE, a file that was written without --kl")
    if not args.is_compared and args.file is None:
        faults.append("-f FILE is missing, the text to measure")
    if args.resume and args.base is not None and not args.is_compared:
        faults.append(
            "--resume cannot go on with a file of predictions (--kl-base): it is written as a whole"
        )
    if args.n_ctx is not None and not MIN_CONTEXT <= args.n_ctx <= MOST:
        faults.append(f"-c: expected {MIN_CONTEXT} to {MOST}, got {args.n_ctx}")
    if args.chunks is not None and not 1 <= args.chunks <= MOST:
        faults.append(f"--chunks: expected 1 to {MOST}, got {args.chunks}")
    if faults:
        raise InputError("; ".join(faults))


def _measure(args: argparse.Namespace, settings: Settings) -> Measured:
    from llorch.model_files import resolve_model_path
    from llorch.quality.chunks import cut_text
    from llorch.quality.logits_file import check_base_place
    from llorch.quality.measure import measure_text
    from llorch.quality.text_file import read_text

    if args.base is not None:
        check_base_place(args.base, (args.file, resolve_model_path(settings.model)))
    text = read_text(args.file)
    with load_with_progress(settings) as model:
        chunks = cut_text(model.tokenizer, text, args.n_ctx or CONTEXT, args.chunks)
        _warn_about_context(model, chunks.n_ctx)
        with console.Progress() as progress:
            return measure_text(
                model,
                chunks,
                base_path=args.base,
                kv_type=settings.kv_type,
                is_resumed=args.resume,
                progress=progress,
            )


def _compare(args: argparse.Namespace, settings: Settings) -> Measured:
    from llorch.quality.chunks import cut_text
    from llorch.quality.logits_file import BaseFile
    from llorch.quality.measure import compare_with_base
    from llorch.quality.text_file import read_text

    text = None if args.file is None else read_text(args.file)
    with load_with_progress(settings) as model, BaseFile.open(args.base, model.config.n_vocab) as base:
        chunks = base.chunks(model.tokenizer, args.chunks)
        if args.n_ctx not in (None, base.layout.n_ctx):
            raise InputError(f"-c {args.n_ctx}: {printable(args.base)} has a context of {base.layout.n_ctx}")
        if text is not None and not base.is_of(
            cut_text(model.tokenizer, text, base.layout.n_ctx, base.layout.n_chunks)
        ):
            raise InputError(
                f"{printable(args.base)} was made from another text than {printable(args.file)}, "
                "or by another tokenizer"
            )
        _warn_about_context(model, chunks.n_ctx)
        with console.Progress() as progress:
            return compare_with_base(
                model,
                base,
                chunks,
                kv_type=settings.kv_type,
                is_resumed=args.resume,
                progress=progress,
            )


def _warn_about_context(model: OpenModel, n_ctx: int) -> None:
    trained = model.config.n_ctx_train
    if n_ctx > trained:
        console.note(f"warning: the model was trained on a context of {trained} tokens, -c is {n_ctx}")


def _print(measured: Measured) -> None:
    from llorch.quality.report_lines import divergence_lines, perplexity_lines

    for line in perplexity_lines(measured.running, measured.perplexity):
        print(line)
    if measured.figures is not None:
        print()
        for line in divergence_lines(measured.figures):
            print(line)
    known = f", {measured.n_resumed} of them measured before" if measured.n_resumed else ""
    console.note(
        f"[{measured.n_tokens} predictions in {measured.n_chunks} chunks of {measured.n_ctx} tokens{known}; "
        f"{measured.seconds:.1f} s, {measured.tokens_per_s:.0f} tokens/s]"
    )
