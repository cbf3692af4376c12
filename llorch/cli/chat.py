"""`llorch chat`: a conversation in the terminal, or the answers to messages that a script pipes in.

At a terminal, lines that begin with a slash are commands and Ctrl-C stops an answer. What is piped in is text and
nothing else: a document that is handed on could otherwise write files.
"""

from __future__ import annotations

import argparse
import contextlib
import sys

from llorch.cli.dialogue.answering import Answering, first_choices, responsive
from llorch.cli.dialogue.chat_loop import ChatLoop
from llorch.cli.dialogue.conversation import Conversation
from llorch.cli.dialogue.line_history import LineHistory
from llorch.cli.dialogue.screen import Screen
from llorch.cli.dialogue.typed_messages import Prompt, piped_messages
from llorch.cli.options import add_field, add_sampling, add_stop, load_with_progress, settings_from
from llorch.cli.streams import check_text, read_argument
from llorch.errors import FieldError, InputError, RequestError
from llorch.pulled.names import models_folder

HISTORY_FILE = "chat_history"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command."""
    parser.add_argument(
        "message",
        metavar="MESSAGE",
        nargs="?",
        help="answer this one and end; - takes all of stdin as one message. Without it: a conversation at a "
        "terminal, else an answer to each line of stdin",
    )
    parser.add_argument("--system", metavar="TEXT", default="", help="system message")
    add_field(
        parser, "n_predict", help="most tokens of an answer; -1: as many as the context holds (default: -1)"
    )
    for name in ("ctx_size", "threads", "draft", "override_pre", "chat_template", "seed"):
        add_field(parser, name)
    add_stop(parser)
    add_sampling(parser)
    parser.add_argument("-q", "--quiet", action="store_true", help="no notes about speed and context")
    parser.add_argument("--no-color", action="store_true", help="no dim text (nor with NO_COLOR set)")
    parser.add_argument("--no-history", action="store_true", help="neither read nor keep what is typed")
    parser.add_argument("--json", action="store_true", help="print each answer as a line of JSON on stdout")


def run(args: argparse.Namespace) -> int:
    """Chat until the user leaves, or the messages end."""
    settings = settings_from(args)
    conversation = Conversation(check_text(args.system, "--system"))
    choices = first_choices(settings, args.seed, tuple(check_text(text, "--stop") for text in args.stop))
    only = None if args.message is None else read_argument(args.message, "the message")
    if only is not None and not only.strip():
        raise RequestError([FieldError("message", "at least one character", "the message is empty")])
    if only is None and args.json and sys.stdin.isatty():
        raise InputError(
            "--json needs a MESSAGE, or messages on stdin: a conversation at a terminal is for people"
        )
    loaded = load_with_progress(responsive(settings), with_chat_template=True)
    try:
        screen = Screen(has_color=not args.no_color, is_quiet=args.quiet)
        with contextlib.closing(Answering(loaded, settings)) as answering:
            answering.check_system(conversation.system, "--system")
            chat = ChatLoop(conversation, answering, screen, choices)
            if only is None and sys.stdin.isatty():
                chat.converse(Prompt(chat.stop_key, None if args.no_history else _history()))
            else:
                chat.answer_each(piped_messages() if only is None else [only], is_json=args.json)
    finally:
        loaded.close()
    return 0


def _history() -> LineHistory | None:
    """Beside the pulled models; None where this user has no folder for data."""
    try:
        return LineHistory(models_folder().parent / HISTORY_FILE)
    except InputError:
        return None
