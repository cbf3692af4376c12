"""Reading a receipt from a file that somebody else wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from llorch.errors import InputError
from llorch.formats.printed import printable
from llorch.machine.input_file import opened_input
from llorch.receipts.canonical import sha256_of
from llorch.receipts.schema import Receipt, parse_receipt

MAX_BYTES = 64 << 20
"""A million tokens take less than half of it."""


def read_receipt(path: Path) -> tuple[Receipt, bool]:
    """The receipt in a file, which is one, or an answer that bears one.

    Args:
        path: the file.

    Returns:
        The receipt, and whether it is as it was written: whether its own hash holds.

    Raises:
        InputError: the file cannot be read, is too large, or holds no receipt or several.
    """
    where = printable(path)
    try:
        with opened_input(path) as file:
            return receipt_in(file, where)
    except OSError as error:
        raise InputError(f"{where}: cannot be read: {error.strerror or error}") from None


def receipt_in(file: BinaryIO, where: str) -> tuple[Receipt, bool]:
    """As `read_receipt`, from a file that is open; `where` names it in messages."""
    content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise InputError(f"{where}: is larger than {MAX_BYTES >> 20} MiB, the most a receipt may have")
    document = _find(_parsed(content, where), where)
    receipt = parse_receipt(document, where)
    rest = {name: value for name, value in document.items() if name != "sha256"}
    return receipt, sha256_of(rest) == receipt.sha256


def _parsed(content: bytes, where: str) -> Any:
    def refuse(name: str) -> NoReturn:
        raise ValueError(f"{name} is no JSON number")

    try:
        return json.loads(content.decode(), parse_constant=refuse)
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: is not UTF-8 (byte {error.start})") from None
    except json.JSONDecodeError as error:
        raise InputError(
            f"{where}: is not JSON: {error.msg} (line {error.lineno}, column {error.colno})"
        ) from None
    except RecursionError:
        raise InputError(f"{where}: is nested too deeply") from None
    except ValueError as error:  # NaN and infinities; numbers of thousands of digits
        message = str(error) if "JSON number" in str(error) else "a number has too many digits"
        raise InputError(f"{where}: is not JSON: {message}") from None


def _find(document: Any, where: str) -> dict[str, Any]:
    """The receipt in an answer of any of our APIs, or the document itself."""
    found = [document]
    if isinstance(document, dict) and document.get("type") != "receipt":
        choices = document.get("choices")
        holders = choices if isinstance(choices, list) else [document]
        found = [one["receipt"] for one in holders if isinstance(one, dict) and "receipt" in one]
    elif isinstance(document, list):
        found = [one["receipt"] for one in document if isinstance(one, dict) and "receipt" in one]
    if len(found) > 1:
        raise InputError(f"{where}: holds {len(found)} receipts; write each into a file of its own")
    if not found or not isinstance(found[0], dict):
        raise InputError(f"{where}: holds no receipt: an object of type 'receipt' was expected")
    receipt: dict[str, Any] = found[0]
    return receipt
