"""`python -m llorch` is the `llorch` command."""

from __future__ import annotations

import sys

from llorch.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
