"""`llorch verify-receipt FILE`: computes an answer again from its receipt, and says what holds."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from llorch.cli import console
from llorch.cli.options import add_field, add_json, settings_from
from llorch.errors import InputError
from llorch.formats.printed import printable as shown_path
from llorch.model_files import resolve_model_path
from llorch.receipts.against_llama_server import against_llama_server
from llorch.receipts.outcome import Outcome
from llorch.receipts.read import read_receipt, receipt_in
from llorch.receipts.schema import Receipt, printable
from llorch.receipts.verify import verify

EXIT_CODES = {"verified": 0, "not verified": 1, "not reproducible": 3}
_SHOWN = {True: "holds", False: "DOES NOT HOLD", None: "not checked"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command."""
    parser.description = (
        "Compute an answer again from its receipt, and compare every bit. Exit codes: 0 verified, 1 not verified, "
        "2 bad input, 3 not reproducible here (another model or order of additions, or a choice that the receipt does "
        "not tell)."
    )
    parser.add_argument(
        "receipt", metavar="FILE", help="a receipt, or an answer that bears one; - reads it from stdin"
    )
    parser.add_argument(
        "--against",
        type=_llama_server,
        metavar="llama-server=BIN",
        help="feed the same token ids to this llama-server too, and compare how probable it holds each token",
    )
    add_field(parser, "threads")
    add_field(parser, "weights")
    add_json(parser)


def _llama_server(text: str) -> str:
    """The program that `llama-server=BIN` names."""
    name, separator, binary = text.partition("=")
    if name != "llama-server" or not separator or not binary:
        raise argparse.ArgumentTypeError("expected llama-server=BIN, BIN being the path of the program")
    return binary


def _found(binary: str) -> Path:
    """Where a program is.

    Raises:
        InputError: nowhere.
    """
    path = shutil.which(binary)
    if path is None:
        raise InputError(f"--against: there is no program {shown_path(binary)}")
    return Path(path)


def run(args: argparse.Namespace) -> int:
    """Check one receipt."""
    settings = settings_from(args)
    other = None if args.against is None else _found(args.against)
    if args.receipt == "-":
        receipt, is_intact = receipt_in(sys.stdin.buffer, "stdin")
    else:
        receipt, is_intact = read_receipt(Path(args.receipt))
    path = resolve_model_path(settings.model)
    with console.Progress() as progress:
        against = None
        if other is not None:
            against = against_llama_server(other, path, n_threads=settings.threads, progress=progress)
        outcome = verify(receipt, is_intact, path, settings, against=against, progress=progress)
    if args.json:
        console.print_json(
            {
                "verdict": outcome.verdict,
                "checks": outcome.checks,
                "notes": outcome.notes,
                "first_difference": outcome.first_difference,
                "llama_server": outcome.llama_server,
            }
        )
    else:
        _print(receipt, outcome)
    return EXIT_CODES[outcome.verdict]


def _print(receipt: Receipt, outcome: Outcome) -> None:
    answer = receipt.answer
    n_prompt, n_answer = len(receipt.prompt.token_ids), len(answer.token_ids)
    print(
        f"receipt of {printable(receipt.model.name)}: {n_prompt} prompt tokens, {n_answer} generated, "
        f"seed {receipt.settings.seed}, {answer.finish_reason}"
    )
    for name, holds in outcome.checks.items():
        print(f"  {name:18} {_SHOWN[holds]}")
    for note in outcome.notes:
        print(f"  {note}")
    if figures := outcome.llama_server:
        print(
            f"  llama-server {figures['build']}: {figures['n_same_most_probable']} of {figures['n_tokens']} most "
            f"probable tokens the same, log probabilities differ by at most {figures['largest_logprob_difference']}"
        )
    print(outcome.verdict)
