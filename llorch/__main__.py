"""The `llorch` command, also as `python -m llorch`: makes the process fit for it, then runs it.

Little is imported before signals are handled, so that Ctrl-C is quiet from the first moment on.
"""

from __future__ import annotations

from llorch.cli import descriptors, interrupt, utf8_mode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def main() -> NoReturn:
    """Run the command of this process, and end it."""
    utf8_mode.begin_anew_where_only_ascii_is_known()
    descriptors.open_missing()  # before anything else is opened
    descriptors.open_robust()
    try:
        interrupt.end_on_signals()
        interrupt.end_process(_run())
    except BaseException as error:
        code = interrupt.exit_code()
        if code is None and not isinstance(error, KeyboardInterrupt):
            raise
        # Not only `Interrupted` leads here: what it interrupts may make another error of it, as importing a class does
        # whose `cached_property` was being named. A second signal ends the process where it is.
        interrupt.end_process(code or 0)


def _run() -> int:
    from llorch.cli import logs
    from llorch.cli.main import main as run_command

    logs.log_to_people()
    try:
        code = run_command()
    except SystemExit as error:  # argparse: a mistake, or --help
        code = int(error.code or 0)
    return interrupt.exit_code() or code


if __name__ == "__main__":
    main()
