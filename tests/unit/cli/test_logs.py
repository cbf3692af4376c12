"""Lines of the log: the id of the request at hand stands in each, in both formats."""

from __future__ import annotations

import json
import logging
import sys

from llorch.cli.logs import JSONFormatter, PlainFormatter, TextFormatter
from llorch.observe.request_scope import RequestScope, current_scope


def record(**fields: object) -> logging.LogRecord:
    made = logging.makeLogRecord(
        {"msg": "a %s b", "args": ("word",), "levelname": "INFO", "name": "llorch.x"}
    )
    vars(made).update(fields)
    return made


def test_a_line_of_a_request_begins_with_its_id_and_others_do_not() -> None:
    token = current_scope.set(RequestScope("r-1"))
    try:
        assert TextFormatter().format(record()).endswith(" INFO [r-1] a word b")
        assert json.loads(JSONFormatter().format(record()))["request_id"] == "r-1"
    finally:
        current_scope.reset(token)
    assert TextFormatter().format(record()).endswith(" INFO a word b")
    assert "request_id" not in json.loads(JSONFormatter().format(record()))


def test_an_id_that_the_record_names_counts_more() -> None:
    token = current_scope.set(RequestScope("r-1"))
    try:
        assert TextFormatter().format(record(request_id="r-2")).endswith(" INFO [r-2] a word b")
        assert json.loads(JSONFormatter().format(record(request_id="r-2")))["request_id"] == "r-2"
    finally:
        current_scope.reset(token)


def test_a_line_of_json_has_the_fields_of_its_record() -> None:
    line = JSONFormatter().format(record(job_id="j", status=200))
    assert "\n" not in line
    document = json.loads(line)
    assert (document["message"], document["level"], document["logger"]) == ("a word b", "info", "llorch.x")
    assert (document["job_id"], document["status"]) == ("j", 200)


HOSTILE = "a\nb\r09:00:00 INFO all is well\x1b[2J\x7f\x9b\u2028\u202e"


def test_a_name_of_a_stranger_begins_no_line_and_commands_no_terminal() -> None:
    for made in (record(args=(HOSTILE,)), record(request_id=HOSTILE)):
        for formatter in (TextFormatter(), JSONFormatter(), PlainFormatter()):
            line = formatter.format(made)
            assert line.isprintable(), line
    assert "\\x1b[2J" in TextFormatter().format(record(args=(HOSTILE,)))
    document = json.loads(JSONFormatter().format(record(args=(HOSTILE,), model=HOSTILE)))
    assert (document["message"], document["model"]) == (f"a {HOSTILE} b", HOSTILE)


def test_the_lines_of_an_exception_pass_for_no_record() -> None:
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        made = record(exc_info=sys.exc_info())
    first, *others = TextFormatter().format(made).split("\n")
    assert first.endswith("INFO a word b")
    assert all(line.startswith("  ") and line.isprintable() for line in others)
    assert JSONFormatter().format(made).isprintable()


def test_letters_of_all_languages_stay_as_they_are() -> None:
    assert TextFormatter().format(record(args=("é ж 日本",))).endswith("a é ж 日本 b")
