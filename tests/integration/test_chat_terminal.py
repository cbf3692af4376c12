"""`llorch chat` at a real terminal: typing, Ctrl-C, Ctrl-D, commands, history."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from llorch.kernels.layout import KV_BLOCK_SIZE
from tests.support.terminal import CTRL_C, CTRL_D, Terminal

READY = r"> $"


PLAIN_TEMPLATE = "{% for message in messages %}{{ message.content }}{% endfor %}"
"""With it the model of the tests has no end to its answer to "Hello"."""
ANSWERING = r"Hello\r\n.*tokens read\r\x1b\[K.*\S.*\S"


@pytest.fixture(scope="module")
def terminal(long_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    """A chat whose answers are short; it is left by Ctrl-D."""
    data = str(tmp_path_factory.mktemp("data"))
    with Terminal("chat", "-m", str(long_model), "-n", "5", LLORCH_DATA_DIR=data) as terminal:
        assert "/help" in terminal.wait_for(READY)
        yield terminal
        terminal.type(CTRL_D)
        assert terminal.end() == 0


@pytest.fixture(scope="module")
def endless(long_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    """A chat whose answers do not end by themselves; it is left by SIGTERM in the middle of one."""
    flags = ("--chat-template", PLAIN_TEMPLATE, "--temperature", "0", "-n", "60000", "--no-color")
    data = str(tmp_path_factory.mktemp("data"))
    with Terminal("chat", "-m", str(long_model), *flags, LLORCH_DATA_DIR=data) as terminal:
        terminal.wait_for(READY)
        yield terminal
        terminal.enter("Hello")
        terminal.wait_for(ANSWERING)
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.end() == 128 + signal.SIGTERM
        assert "Traceback" not in terminal.screen


def say(terminal: Terminal, line: str) -> str:
    """What comes after a line was entered, without its echo."""
    terminal.enter(line)
    terminal.wait_for(r"\r\n")
    return terminal.wait_for(READY)


def answer_in(shown: str) -> str:
    """The answer, without what stderr has before and behind it."""
    return shown.partition("tokens read")[2].partition("cut off")[0]


def test_a_conversation_is_shown_changed_saved_and_loaded(terminal: Terminal, tmp_path: Path) -> None:
    say(terminal, "/clear")
    say(terminal, "/set seed=7")  # by chance, an answer may end with its first token
    path = tmp_path / "talk.json"
    assert "5 tokens" in say(terminal, "Hello")
    assert "tokens/s" in say(terminal, "//slash")
    assert "the system message is set" in say(terminal, "/system Be brief.")
    shown = say(terminal, "/show")
    assert [line for line in shown.splitlines() if line.startswith(("system", "user"))] == [
        "system: Be brief.",
        "user: Hello",
        "user: /slash",
    ]
    assert "5 messages are in" in say(terminal, f"/save {path}")
    saved = json.loads(path.read_text())["messages"]
    assert [message["role"] for message in saved] == ["system", "user", "assistant", "user", "assistant"]
    assert "2 messages taken back, 3 are left" in say(terminal, "/undo")
    assert "3 messages are in" in say(terminal, f"/save {path}")
    assert "all is forgotten but the system message" in say(terminal, "/clear")
    assert "exists already" in say(terminal, f"/save {path}"), "this is another conversation"
    assert "3 messages" in say(terminal, f"/load {path}")
    assert "5 tokens" in say(terminal, "/regen")
    assert "temperature = 0.25" in say(terminal, "/set temperature 0.25")
    assert "seed = 7" in say(terminal, "/set seed=7")
    first, again = say(terminal, "/regen"), say(terminal, "/regen")
    assert answer_in(first) == answer_in(again)


def test_a_mistake_is_a_line_and_changes_nothing(terminal: Terminal, tmp_path: Path) -> None:
    say(terminal, "/clear")
    precious = tmp_path / "precious"
    precious.write_text("x")
    for line, fault in {
        "/hlp": r"did you mean /help\?",
        "/qq": "/help lists them",
        "/etc/passwd is a file": "// begins a message",
        "/undo": "nothing was said yet",
        "/regen": "nothing was said yet",
        "/save": "/save takes FILE",
        f"/save {precious}": "exists already",
        "/load /nowhere/talk": "cannot be read",
        f"/load {precious}": "is not JSON",
        "/clear all": "takes nothing behind it",
        "/set temperature": "a name and a value",
        "/set temperature 9": "0 <= temperature <= 2",
        '"""never': "",
    }.items():
        if line.startswith('"""'):
            terminal.enter(line)
            terminal.wait_for(r"\. $")
            terminal.type(CTRL_D)
            assert "the input ends inside" in terminal.wait_for(READY)
        else:
            terminal.enter(line)
            terminal.wait_for(rf"error: .*{fault}")
            terminal.wait_for(READY)
    assert precious.read_text() == "x"
    assert "user:" not in say(terminal, "/show")


def test_a_message_of_several_lines_is_one(terminal: Terminal) -> None:
    terminal.enter("one\\")
    terminal.wait_for(r"\. $")
    terminal.enter("two")
    terminal.wait_for(READY)
    terminal.enter('"""three')
    terminal.wait_for(r"\. $")
    terminal.enter('four"""')
    terminal.wait_for(READY)
    shown = say(terminal, "/show")
    assert "user: one\r\ntwo\r\n" in shown
    assert "user: three\r\nfour\r\n" in shown


@pytest.mark.slow
def test_what_was_typed_is_offered_again_by_the_next_chat(long_model: Path, tmp_path: Path) -> None:
    up = "\x1b[A"

    def new_chat(*flags: str) -> Terminal:
        return Terminal("chat", "-m", str(long_model), *flags, LLORCH_DATA_DIR=str(tmp_path / "data"))

    with new_chat() as first:
        first.wait_for(READY)
        say(first, "/system from earlier")
        first.enter("/exit")
        assert first.end() == 0
    with new_chat() as later:
        later.wait_for(READY)
        later.type(up * 2)
        later.wait_for("from earlier")
        later.enter("")
        later.wait_for("the system message is set")
    history = tmp_path / "data" / "chat_history"
    assert history.stat().st_mode & 0o777 == 0o600
    kept = history.read_text()
    assert kept == "/system from earlier\n/exit\n/system from earlier\n"
    with new_chat("--no-history") as unknown:
        unknown.wait_for(READY)
        unknown.type(up)
        unknown.enter("/system secret")
        unknown.wait_for("the system message is set")
        assert "from earlier" not in unknown.screen
    assert history.read_text() == kept


def test_ctrl_c_stops_an_answer_whose_beginning_stays(endless: Terminal) -> None:
    for _ in range(2):
        endless.enter("Hello")
        endless.wait_for(ANSWERING)
        endless.type(CTRL_C)
        assert "stopped after" in endless.wait_for(READY)
        shown = say(endless, "/show")
        assert "user: Hello" in shown
        assert "assistant: " in shown
        assert "2 messages taken back, 0 are left" in say(endless, "/undo")


def test_ctrl_c_at_the_prompt_discards_the_line_and_says_how_to_leave(endless: Terminal) -> None:
    endless.type("half a line")
    endless.wait_for("half a line")
    for _ in range(2):
        endless.interrupt_reading()
        assert "/exit or Ctrl-D leaves" in endless.wait_for(READY)
    assert "nothing was said yet" in say(endless, "/undo")


def test_notes_have_no_color_where_it_is_not_wanted(endless: Terminal) -> None:
    assert "context of" in endless.screen
    assert "\x1b[2m" not in endless.screen


@pytest.mark.slow
@pytest.mark.parametrize("n_signals", [1, 2])
def test_sigterm_ends_a_chat_at_its_prompt_and_the_terminal_is_as_before(
    n_signals: int, long_model: Path
) -> None:
    with Terminal("chat", "-m", str(long_model)) as terminal:
        terminal.wait_for(READY)
        for _ in range(n_signals):  # the second one may end the process before it has let go of the line
            terminal.process.send_signal(signal.SIGTERM)
        assert terminal.end() == 128 + signal.SIGTERM
        assert terminal.attributes() == terminal.attributes_before
        assert "Traceback" not in terminal.screen


def test_a_full_context_says_what_to_do(long_model: Path, tmp_path: Path) -> None:
    flags = ("--chat-template", PLAIN_TEMPLATE, "--temperature", "0", "-c", "64")
    with Terminal("chat", "-m", str(long_model), *flags, LLORCH_DATA_DIR=str(tmp_path)) as terminal:
        terminal.wait_for(READY)
        terminal.enter("Hello")
        terminal.wait_for("cut off; .*context 100 % full")
        terminal.wait_for("the context is full; /undo .* /clear .* -c N")
        terminal.wait_for(READY)
        refusal = say(terminal, "x " * 64)
        assert "error: the conversation has" in refusal
        assert "/undo" in refusal
        assert "x x" not in say(terminal, "/show")
        assert "error: " not in say(terminal, "/system " + "y " * 64)
        refusal = say(terminal, "/regen")
        assert "error: the conversation has" in refusal
        shown = say(terminal, "/show")
        assert "user: Hello" in shown
        assert "assistant: " in shown, "the answer that was there before is still there"
        say(terminal, "/system")
        say(terminal, "/clear")
        assert "tokens/s" in say(terminal, "Hello")


@pytest.mark.parametrize(
    "name", [pytest.param("demo", marks=pytest.mark.slow), pytest.param("smollm2", marks=pytest.mark.smollm2)]
)
def test_what_was_said_is_not_read_again(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    # The template of the demo hands on the last message only.
    flags = ("--chat-template", "chatml") if name == "demo" else ("-m", str(request.getfixturevalue(name)))
    with Terminal("chat", *flags, "-n", "12", LLORCH_DATA_DIR=str(tmp_path)) as terminal:
        terminal.wait_for(READY)
        question = (
            "Tell me about a dog that lives in a small house by the sea, and what it does all day long."
        )
        cached = [
            int(re.search(r"(\d+) of \d+ prompt tokens cached", say(terminal, question))[1])  # type: ignore[index]
            for _ in range(3)
        ]
        assert cached[0] < KV_BLOCK_SIZE < cached[2]
        assert cached == sorted(cached)
        terminal.type(CTRL_D)
        assert terminal.end() == 0


@pytest.mark.slow
def test_answers_can_go_to_a_file_while_somebody_types(long_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    flags = ("-m", str(long_model), "-n", "3", "--temperature", "0")
    with Terminal("chat", *flags, stdout=out, LLORCH_DATA_DIR=str(tmp_path)) as terminal:
        terminal.wait_for(READY)
        terminal.type("half")
        terminal.wait_for("half")
        terminal.interrupt_reading()
        terminal.wait_for("/exit or Ctrl-D leaves")
        terminal.wait_for(READY)
        terminal.enter("Hello")
        terminal.wait_for("3 tokens")
        terminal.wait_for(READY)
        terminal.type(CTRL_D)
        assert terminal.end() == 0
    assert out.read_text(errors="replace").count("\n") == 1
