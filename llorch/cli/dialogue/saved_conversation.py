"""Conversations in files: JSON, with the messages as OpenAI's API has them."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llorch.chat.messages import checked_messages
from llorch.errors import InputError
from llorch.formats.printed import printable

MAX_BYTES = 16 << 20


def save(path: Path, model: str, messages: Sequence[dict[str, Any]], *, replaces: bool) -> None:
    """Write a conversation into a file that only this user can read; it appears whole or not at all.

    Args:
        path: of the file.
        model: name of the model that took part.
        messages: what was said.
        replaces: whether a file that is there already is replaced.

    Raises:
        InputError: the file exists, or cannot be written.
    """
    if not replaces and os.path.lexists(path):
        raise InputError(f"{printable(path)} exists already; choose another name")
    text = json.dumps({"model": model, "messages": list(messages)}, ensure_ascii=False, indent=2)
    beside = path.with_name(f".llorch-{secrets.token_hex(8)}.part")
    try:
        try:
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write(text + "\n")
            os.replace(beside, path)
        finally:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)
    except (OSError, ValueError) as error:
        raise InputError(f"{printable(path)} cannot be written: {_reason(error)}") from None


def load(path: Path) -> list[dict[str, Any]]:
    """The messages in a file.

    Raises:
        InputError: it cannot be read, or holds no conversation.
    """
    where = printable(path)
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise InputError(f"{where} is no regular file")
            content = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise InputError(f"{where} cannot be read: {_reason(error)}") from None
    if len(content) > MAX_BYTES:
        raise InputError(f"{where} is larger than {MAX_BYTES >> 20} MiB, so it is no saved conversation")
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        raise InputError(f"{where} is not JSON") from None
    try:
        return checked_messages(document.get("messages") if isinstance(document, dict) else document)
    except InputError as error:
        raise InputError(f"{where} holds no conversation: {error}") from None


def _open_at_once(path: str, flags: int) -> int:
    """Open a file; a FIFO would else wait for a writer."""
    return os.open(path, flags | os.O_NONBLOCK)


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
