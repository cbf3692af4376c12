"""Text in and out of a process whose locale has only ASCII, such as `LC_ALL=C`; nothing is imported that takes long.

Python takes such a locale for UTF-8 by itself (PEP 540), unless `PYTHONUTF8=0` forbids it. Then it cannot write what a
model answers, arguments and stdin arrive as lone surrogates, and no file can be opened whose name in a settings file is
not ASCII. Text for llorch is UTF-8, and ASCII is a part of that, so the mode is right here whatever was asked for.
Locales with characters of their own (ISO 8859-1) stay as they are.
"""

from __future__ import annotations

import os
import sys

VARIABLE = "PYTHONUTF8"


def begin_anew_where_only_ascii_is_known() -> None:
    """Replace this process by the same command in Python's UTF-8 mode, where Python knows no more than ASCII.

    Nothing may have been read from stdin. What the command starts inherits the mode.
    """
    if sys.getfilesystemencoding() != "ascii" or os.environ.get(VARIABLE) == "1":
        return
    from contextlib import suppress

    os.environ[VARIABLE] = "1"
    # There may be no program to begin anew: then texts of more than ASCII are refused.
    with suppress(OSError):
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
