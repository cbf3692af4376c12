"""`llorch generate PROMPT`: continues a text, and writes it token by token."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Iterator

from llorch.cli import console
from llorch.cli.options import (
    add_field,
    add_json,
    add_sampling,
    add_stop,
    load_with_progress,
    settings_from,
)
from llorch.cli.streams import check_text, read_argument
from llorch.engine.engine import Engine
from llorch.engine.events import EndEvent, Event, TokenEvent
from llorch.engine.params import SamplingParams
from llorch.engine.request import Request
from llorch.engine.session import CallerDriver
from llorch.errors import FieldError, LlorchError, RequestError
from llorch.fields.table import SETTINGS
from llorch.settings import Settings

JOB_ID = "generate"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command."""
    parser.add_argument("prompt", metavar="PROMPT", help="the text to continue, or - to read it from stdin")
    n_predict = SETTINGS["n_predict"].default
    add_field(
        parser,
        "n_predict",
        help=f"most tokens to generate; -1: as many as the context holds (default: {n_predict})",
    )
    for name in ("ctx_size", "threads", "draft", "override_pre", "seed"):
        add_field(parser, name)
    add_stop(parser)
    add_sampling(parser)
    parser.add_argument("-q", "--quiet", action="store_true", help="no line about seed and speed on stderr")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Stream the text to stdout, then say on stderr how it went; or print one JSON document."""
    settings = settings_from(args)
    prompt = read_argument(args.prompt, "the prompt")
    stop = tuple(check_text(text, "--stop") for text in args.stop)
    params = SamplingParams.from_settings(settings, seed=args.seed)
    if not prompt:
        raise RequestError([FieldError("prompt", "at least one character", "the prompt is empty")])
    loaded = load_with_progress(settings)
    try:
        token_ids = tuple(loaded.tokenizer.encode(prompt))
        engine = Engine(loaded, _for_one_sequence(settings))
        request = Request(JOB_ID, token_ids, params, settings.most_tokens(engine.n_ctx), stop)
        events = CallerDriver(engine).events(request)
        end = _collect(events) if args.json else _stream(events)
    finally:
        loaded.close()
    if args.json:
        console.print_json(
            {
                "prompt_token_ids": list(token_ids),
                "token_ids": list(end.token_ids),
                "text": end.text,
                "finish_reason": end.finish_reason,
                "matched_stop": end.matched_stop,
                "seed": end.seed,
                "timings": dataclasses.asdict(end.timings),
            }
        )
    elif not args.quiet:
        console.note(_summary(end))
    return 0


def _for_one_sequence(settings: Settings) -> Settings:
    """`settings` with a KV cache for the one sequence there is."""
    return settings.model_copy(update={"parallel": 1})


def _collect(events: Iterator[Event]) -> EndEvent:
    return next(event for event in events if isinstance(event, EndEvent))


def _stream(events: Iterator[Event]) -> EndEvent:
    """Write the text as it comes, and a line feed behind it."""
    for event in events:
        if isinstance(event, TokenEvent) and event.text:
            sys.stdout.write(event.text)
            sys.stdout.flush()
        elif isinstance(event, EndEvent):
            sys.stdout.write("\n")
            sys.stdout.flush()
            return event
    raise LlorchError("the generation ended without a result")


def _summary(end: EndEvent) -> str:
    timings = end.timings
    return (
        f"[{end.finish_reason}, seed {end.seed}; prompt: {end.usage.prompt_tokens} tokens, "
        f"{timings.prompt_tokens_per_s:.0f} tokens/s; answer: {end.usage.completion_tokens} tokens, "
        f"{timings.decode_tokens_per_s:.0f} tokens/s]"
    )
