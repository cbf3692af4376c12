"""Command lines written for llama-server."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from llorch.cli.main import build_parser
from llorch.cli.options import settings_from
from llorch.settings import Settings


def parsed(*words: str) -> argparse.Namespace:
    return build_parser("serve").parse_args(["serve", *words])


def settings(*words: str) -> Settings:
    return settings_from(parsed(*words))


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["-c", "512"], "ctx_size", 512), (["-np", "2"], "parallel", 2), (["-n", "9"], "n_predict", 9),
        (["--predict", "9"], "n_predict", 9), (["-b", "64"], "batch_size", 64), (["-t", "3"], "threads", 3),
        (["-a", "it"], "alias", "it"), (["--temp", "0.5"], "temperature", 0.5), (["--top-k", "7"], "top_k", 7),
        (["--repeat-penalty", "1.1"], "repetition_penalty", 1.1), (["--repeat-last-n", "5"], "penalty_last_n", 5),
        (["-to", "60"], "send_timeout_s", 60), (["--timeout", "60"], "send_timeout_s", 60),
        (["--sse-ping-interval", "5"], "keep_alive_s", 5), (["--no-mmap"], "weights", "packed"),
        (["--mmap"], "weights", "mapped"), (["--verbose"], "log_level", "debug"),
        (["--log-jsonl"], "log_format", "json"), (["--host", "::1"], "host", "::1"), (["--port", "1"], "port", 1),
        (["-m", "x.gguf"], "model", "x.gguf"),
        (["--no-cache-prompt"], "prefix_cache", False),
        (["--chat-template", "llama2"], "chat_template", "llama2"),
        (["--host", "/run/a.sock"], "host", "/run/a.sock"),
        (["--ssl-cert-file", "a", "--ssl-key-file", "b"], "ssl_cert_file", "a"),
        (["--ssl-cert-file", "a", "--ssl-key-file", "b"], "ssl_key_file", "b"),
        (["--cors-origins", "https://a.example"], "cors_origins", ("https://a.example",)),
        (["--no-webui"], "page", False), (["--no-ui"], "page", False), (["--webui"], "page", True),
    ],
)  # fmt: skip
def test_a_flag_of_that_meaning_is_a_spelling_of_the_setting(words: list[str], name: str, value: Any) -> None:
    assert getattr(settings(*words), name) == value


@pytest.mark.parametrize(
    "words",
    [
        "-cb --jinja --slots --props --no-warmup", "-ngl 99 --flash-attn on -dev none -fa", "-fa -c 512",
        "--threads-http 4 --no-context-shift --log-colors off --offline",
    ],
)  # fmt: skip
def test_a_flag_for_what_is_so_anyway_changes_nothing(words: str) -> None:
    given = settings(*words.split())
    assert given == (Settings(ctx_size=512) if "512" in words else Settings())


@pytest.mark.parametrize(
    ("words", "way_out"),
    [
        ("-ub 512", "--batch-size"), ("--threads-batch 4", "--threads"), ("--mlock", "--weights packed"),
        ("--cache-type-k q8_0", "--kv-type"), ("-hf a/b:Q8_0", "llorch pull"), ("-md x.gguf", "--draft ngram"),
        ("--api-prefix /a", "proxy"), ("--mirostat 2", "each request"),
        ("--adaptive-target 1", "each request"),
        ("--seed 4", "each request"), ("--context-shift", "length"), ("--no-slots", "API key"),
        ("--lora x", "adapters"), ("--rope-freq-base 1000", "model file"),
        ("--log-file x", "standard error"), ("-C ff", "taskset"), ("--cpu-strict 1", "--pin-threads"),
    ],
)  # fmt: skip
def test_another_flag_is_refused_in_one_line_with_a_way_out(
    words: str, way_out: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parsed(*words.split())
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"{words.split()[0]} is a flag of llama-server" in said
    assert way_out in said


def test_they_do_not_crowd_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed("--help")
    said = capsys.readouterr().out
    assert "--repeat-penalty" in said
    assert "--mlock" not in said
    assert "--cont-batching" not in said
