"""What commands write besides their result."""

from __future__ import annotations

import io
import json
import logging

import pytest

from llorch.cli import console
from llorch.cli.logs import JSONFormatter


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_one_line_that_is_wiped(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with console.Progress() as progress:
        for _ in range(3):
            progress("compiling", 3, 9)
    assert terminal.getvalue().count("3/9 compiling") == 1
    assert terminal.getvalue().endswith("\r\x1b[K")
    assert "\n" not in terminal.getvalue()


def test_progress_is_silent_where_nobody_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    monkeypatch.setattr("sys.stderr", log)
    with console.Progress() as progress:
        progress("compiling", 3, 9)
    assert log.getvalue() == ""


@pytest.mark.parametrize(
    ("n", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (7_160_000_000, "6.7 GiB"), (2**50, "1048576.0 GiB")],
)
def test_sizes_are_readable(n: int, text: str) -> None:
    assert console.human_bytes(n) == text


def test_rows_stand_in_columns(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_rows([("a", "bb", "c"), ("aaa", "b", "")])
    assert capsys.readouterr().out == "  a    bb  c\n  aaa  b\n"


def test_json_log_record_is_one_line_with_its_extras() -> None:
    record = logging.makeLogRecord(
        {"msg": "done\n%s", "args": ("x",), "levelname": "INFO", "name": "n", "job_id": "j"}
    )
    line = JSONFormatter().format(record)
    assert "\n" not in line
    assert (
        json.loads(line).items()
        >= {"message": "done\nx", "level": "info", "logger": "n", "job_id": "j"}.items()
    )
