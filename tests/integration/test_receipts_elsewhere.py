"""Receipts computed again by other threads, other instructions, another residence of the weights, another program."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY
from tests.support.commands import LLORCH
from tests.support.live_server import LiveServer
from tests.support.masks import can_run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
BODY: dict[str, Any] = {
    "prompt": "Once upon a time there was a little girl who had a dog. " * 8,
    "max_tokens": 30,
    "temperature": 0.9,
    "seed": 7,
    "receipt": True,
    "stream": False,
}
LLAMA_SERVER = os.environ.get("LLORCH_TEST_LLAMA_SERVER")


def receipt_of(model: Path | str, log: Path, *flags: str, **variables: str) -> dict[str, Any]:
    server = LiveServer(model, log, "-np", "2", *flags, **variables).wait_until_ready()
    try:
        receipt: dict[str, Any] = server.post("/generate", json=BODY).json()["receipt"]
        return receipt
    finally:
        assert server.stop() == 0


def verify(receipt: object, model: Path | str, *words: str, **variables: str) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(
        [*LLORCH, "verify-receipt", "-", "-m", str(model), "--json", *words],
        input=json.dumps(receipt),
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env=os.environ | variables,
        timeout=600,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_threads_residence_and_instructions_do_not_matter(real_model: Path, tmp_path: Path) -> None:
    receipt = receipt_of(real_model, tmp_path / "log", "-t", "2", "--weights", "packed")
    for words in (("-t", "1", "--weights", "mapped"), ("-t", "3", "--weights", "packed")):
        assert verify(receipt, real_model, *words)[0] == 0
    for mask in ("avx512", "avx2", "generic"):
        if can_run(mask):
            code, found = verify(receipt, real_model, LLORCH_CPU=mask)
            assert (code, found["verdict"]) == (0, "verified"), mask


def test_a_receipt_in_llama_cpps_order_is_verified_in_that_order_and_in_no_other(tmp_path: Path) -> None:
    receipt = receipt_of("demo", tmp_path / "log", LLORCH_SUMS="llama.cpp")
    assert receipt["arithmetic"]["sums"] == "llama.cpp"
    code, found = verify(receipt, "demo", LLORCH_SUMS="llama.cpp")
    assert (code, found["verdict"]) == (0, "verified")
    code, found = verify(receipt, "demo", LLORCH_SUMS="llorch")
    assert (code, found["verdict"]) == (3, "not reproducible")
    assert found["checks"]["arithmetic"] is False
    assert "run with LLORCH_SUMS=llama.cpp" in found["notes"][0]


@pytest.mark.reference
@pytest.mark.skipif(LLAMA_SERVER is None, reason="LLORCH_TEST_LLAMA_SERVER names no llama-server")
def test_a_llama_server_holds_each_token_as_probable_as_llorch(real_model: Path, tmp_path: Path) -> None:
    receipt = receipt_of(real_model, tmp_path / "log")
    code, found = verify(receipt, real_model, "--against", f"llama-server={LLAMA_SERVER}")
    assert (code, found["verdict"], found["checks"]["llama_server"]) == (0, "verified", True)
    figures = found["llama_server"]
    assert figures["n_tokens"] == receipt["logits"]["n_rows"]
    assert figures["n_same_most_probable"] >= 0.8 * figures["n_tokens"]
    assert 0 < figures["mean_logprob_difference"] <= figures["largest_logprob_difference"] < 0.5
    processes = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    assert f"-m {real_model} --host 127.0.0.1" not in processes
