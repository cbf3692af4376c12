"""Files that are no receipts, or want to be too much of one: a line that says so, and no more."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llorch.cli.main import main
from llorch.errors import InputError
from llorch.receipts import read
from llorch.receipts.read import read_receipt
from llorch.receipts.schema import parse_receipt

DIGEST = "a" * 64
RECEIPT: dict[str, Any] = {
    "type": "receipt",
    "receipt": 1,
    "llorch": "0",
    "model": {"name": "m", "sha256": DIGEST, "bytes": 1, "tensors": {"F32": 1}, "quantization": "F32"},
    "arithmetic": {"revision": 1, "sums": "llorch", "kv_type": "f16"},
    "prompt": {"token_ids": [1], "sha256": DIGEST},
    "settings": {
        "temperature": 0.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "repetition_penalty": 1.0,
        "presence_penalty": 0.0, "frequency_penalty": 0.0, "penalty_last_n": 64, "penalize_prompt": True,
        "logit_bias": {}, "seed": 1, "max_tokens": 1, "stop": [], "ignore_eos": True, "end_ids": [2],
        "shown_ids": [], "is_constrained": False,
    },
    "settings_sha256": DIGEST,
    "answer": {
        "token_ids": [5], "end_token_id": None, "finish_reason": "length", "matched_stop": None,
        "timed_out": False, "text_sha256": DIGEST,
    },
    "logits": {"n_rows": 1, "n_vocab": 320, "sha256": DIGEST, "running": [DIGEST[:16]]},
    "circumstances": {"job_id": "a", "kernel_path": "avx2", "cached_tokens": 0, "drafted_tokens": 0},
    "sha256": DIGEST,
}  # fmt: skip


def written(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "receipt.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not JSON"),
        (b"\xff\xfe", "is not UTF-8 (byte 0)"),
        (b"{" * 100, "is not JSON"),
        (b"[" * 10**6, "is nested too deeply"),
        (b'{"a":' * 10**6, "is nested too deeply"),
        (b'{"type": "receipt", "receipt": NaN}', "NaN is no JSON number"),
        (b'{"receipt": ' + b"9" * 10**5 + b"}", "too many digits"),
        (b"null", "holds no receipt"),
        (b"[]", "holds no receipt"),
        (b'"receipt"', "holds no receipt"),
        (b'{"receipt": true}', "holds no receipt"),
        (b'{"receipt": {"receipt": {}}}', "holds no receipt"),
        (b'{"choices": [{"receipt": {}}, {"receipt": {}}]}', "holds 2 receipts"),
        (b'{"choices": 7}', "holds no receipt"),
        (b'{"type": "receipt"}', "Field required"),
        (b'{"type": "receipt", "receipt": 2}', "is a receipt of version 2; this llorch reads 1"),
        (b'{"type": "receipt", "receipt": 1e999}', "receipt: "),
    ],
)
def test_what_holds_no_receipt_is_refused_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(InputError) as refused:
        read_receipt(written(tmp_path, content))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("prompt.token_ids", [1.5]),
        ("prompt.token_ids", [-1]),
        ("prompt.token_ids", []),
        ("prompt.token_ids", [True]),
        ("prompt.token_ids", {"0": 1}),
        ("answer.token_ids", [2**31]),
        ("answer.token_ids", "x" * 10**5),
        ("answer.finish_reason", "error"),
        ("settings.seed", 2**64),
        ("settings.seed", -1),
        ("settings.temperature", "0"),
        ("settings.logit_bias", {"x": 1.0}),
        ("settings.logit_bias", {"1": "inf"}),
        ("settings.stop", ["secret" * 100]),
        ("settings.extra", 1),
        ("model.sha256", "A" * 64),
        ("model.name", "n" * 10**4),
        ("logits.running", ["zz"]),
        ("arithmetic.sums", "fortran"),
        ("settings", []),
        ("settings", None),
    ],
)
def test_a_value_of_another_kind_is_refused_by_its_place(place: str, value: object) -> None:
    part, _, name = place.partition(".")
    changed = {**RECEIPT, part: {**RECEIPT[part], name: value} if name else value}
    with pytest.raises(InputError) as refused:
        parse_receipt(changed, "file")
    assert str(refused.value).startswith(f"file: {place}")
    assert "secret" not in str(refused.value)
    assert len(str(refused.value)) < 400


def test_the_receipt_that_the_others_are_made_of_is_one() -> None:
    assert parse_receipt(RECEIPT, "file").chosen_ids == [5]


def test_a_file_beyond_the_bound_is_not_read_further(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "MAX_BYTES", 1 << 20)
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # a hole: to read it all would take an hour
    with pytest.raises(InputError, match="larger than 1 MiB"):
        read_receipt(path)


def test_more_ids_than_any_context_holds_are_refused(tmp_path: Path) -> None:
    content = json.dumps(RECEIPT).replace("[1]", f"[{'1,' * (1 << 20)}1]")
    with pytest.raises(InputError, match=r"prompt.token_ids: List should have at most"):
        read_receipt(written(tmp_path, content))


@pytest.mark.parametrize("name", ["missing", "."])
def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify-receipt", str(tmp_path / name)]) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_a_receipt_cut_short_ends_the_command_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.dumps(RECEIPT)
    for n in (1, 100, len(content) - 1):
        assert main(["verify-receipt", str(written(tmp_path, content[:n])), "--json"]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert len(err.splitlines()) == 1


@pytest.mark.parametrize("value", ["llama-server", "vllm=/bin/true", "llama-server="])
def test_another_program_that_cannot_be_meant_is_refused(
    value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        main(["verify-receipt", "x.json", "--against", value])
    assert refused.value.code == 2
    assert "--against" in capsys.readouterr().err


def test_a_program_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify-receipt", "x.json", "--against", "llama-server=/no/such"]) == 2
    assert "there is no program /no/such" in capsys.readouterr().err


def test_names_of_a_strangers_file_send_nothing_to_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    escape = "\x1b]0;owned\x07"
    named = {**RECEIPT, "model": {**RECEIPT["model"], "name": escape}, "llorch": escape}
    assert main(["verify-receipt", str(written(tmp_path, json.dumps(named)))]) == 1
    assert main(["verify-receipt", str(written(tmp_path, json.dumps({**RECEIPT, escape: 1})))]) == 2
    out, err = capsys.readouterr()
    assert "owned" in out
    assert "\x1b" not in out + err
