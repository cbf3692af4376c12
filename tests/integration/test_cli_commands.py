"""The `llorch` command as a user types it: output, JSON documents, exit codes, one line for every mistake."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from llorch.cli.main import main
from llorch.fields.table import REQUEST, SETTINGS
from llorch.version import __version__
from tests.support.commands import llorch, start
from tests.support.real_models import greedy_text


def document(*arguments: str) -> dict[str, object]:
    result = llorch(*arguments, "--json")
    assert result.returncode == 0, result.stderr
    found: dict[str, object] = json.loads(result.stdout)
    return found


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that a refused command leaves; in this process, for starting Python takes longer."""
    try:
        code: object = main(arguments)
    except SystemExit as ended:  # argparse's way
        code = ended.code
    written = capsys.readouterr()
    assert code == 2, written
    assert written.out == ""
    (line,) = written.err.splitlines()
    return line


def test_version_and_help_need_no_model() -> None:
    assert llorch("--version").stdout == f"llorch {__version__}\n"
    assert {"serve", "generate", "tokenize", "inspect"} <= set(llorch("--help").stdout.split())


def test_generate_writes_the_text_and_says_how_it_went(real_model: Path) -> None:
    model = str(real_model)
    result = llorch("generate", "-m", model, "Once upon a time", "-n", "11", "--temperature", "0")
    assert result.returncode == 0
    assert result.stdout.startswith(greedy_text(real_model))
    assert result.stdout.endswith("\n")
    *_, summary = result.stderr.splitlines()
    assert "length" in summary
    assert "seed" in summary
    assert llorch("generate", "-q", "-m", model, "Once", "-n", "1").stderr == ""


def test_generate_json_has_the_stable_keys(long_model: Path) -> None:
    found = document("generate", "-m", str(long_model), "Hello", "-n", "4", "--seed", "5")
    assert {"prompt_token_ids", "token_ids", "text", "finish_reason", "timings", "seed"} <= set(found)
    assert found["seed"] == 5
    again = document("generate", "-m", str(long_model), "Hello", "-n", "4", "--seed", "5")
    assert again["token_ids"] == found["token_ids"]


def generated(long_model: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> dict[str, object]:
    """What `llorch generate` writes with `flags`, in this process: the model is small, starting Python is not."""
    words = [
        "generate",
        "Hello",
        "-m",
        str(long_model),
        "-t",
        "1",
        "-n",
        "24",
        "--seed",
        "1",
        "--json",
        *flags,
    ]
    assert main(words) == 0
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def test_generate_takes_every_sampling_flag(long_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each flag alone changes the tokens as it should; at temperature 2 almost any token may come."""

    def ids(*flags: str) -> object:
        return generated(long_model, capsys, *flags)["token_ids"]

    wild = ("--temperature", "2", "--top-k", "0", "--top-p", "1", "--min-p", "0")
    greedy, chance = ids("--temperature", "0"), ids(*wild)
    assert greedy != chance
    tried = {"temperature"}
    for name, value in (
        ("top_k", "1"),
        ("top_p", "0"),
        ("min_p", "1"),
    ):  # leave the most probable token alone
        assert ids(*wild, f"--{name.replace('_', '-')}", value) == greedy
        tried.add(name)
    for name, value in (("repetition_penalty", "2"), ("presence_penalty", "2"), ("frequency_penalty", "2")):
        flag = f"--{name.replace('_', '-')}"
        assert ids("--temp", "0", flag, value) != greedy
        assert ids("--temp", "0", flag, value, "--penalty-last-n", "0") == greedy  # no token is recent
        tried |= {name, "penalty_last_n"}
    assert tried == SETTINGS.keys() & REQUEST.keys()


def test_generate_takes_seed_stop_length_and_context(
    long_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, again = generated(long_model, capsys), generated(long_model, capsys)
    assert first["token_ids"] == again["token_ids"]
    assert generated(long_model, capsys, "--seed", "2")["token_ids"] != first["token_ids"]
    text = str(first["text"])
    stops = [text[4:7], text[8:10]]
    stopped = generated(long_model, capsys, "--stop", stops[0], "--stop", stops[1])
    assert stopped["text"] == text[: min(text.index(stop) for stop in stops)]
    assert stopped["matched_stop"] in stops
    assert len(generated(long_model, capsys, "--temp", "0", "-n", "3")["token_ids"]) == 3  # type: ignore[arg-type]
    short = generated(long_model, capsys, "--temp", "0", "-n", "100", "-c", "10")
    assert len(short["prompt_token_ids"]) + len(short["token_ids"]) == 10  # type: ignore[arg-type]


def test_generate_reads_the_prompt_from_stdin(long_model: Path) -> None:
    arguments = ("generate", "-m", str(long_model), "-", "-n", "3", "--temperature", "0", "--json")
    from_stdin = json.loads(llorch(*arguments, stdin="Hello world").stdout)
    assert (
        from_stdin["prompt_token_ids"]
        == document("tokenize", "-m", str(long_model), "Hello world")["token_ids"]
    )


ENDLESS = ["Hello", "-n", "60000", "--temperature", "0"]
"""Greedy, since the random weights might draw the end of the text at any temperature."""
WAIT_S = 100.0
"""Only a failing test waits so long."""


def test_generate_streams_and_stops_quietly_when_nobody_reads(long_model: Path) -> None:
    with start("generate", "-m", str(long_model), *ENDLESS) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(5)  # comes long before 60,000 tokens are made
        process.stdout.close()
        assert process.wait(WAIT_S) == 141
        assert process.stderr.read() == b""


def test_tokenize_prints_ids_and_pieces(model_path: Callable[[str], Path]) -> None:
    model = str(model_path("ggml-vocab-llama-spm.gguf"))
    assert document("tokenize", "-m", model, "Hello") == {
        "token_ids": [1, 15043],
        "pieces": ["<s>", "▁Hello"],
    }
    assert document("tokenize", "-m", model, "Hello", "--no-bos")["token_ids"] == [15043]
    assert document("tokenize", "-m", model, "</s>", "--no-bos", "--special")["token_ids"] == [2]
    assert document("tokenize", "-m", model, "</s>", "--no-bos")["token_ids"] != [2]
    lines = llorch("tokenize", "-m", model, "Hello").stdout.splitlines()
    assert [line.split() for line in lines] == [["1", "'<s>'"], ["15043", "'▁Hello'"]]


def test_inspect_shows_file_kernels_and_memory(long_model: Path) -> None:
    found = document("inspect", "-m", str(long_model), "-np", "2")
    assert {"metadata", "config", "tensors", "kernels", "memory"} <= set(found)
    assert found["config"]["n_embd"] == 64  # type: ignore[index]
    assert found["metadata"]["tokenizer.ggml.tokens"]["n_items"] == 320  # type: ignore[index]
    assert found["problem"] is None
    text = llorch("inspect", "-m", str(long_model)).stdout
    assert all(word in text for word in ("tiny llama", "blk.1.ffn_down.weight", "KV cache", "Q8_0"))


def test_inspect_says_where_threads_would_run(
    long_model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu = min(os.sched_getaffinity(0))
    for flags, where in (([], "any CPU"), (["--pin-threads"], f"CPU {cpu}, one each")):
        assert main(["inspect", "-m", str(long_model), "-t", "1", *flags, "--json"]) == 0
        kernels = json.loads(capsys.readouterr().out)["kernels"]
        assert kernels["threads_on"] == where
        assert kernels["numa_nodes"] >= 1
    assert main(["inspect", "-m", str(long_model), "-t", "900", "--pin-threads"]) == 2
    assert "pin_threads: 900 threads want a CPU each" in capsys.readouterr().err


def test_inspect_says_what_a_mapped_file_must_not_suffer(
    long_model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for weights, is_at_risk in (("mapped", True), ("packed", False)):
        monkeypatch.setenv("LLORCH_WEIGHTS", weights)
        assert main(["inspect", "-m", str(long_model), "--json"]) == 0
        memory = json.loads(capsys.readouterr().out)["memory"]
        assert memory["weights_residence"] == weights
        assert main(["inspect", "-m", str(long_model)]) == 0
        text = capsys.readouterr().out
        assert (memory["weights_risk"] is not None) is ("SIGBUS" in text) is is_at_risk


def test_inspect_of_a_vocabulary_says_why_it_cannot_generate(model_path: Callable[[str], Path]) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = document("inspect", "-m", str(model_path("ggml-vocab-llama-bpe.gguf")))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (
        after.ru_utime - before.ru_utime < 5
    )  # seconds of the CPU: 128,000 tokens are not gone through one by one
    assert found["memory"] is None
    assert found["problem"]


def test_warmup_fills_the_cache() -> None:
    first = document("warmup")
    assert set(first) == {"units", "seconds", "cached", "kernels"}
    second = document("warmup", "-m", "demo")
    assert (second["units"], second["cached"]) == (first["units"], True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), ("COMMAND",)),
        (("fly",), ("fly", "generate")),
        (("generate",), ("PROMPT",)),
        (("generate", "a", "--tempo", "1"), ("--tempo",)),
        (("generate", "a", "-t", "many"), ("--threads", "many")),
        (("generate", "a", "-t", "-1", "--top-p", "7"), ("threads", "-1", "top-p", "7")),
        (("generate", "a", "--temperature", "nan"), ("temperature",)),
        (("generate", "a", "-m", "/no/such.gguf"), ("/no/such.gguf",)),
        (("inspect", "-m", "/"), ("/",)),
        (("tokenize", "a", "-m", "/dev/null"), ("/dev/null",)),
        (("generate", "a", "--config", "/no/such.toml"), ("/no/such.toml",)),
        (("serve", "--port", "99999"), ("port", "99999")),
        (("serve", "--host", "no.such.host.invalid"), ("no.such.host.invalid",)),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_mistakes_are_one_line_and_exit_2(
    arguments: tuple[str, ...],
    words: tuple[str, ...],
    long_model: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if arguments[:1] == ("serve",) or "nan" in arguments:
        arguments = (*arguments, "-m", str(long_model))
    line = refused(capsys, *arguments)
    assert "error: " in line
    assert all(word in line for word in words)


def test_more_mistakes_that_need_a_model(
    long_model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ("-m", str(long_model))
    assert "empty" in refused(capsys, "generate", "", *model)
    assert "UTF-8" in refused(capsys, "generate", "\udcff", *model)
    assert "seed" in refused(capsys, "generate", "a", "--seed", "-1", *model)
    assert "stop" in refused(capsys, "generate", "a", "--stop", "", *model)
    assert "context" in refused(capsys, "generate", "a a a a a a", "-c", "4", *model)
    monkeypatch.setenv("LLORCH_TEMPRATURE", "1")
    assert "LLORCH_TEMPRATURE" in refused(capsys, "generate", "a", *model)


def test_n_minus_one_goes_on_until_the_context_is_full(long_model: Path) -> None:
    arguments = ("generate", "Hello", "-m", str(long_model), "-c", "40", "--temperature", "0", "--json", "-n")
    document = json.loads(llorch(*arguments, "-1").stdout)
    assert document["finish_reason"] == "length"
    assert len(document["prompt_token_ids"]) + len(document["token_ids"]) == 40
    for wrong in ("0", "-2"):
        done = llorch(*arguments, wrong)
        assert (done.returncode, done.stdout) == (2, "")
        assert f"expected an integer, n_predict >= 1, or -1, got {wrong}" in done.stderr


def test_settings_come_from_flags_then_environment_then_file(long_model: Path, tmp_path: Path) -> None:
    config = tmp_path / "my.toml"
    config.write_text(f"model = {json.dumps(str(long_model))}\nn_predict = 3\ntemperature = 0\n")

    def n_tokens(*flags: str, **variables: str) -> int:
        arguments = ("generate", "Hello", "--config", str(config), "--json", *flags)
        return len(json.loads(llorch(*arguments, **variables).stdout)["token_ids"])

    assert n_tokens() == 3
    assert n_tokens(LLORCH_N_PREDICT="2") == 2
    assert n_tokens("-n", "1", LLORCH_N_PREDICT="2") == 1
