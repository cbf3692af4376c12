"""What another engine says of the same tokens, and what becomes of it in the verdict."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from llorch.cli.main import main
from llorch.engine.engine import Engine, open_configured
from llorch.engine.events import EndEvent, Timings, TokenLogprobs, Usage
from llorch.engine.params import SamplingParams
from llorch.engine.request import Request
from llorch.receipts.against_llama_server import LOGPROB_TOLERANCE, Comparison
from llorch.receipts.replay import Replay
from llorch.settings import Settings
from tests.support.other_program import write_program
from tests.support.receipts import receipts

END = EndEvent("job", "length", "", (), Usage(1, 2, 0), 0, None, Timings(0, 0, 0, 0, 0))


def compared(*theirs: tuple[float, list[tuple[int, float]]]) -> Comparison:
    """With tokens that llorch holds as probable as e^-1 while token 7 is the most probable."""
    comparison = Comparison(Replay(END, [], [], [TokenLogprobs(-1.0, ((7, -0.5),))] * len(theirs)))
    for one in theirs:
        comparison.add(*one)
    return comparison


def test_two_engines_agree_within_the_tolerance() -> None:
    comparison = compared((-1.25, [(7, -0.5)]), (-1.0, [(8, -0.5), (7, -0.6)]))
    assert comparison.holds
    assert comparison.figures() == {
        "n_tokens": 2,
        "n_same_most_probable": 1,
        "largest_logprob_difference": 0.25,
        "mean_logprob_difference": 0.125,
        "largest_gap_of_most_probable": pytest.approx(0.1),
        "tolerance": LOGPROB_TOLERANCE,
    }


def test_a_token_that_is_less_probable_to_one_is_named() -> None:
    comparison = compared((-1.0, [(7, -0.5)]), (-1.75, [(7, -0.5)]))
    assert not comparison.holds
    assert "differ by up to 0.75 (token 1)" in comparison.note


def test_a_most_probable_token_that_is_far_behind_to_the_other_is_no_tie() -> None:
    assert not compared((-1.0, [(8, -0.1), (7, -0.9)])).holds
    comparison = compared((-1.0, [(8, -0.1)]))  # it is not even among the most probable ones
    assert not comparison.holds
    assert comparison.figures()["largest_gap_of_most_probable"] is None


def test_a_number_that_is_none_is_no_agreement() -> None:
    agreed = (-1.0, [(7, -0.5)])
    for wrong in ((math.nan, [(7, -0.5)]), (-1.0, [(7, math.nan)])):
        assert not compared(wrong, agreed).holds
        assert not compared(agreed, wrong).holds
    assert compared((math.nan, [(7, -0.5)])).figures()["largest_logprob_difference"] is None


@pytest.fixture(scope="module")
def receipt_file(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with open_configured(Settings(model=str(tiny_model), threads=1)) as loaded:
        bias = SamplingParams(temperature=0, logit_bias={7: 100})
        asked = Request("job", (1, 5), bias, 3, ignore_eos=True, hashes_logits=True)
        [receipt] = receipts(loaded, Engine(loaded, Settings(ctx_size=64, parallel=1)), asked)
    path = tmp_path_factory.mktemp("receipt") / "receipt.json"
    path.write_text(json.dumps(receipt))
    return path


def run(program: Path, model: Path, receipt: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, Any]:
    words = ["verify-receipt", str(receipt), "-m", str(model), "-t", "1", "--json"]
    code = main([*words, "--against", f"llama-server={program}"])
    out, err = capsys.readouterr()
    return code, json.loads(out) if out else err


def test_a_program_that_holds_them_for_less_probable_makes_the_verdict(
    tiny_model: Path, receipt_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = run(write_program(tmp_path / "other", -50.0), tiny_model, receipt_file, capsys)
    assert (code, found["verdict"]) == (1, "not verified")
    assert (found["checks"]["token_ids"], found["checks"]["llama_server"]) == (True, False)
    assert (found["llama_server"]["build"], found["llama_server"]["n_tokens"]) == ("other", 3)


def test_one_that_breaks_off_leaves_it_open_and_nothing_is_called_verified(
    tiny_model: Path, receipt_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = run(write_program(tmp_path / "other", None), tiny_model, receipt_file, capsys)
    assert (code, found["verdict"]) == (3, "not reproducible")
    assert (found["checks"]["token_ids"], found["checks"]["llama_server"]) == (True, None)
    assert "does not answer /completion" in found["notes"][0]


def test_one_that_does_not_even_start_is_bad_input(
    tiny_model: Path, receipt_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, err = run(Path("/bin/false"), tiny_model, receipt_file, capsys)
    assert code == 2
    assert "llama-server ended with 1 before it was ready" in err
