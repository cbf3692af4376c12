"""`llorch tokenize TEXT`: what a model reads. Works on vocabulary-only files."""

from __future__ import annotations

import argparse

from llorch.cli import console
from llorch.cli.options import add_field, add_json, settings_from
from llorch.cli.streams import read_argument


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command."""
    parser.add_argument("text", metavar="TEXT", help="the text, or - to read it from stdin")
    parser.add_argument("--no-bos", action="store_true", help="do not put the BOS token in front")
    parser.add_argument(
        "--special", action="store_true", help="recognise control tokens such as </s> in the text"
    )
    add_field(parser, "override_pre")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print a line for each token: id and piece."""
    from llorch.model_files import open_tokenizer

    settings = settings_from(args)
    text = read_argument(args.text, "the text")
    tokenizer = open_tokenizer(settings.model, override_pre=settings.override_pre)
    token_ids = tokenizer.encode(text, add_bos=False if args.no_bos else None, parse_special=args.special)
    pieces = [tokenizer.piece(token_id) for token_id in token_ids]
    if args.json:
        console.print_json({"token_ids": token_ids, "pieces": pieces})
    else:
        for token_id, piece in zip(token_ids, pieces, strict=True):
            print(f"{token_id:>7}  {piece!r}")
    return 0
