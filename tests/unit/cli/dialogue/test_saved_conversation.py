"""Conversations in files: they come back as they were; other files are one line, and are never overwritten."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from llorch.cli.dialogue.saved_conversation import MAX_BYTES, load, save
from llorch.errors import InputError

MESSAGES = [
    {"role": "system", "content": "s"},
    {"role": "user", "content": 'Grüße \x1b[2J "quoted"'},
    {"role": "assistant", "content": "日本\nzwei"},
]


def test_a_conversation_comes_back_and_only_its_user_can_read_the_file(tmp_path: Path) -> None:
    path = tmp_path / "talk.json"
    save(path, "demo", MESSAGES, replaces=False)
    assert load(path) == MESSAGES
    assert path.stat().st_mode & 0o777 == 0o600
    assert json.loads(path.read_text("utf-8"))["model"] == "demo"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_exists_is_replaced_only_if_that_is_wanted(tmp_path: Path) -> None:
    path = tmp_path / "talk.json"
    path.write_text("precious")
    with pytest.raises(InputError, match="exists already"):
        save(path, "demo", MESSAGES, replaces=False)
    assert path.read_text() == "precious"
    save(path, "demo", MESSAGES, replaces=True)
    assert load(path) == MESSAGES


def test_a_link_that_leads_nowhere_is_not_followed(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match="exists already"):
        save(link, "demo", MESSAGES, replaces=False)


@pytest.mark.parametrize("name", ["missing/talk.json", "x" * 300, "a\0b"])
def test_a_place_that_cannot_be_written_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be"):
        save(tmp_path / name, "demo", MESSAGES, replaces=True)
    with pytest.raises(InputError, match="cannot be read"):
        load(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_messages_of_other_programs_are_taken_without_an_object_around_them(tmp_path: Path) -> None:
    path = tmp_path / "talk.json"
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    path.write_text(json.dumps([{"role": "user", "content": parts}]))
    assert load(path) == [{"role": "user", "content": "ab"}]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"1" * 5000, "not JSON"),
        (b"{}", "holds no conversation"),
        (b"[]", "holds no conversation"),
        (b'{"messages": [{"role": "king", "content": "x"}]}', r"messages\[0\].role"),
        (b'{"messages": [{"role": "user", "content": 7}]}', r"messages\[0\].content"),
        (b'[{"role": "user", "content": "\\ud800"}]', "holds no conversation"),
    ],
)
def test_a_file_without_a_conversation_is_refused(content: bytes, fault: str, tmp_path: Path) -> None:
    path = tmp_path / "talk.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=fault):
        load(path)


def test_no_file_is_read_for_ever(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with pytest.raises(InputError, match="no regular file"):
        load(fifo)
    with pytest.raises(InputError, match="no regular file"):
        load(Path("/dev/zero"))
    with pytest.raises(InputError, match="cannot be read"):
        load(tmp_path)
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(InputError, match="larger than 16 MiB"):
        load(large)
