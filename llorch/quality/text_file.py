"""The text that a model is measured with, as llama-perplexity takes it from a file."""

from __future__ import annotations

from pathlib import Path

from llorch.errors import InputError
from llorch.formats.printed import printable
from llorch.machine.input_file import opened_input

MAX_BYTES = 256 << 20
"""Of text; its tokens take many times that."""


def read_text(path: Path) -> str:
    """The text of a file, without one line feed at its end.

    llama.cpp takes any bytes. Those that are no UTF-8 are refused here: what they would measure is no text.

    Raises:
        InputError: the file is empty, too large, or not UTF-8.
        OSError: it cannot be read.
    """
    with opened_input(path) as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise InputError(f"{printable(path)}: has more than {MAX_BYTES >> 20} MiB of text")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{printable(path)}: is not valid UTF-8 (byte {error.start})") from None
    text = text.removesuffix("\n")
    if not text:
        raise InputError(f"{printable(path)}: is empty")
    return text
