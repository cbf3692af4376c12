"""`llorch chat` in scripts: messages from the command line or from stdin, answers on stdout, exit codes."""

from __future__ import annotations

import io
import json
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pytest

import llorch as package
from llorch.cli.main import main
from llorch.kernels.layout import KV_BLOCK_SIZE
from llorch.open_model import open_model
from tests.support.commands import llorch, start
from tests.support.live_server import WAIT_S


@dataclass(frozen=True)
class Done:
    """What a command left."""

    code: object
    stdout: str
    stderr: str

    @property
    def answers(self) -> list[dict[str, Any]]:
        """The lines of `--json`."""
        assert self.code == 0, self.stderr
        return [json.loads(line) for line in self.stdout.splitlines()]

    @property
    def fault(self) -> str:
        """The one line of a mistake."""
        assert self.code == 2, self
        (line,) = self.stderr.splitlines()
        return line


class Stdin(io.TextIOWrapper):
    """What is piped in."""


Chat: TypeAlias = Callable[..., Done]


@pytest.fixture
def chat(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Chat:
    """Runs the command in this process, for starting Python takes longer: ``chat(stdin, *arguments)``."""

    def run(stdin: str | bytes, *arguments: str) -> Done:
        data = stdin.encode() if isinstance(stdin, str) else stdin
        monkeypatch.setattr(sys, "stdin", Stdin(io.BytesIO(data), "utf-8", newline=None))
        code = main(("chat", *arguments))
        return Done(code, *capsys.readouterr())

    return run


def short(model: Path, n: int = 4) -> tuple[str, ...]:
    return ("-m", str(model), "--temperature", "0", "-n", str(n), "--chat-template", "chatml")


def test_each_line_is_a_message_of_one_conversation_that_is_not_read_twice(
    chat: Chat, long_model: Path
) -> None:
    flags = short(long_model, 40)
    first, second, third = chat("Hello\n\n/exit\nAnd now?", "--json", *flags).answers
    assert first["usage"]["completion_tokens"] == 40
    assert first["finish_reason"] == "length"
    assert second["usage"]["prompt_tokens"] > first["usage"]["prompt_tokens"] + 30
    assert third["usage"]["cached_tokens"] > second["usage"]["prompt_tokens"] - 2 * KV_BLOCK_SIZE
    (alone,) = chat("", "--json", *flags, "Hello").answers
    assert alone["token_ids"] == first["token_ids"]


def test_the_answer_is_that_of_the_chat_template(chat: Chat, real_model: Path) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Name a color."}]
    with open_model(real_model, with_chat_template=True) as opened:
        prompt_ids = opened.chat_template.prompt_ids(opened.tokenizer, messages)
    with package.load(real_model) as model:
        expected = model.generate(prompt_ids, temperature=0, max_tokens=12)
    flags = ("-m", str(real_model), "--temperature", "0", "-n", "12", "--json")
    (answer,) = chat("", *flags, "--system", "Be brief.", "Name a color.").answers
    assert answer["usage"]["prompt_tokens"] == len(prompt_ids)
    assert answer["token_ids"] == list(expected.token_ids)


def test_all_of_stdin_can_be_one_message(chat: Chat, long_model: Path) -> None:
    flags = ("--json", *short(long_model))
    (whole,) = chat("one\ntwo", *flags, "-").answers
    (quoted,) = chat('"""one\ntwo"""\n', *flags).answers
    (joined,) = chat("one\\\r\ntwo\r\n", *flags).answers
    assert whole["token_ids"] == quoted["token_ids"] == joined["token_ids"]
    assert whole["usage"]["prompt_tokens"] == quoted["usage"]["prompt_tokens"]


def test_plain_answers_are_lines_on_stdout_and_nothing_else_is_said(chat: Chat, long_model: Path) -> None:
    done = chat("Hello\nHello\n", *short(long_model))
    assert (done.code, done.stderr) == (0, "")
    found = chat("Hello\nHello\n", *short(long_model), "--json").answers
    assert done.stdout == "".join(answer["text"] + "\n" for answer in found)


def test_no_message_is_no_answer(chat: Chat, long_model: Path) -> None:
    assert chat("\n \n", *short(long_model)) == Done(0, "", "")


def test_what_was_piped_in_is_no_command(chat: Chat, long_model: Path, tmp_path: Path) -> None:
    """A document that says `/save` must not write a file."""
    path = tmp_path / "written"
    assert len(chat(f"/save {path}\n/exit\n", "--json", *short(long_model)).answers) == 2
    assert not path.exists()


@pytest.mark.parametrize(
    ("stdin", "fault"),
    [
        (b"Hello \xff\n", "stdin is not valid UTF-8"),
        (b'"""never ends\n', "the input ends inside of a text that begins with"),
        (b"never ends\\", "the input ends inside of a line that ends with a backslash"),
    ],
)
def test_input_that_is_no_message_ends_with_2(stdin: bytes, fault: str, chat: Chat, long_model: Path) -> None:
    assert fault in chat(stdin, *short(long_model)).fault


def test_a_message_beyond_the_context_ends_with_2_after_the_answers_before(
    chat: Chat, long_model: Path
) -> None:
    done = chat("Hello\n" + "x " * 2000 + "\nnever\n", *short(long_model, 1), "-c", "256")
    assert "the context of 256 is full" in done.fault
    assert "x x" not in done.fault
    assert done.stdout.count("\n") == 1


def test_usage_errors_are_one_line(chat: Chat, long_model: Path, tmp_path: Path) -> None:
    flags = short(long_model)
    assert "the message is empty" in chat("", *flags, " ").fault
    assert "temperature" in chat("", *flags, "--temperature", "3", "Hi").fault
    assert "--system is not valid UTF-8" in chat("", *flags, "--system", "\udcff", "Hi").fault
    template = "{% for m in messages if m.role != 'system' %}{{ m.content }}{% endfor %}"
    done = chat("", *flags, "--chat-template", template, "--system", "Be brief.", "Hi")
    assert "--system: the chat template of this model has no place for a system message" in done.fault


def test_a_later_chat_finds_what_was_read_on_disk(chat: Chat, long_model: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'prefix_cache_dir = "{tmp_path / "prefixes"}"')
    flags = (*short(long_model), "--json", "--config", str(config), "a b c d e f g h " * 8)
    first, again = chat("", *flags).answers + chat("", *flags).answers
    assert first["usage"]["cached_tokens"] == 0
    assert again["usage"]["cached_tokens"] >= KV_BLOCK_SIZE
    assert again["token_ids"] == first["token_ids"]


@pytest.mark.slow
def test_an_interrupt_ends_a_script_in_an_answer(long_model: Path) -> None:
    template = "{% for message in messages %}{{ message.content }}{% endfor %}"
    flags = ("-m", str(long_model), "--temperature", "0", "--chat-template", template)
    with start("chat", *flags, "Hello") as process:
        assert process.stdout is not None
        assert process.stdout.read(5)
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.wait(WAIT_S) == 128 + signal.SIGINT


def test_json_is_not_for_people(chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stdin, "isatty", lambda stream: True)
    assert "--json needs a MESSAGE" in chat("", "--json").fault


def test_a_narrow_encoding_gets_escapes(chat: Chat, long_model: Path) -> None:
    (wide,) = chat("", *short(long_model, 30), "--json", "Hello").answers
    narrow = llorch("chat", *short(long_model, 30), "--json", "Hello", PYTHONIOENCODING="ascii")
    assert narrow.stdout.isascii()
    assert json.loads(narrow.stdout)["text"] == wide["text"]
    assert not wide["text"].isascii()
