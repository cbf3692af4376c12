"""`-t` and `-c` at the ends of what they take: one limit, one warning, whatever the command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import llorch
from llorch.errors import SettingsError
from llorch.fields.table import FIELDS
from llorch.open_model import open_model
from tests.support.commands import llorch as llorch_command

MOST = FIELDS["threads"].kind.limits["le"]
WARNING = "the context is 200 tokens, but the model was trained on 128: expect poor text beyond those"


@pytest.mark.parametrize(
    "words",
    [
        ("generate", "a"),
        ("bench", "-p", "1", "-n", "0"),
        ("inspect",),
        ("validate", "--reference", "nowhere"),
        ("serve", "--port", "0"),
    ],
    ids=lambda words: words[0],
)
def test_every_command_refuses_one_thread_too_many(words: tuple[str, ...], tiny_model: Path) -> None:
    done = llorch_command(*words, "-m", str(tiny_model), "-t", str(MOST + 1))
    assert done.returncode == 2
    assert str(MOST) in done.stderr
    assert str(MOST + 1) in done.stderr
    assert "Traceback" not in done.stderr


def test_python_meets_the_same_limit_and_may_use_all_of_it(tiny_model: Path) -> None:
    with pytest.raises(SettingsError, match=f"argument threads: expected an integer, 0 <= threads <= {MOST}"):
        llorch.load(tiny_model, threads=MOST + 1)
    for n_threads in (MOST + 1, -1):
        with pytest.raises(SettingsError, match=f"threads: expected 1 to {MOST}, got"):
            open_model(tiny_model, n_threads=n_threads)
    try:
        model = llorch.load(tiny_model, threads=MOST)
    except SettingsError as error:  # in a container that grants few threads
        pytest.skip(str(error))
    with model:
        assert model.generate("Hello", max_tokens=1, ignore_eos=True).token_ids


@pytest.mark.parametrize(
    "words", [("generate", "a", "-n", "2", "--json"), ("inspect", "--json")], ids=lambda words: words[0]
)
def test_a_context_beyond_the_trained_length_is_one_warning(words: tuple[str, ...], tiny_model: Path) -> None:
    done = llorch_command(*words, "-m", str(tiny_model), "-c", "200")
    assert (done.returncode, done.stderr.splitlines()) == (0, [f"llorch: {WARNING}"])
    assert json.loads(done.stdout)


def test_a_loaded_model_warns_once_and_not_with_each_request(
    tiny_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with llorch.load(tiny_model, ctx_size=200) as model:
        for _ in range(3):
            model.generate("Hello", max_tokens=2)
    assert caplog.messages == [WARNING]
