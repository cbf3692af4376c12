"""`llorch bench`: tokens per second, in the tests and the words of `llama-bench`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from llorch.bench.picture import check_picture, draw
from llorch.bench.tests import BenchResult, run_bench, tests_for
from llorch.cli import console
from llorch.cli.options import add_field, add_json, settings_from
from llorch.errors import InputError
from llorch.fields.table import FIELDS

PROMPT = [512]
GENERATION = [128]
SEQUENCES = [1]
DEPTHS = [0]
REPETITIONS = 5
MOST = 1 << 20


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command."""
    _add_list(parser, "-p", "--n-prompt", "prompt_lengths", "tokens of the prompts to read (512; 0: none)")
    _add_list(parser, "-n", "--n-gen", "generation_lengths", "tokens to generate (128; 0: none)")
    _add_list(parser, "-b", "--sequences", "sequence_counts", "sequences to generate together (1)", least=1)
    _add_list(parser, "-d", "--n-depth", "depths", "tokens that are in the context before a test (0)")
    _add_list(
        parser,
        "-t",
        "--threads",
        "thread_counts",
        "compute threads, one measurement for each number (as many as suit the CPU)",
        least=1,
        most=FIELDS["threads"].kind.limits["le"],
    )
    parser.add_argument(
        "-r",
        "--repetitions",
        type=_count,
        metavar="N",
        default=REPETITIONS,
        help="runs of each test (5)",
    )
    add_field(parser, "batch_size", "-ub", "--ubatch-size")
    add_field(parser, "kv_type")
    add_field(parser, "weights")
    add_field(parser, "pin_threads")
    add_field(parser, "numa")
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    parser.add_argument(
        "--plot",
        type=Path,
        metavar="FILE",
        help="also draw tokens per second over threads, sequences and context, beside the machine's limit, "
        "into a .png file",
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Measure, then print."""
    if args.json and args.markdown:
        raise InputError("--json and --markdown exclude each other")
    if args.plot:
        check_picture(args.plot)
    settings = settings_from(args)
    tests = tests_for(
        args.prompt_lengths or PROMPT,
        args.generation_lengths or GENERATION,
        args.sequence_counts or SEQUENCES,
        args.depths or DEPTHS,
    )
    if not tests:
        raise InputError("nothing to measure: -p and -n are both 0")
    results: list[BenchResult] = []
    with console.Progress() as progress:
        for n_threads in args.thread_counts or [settings.threads]:
            results.extend(
                run_bench(
                    settings.model,
                    tests,
                    n_threads=n_threads,
                    n_batch=settings.batch_size,
                    repetitions=args.repetitions,
                    kv_type=settings.kv_type,
                    weights=settings.weights,
                    numa=settings.numa,
                    pin_threads=settings.pin_threads,
                    progress=progress,
                )
            )
    if args.plot:
        draw(results, args.plot)
    if args.json:
        console.print_json([result.to_json() for result in results])
    elif args.markdown:
        _print_markdown(results)
    else:
        _print_table(results)
    return 0


def _add_list(
    parser: argparse.ArgumentParser,
    short: str,
    long: str,
    dest: str,
    help: str,
    *,
    least: int = 0,
    most: int = MOST,
) -> None:
    """A flag that takes numbers separated by commas, and may be given several times."""

    def numbers(text: str) -> list[int]:
        return [_number(word, least, most) for word in text.split(",")]

    parser.add_argument(short, long, dest=dest, action="extend", type=numbers, metavar="N,...", help=help)


def _count(text: str) -> int:
    return _number(text, 1, MOST)


def _number(text: str, least: int, most: int) -> int:
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
    if not least <= number <= most:
        raise argparse.ArgumentTypeError(f"{number} is not between {least} and {most}")
    return number


HEADINGS = ("test", "threads", "tokens/s", "", "weights GB/s", "of memory speed", "GMAC/s")


def _cells(result: BenchResult) -> tuple[str, ...]:
    return (
        result.test,
        str(result.n_threads),
        f"{result.tokens_per_s:.2f}",
        f"± {result.stddev:.2f}",
        f"{result.weight_gb_per_s:.1f}",
        f"{100 * result.weight_gb_per_s / result.read_gb_per_s:.0f} % of {result.read_gb_per_s:.1f}",
        f"{result.gmac_per_s:.1f}",
    )


def _about(result: BenchResult) -> str:
    return (
        f"{result.model}, {console.human_bytes(result.model_bytes)} of weights, {result.weights}, "
        f"{result.kernels} kernels, {result.kv_type} KV cache"
    )


def _print_table(results: Sequence[BenchResult]) -> None:
    print(_about(results[0]))
    console.print_rows([HEADINGS, *map(_cells, results)])


def _print_markdown(results: Sequence[BenchResult]) -> None:
    print(f"{_about(results[0])}\n")
    headings = [heading for heading in HEADINGS if heading]
    print(f"| {' | '.join(headings)} |\n|{'---|' * len(headings)}")
    for result in results:
        test, threads, speed, spread, *rest = _cells(result)
        print(f"| {' | '.join([test, threads, f'{speed} {spread}', *rest])} |")
