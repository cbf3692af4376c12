"""The `llorch` command, also as `python -m llorch`: makes the process fit for it, then runs it.

Little is imported before signals are handled, so that Ctrl-C is quiet from the first moment on.
"""

from __future__ import annotations

from llorch.cli import descriptors, interrupt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def main() -> NoReturn:
    """Run the command of this process, and end it."""
    descriptors.open_missing()  # before anything else is opened
    interrupt.end_on_signals()
    try:
        from llorch.cli import logs
        from llorch.cli.main import main as run_command

        logs.log_to_people()
        code = run_command()
    except KeyboardInterrupt:
        code = 0
    except SystemExit as error:  # argparse: a mistake, or --help
        code = int(error.code or 0)
    interrupt.end_process(interrupt.exit_code() or code)


if __name__ == "__main__":
    main()
