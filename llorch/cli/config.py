"""`llorch config show`: each setting, its value, and where that comes from; secrets are masked.

It takes the flags of `llorch serve`, so that the same command line can be asked what it would do. The text is a
settings file that says the same, but for the secrets.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from llorch.cli.llama_server_flags import add_llama_server_flags
from llorch.cli.options import add_json, add_settings, settings_with_origins
from llorch.fields.table import SETTINGS
from llorch.formats.printed import escaped, printable

MASK = "******"
DEFAULT = "default"
WIDTH = 110
COLUMN = 44
"""Where the origins stand."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add what is to be done, and a flag for every setting."""
    parser.add_argument("action", choices=["show"], metavar="show", help="print the settings")
    add_json(parser)
    add_settings(parser)
    add_llama_server_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Print the settings."""
    loaded = settings_with_origins(args)
    rows = []
    for name in SETTINGS:
        value = getattr(loaded.settings, name)
        shown = MASK if hasattr(value, "get_secret_value") else value
        rows.append({"name": name, "value": shown, "origin": loaded.origins.get(name, DEFAULT)})
    said_by = "flag --config" if args.config else "environment variable LLORCH_CONFIG"
    source = (
        f"settings file: {printable(loaded.config_path)} ({said_by})"
        if loaded.config_path
        else "no settings file was read"
    )
    if args.json:
        print(source, file=sys.stderr)
        print(json.dumps(rows, indent=2))
    else:
        print(f"# {source}")
        _print_as_file(rows)
    return 0


def _print_as_file(rows: list[dict[str, Any]]) -> None:
    """Print settings with their origins as comments."""
    section = None
    for row in rows:
        field = SETTINGS[row["name"]]
        if field.section != section:
            section = field.section
            print("\n" + f"# --- {section} ".ljust(WIDTH, "-"))
        value = json.dumps(row["value"], ensure_ascii=False)
        is_kept = row["value"] is not None and row["value"] != MASK
        line = f"{'' if is_kept else '# '}{row['name']}" + ("" if row["value"] is None else f" = {value}")
        line = f"{line.ljust(COLUMN - 1)} # {escaped(row['origin'])}"
        print(line.encode("utf-8", "backslashreplace").decode())
