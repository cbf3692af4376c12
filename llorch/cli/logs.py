"""Logging set-up: plain lines of a command, or the log of the server for people or machines; all on stderr.

Names in a message may be a stranger's: of files, models, tools, paths of requests. So a record is one line of printable
characters in every format, and the lines of an exception behind it are indented: none can pass for a record.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

from llorch.cli.streams import can_write
from llorch.formats.printed import escaped
from llorch.observe.request_scope import current_request_id

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


class PlainFormatter(logging.Formatter):
    """What a command says beside its result: `llorch: ...`, in place of a progress bar where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        line = f"llorch: {escaped(record.getMessage())}"
        return f"\r\x1b[K{line}" if sys.stderr.isatty() else line


class TextFormatter(logging.Formatter):
    """The server's log for people: time, level, the id of the request it is about, message."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The first line of the record."""
        if request_id := _request_id(record):
            record.message = f"[{request_id}] {record.message}"
        record.message = escaped(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:
        """The lines behind it."""
        return "\n".join(f"  {escaped(line)}" for line in super().formatException(ei).splitlines())


class JSONFormatter(logging.Formatter):
    """One JSON object per record: time, level, logger, message, the request's id, and the record's `extra` fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        document = {
            "time": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **{key: value for key, value in vars(record).items() if key not in _STANDARD},
        }
        if request_id := _request_id(record):
            document["request_id"] = request_id
        if record.exc_info:
            document["exception"] = self.formatException(record.exc_info)
        text = json.dumps(document, ensure_ascii=False, default=str)
        is_plain = text.isprintable() and can_write(sys.stderr, text)
        return text if is_plain else json.dumps(document, default=str).replace("\x7f", "\\u007f")


def _request_id(record: logging.LogRecord) -> str:
    """The id that a record names, as those of the compute thread do, or that of the request at hand."""
    return getattr(record, "request_id", "") or current_request_id()


def log_to_people() -> None:
    """Send warnings to stderr, and what takes long too where no progress bar shows it."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PlainFormatter())
    logging.getLogger().handlers[:] = [handler]
    if not sys.stderr.isatty():
        logging.getLogger("llorch").setLevel(logging.INFO)


def configure_logging(log_format: str, log_level: str) -> None:
    """Send all logging to stderr.

    Args:
        log_format: ``"text"`` or ``"json"``.
        log_level: lowest level that is written: ``"debug"``, ``"info"``, ``"warning"`` or ``"error"``.
    """
    handler = logging.StreamHandler(sys.stderr)
    if log_format == "json":
        handler.setFormatter(JSONFormatter())
    else:
        handler.setFormatter(TextFormatter())
    logging.getLogger("llorch").setLevel(logging.NOTSET)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(log_level.upper())
    # uvicorn's start and stop lines repeat ours; sse-starlette would log what is generated.
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    for name in ("sse_starlette", "numba", "asyncio"):
        logging.getLogger(name).setLevel(max(logging.INFO, root.level))
