"""The `llorch` command, also as `python -m llorch`: makes the process fit for it, then runs it.

Little is imported before signals are handled, so that Ctrl-C is quiet from the first moment on.
"""

from __future__ import annotations

import sys

from llorch.cli import descriptors, interrupt


def main() -> int:
    """Run the command of this process; returns its exit code."""
    descriptors.open_missing()  # before anything else is opened
    interrupt.end_on_signals()
    try:
        from llorch.cli import logs
        from llorch.cli.main import main as run_command

        logs.log_to_people()
        code = run_command()
    except KeyboardInterrupt:
        code = 0
    return interrupt.exit_code() or code


if __name__ == "__main__":
    sys.exit(main())
