"""What stands around the clients' programs: checks are counted, installation faults are told apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.conformance.checks import Target, expect, expect_equal, expect_error, run_checks
from tools.conformance.environment import ENVIRONMENT
from tools.conformance.run import main
from tools.setup.lock import canonical
from tools.setup.own_environment import InstallError

WORDS = ["--url", "http://127.0.0.1:1", "--model", "m", "--key", "k", "--model-path", "p"]


def right(target: Target) -> None:
    """What is right."""
    expect(target.v1 == "http://127.0.0.1:1/v1", "the url")
    expect_error(ZeroDivisionError, "a division", lambda: 1 // 0)


def different(target: Target) -> None:
    """What differs."""
    expect_equal("the number", 1, 2)


def raising(target: Target) -> None:
    """What raises."""
    raise KeyError("lost")


def test_every_check_runs_and_one_difference_is_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_checks([right], WORDS) == 0
    assert run_checks([different, raising, right], WORDS) == 1
    out = capsys.readouterr().out
    assert "DIFFERENT  What differs.\n             the number: expected 2, got 1" in out
    assert "KeyError('lost')" in out
    assert "1 of 3 checks hold" in out


def test_another_error_or_none_is_a_difference() -> None:
    def wrong(target: Target) -> None:
        expect_error(KeyError, "x", lambda: 1 // 0)

    def none(target: Target) -> None:
        expect_error(KeyError, "x", lambda: 1)

    assert run_checks([wrong], WORDS) == run_checks([none], WORDS) == 1


def test_a_fault_of_the_network_is_told_from_others() -> None:
    broken = "WARNING: Retrying (Retry(total=4)) after connection broken by 'NameResolutionError'"
    assert InstallError(broken).is_offline
    assert not InstallError("ERROR: Could not find a version that satisfies openai>=99").is_offline


def test_every_requirement_is_locked_and_pytorch_is_not_among_them() -> None:
    locked = {
        canonical(line.partition("==")[0])
        for line in ENVIRONMENT.constraints.read_text("utf-8").splitlines()
        if "==" in line
    }
    wanted = {
        canonical(line.partition(">=")[0].partition("[")[0])
        for line in ENVIRONMENT.requirements.read_text("utf-8").splitlines()
        if not line.startswith("#")
    }
    assert wanted <= locked
    assert not {"torch", "triton"} & locked


def test_an_environment_with_its_stamp_is_taken_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONFORMANCE_VENV", str(tmp_path / "v"))
    (tmp_path / "v").mkdir()
    ENVIRONMENT.stamp.write_text(ENVIRONMENT.fingerprint(), "utf-8")
    assert ENVIRONMENT.ensure() == tmp_path / "v" / "bin" / "python"


def test_an_unknown_client_is_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        main(["nobody"])
    assert error.value.code == 2
    assert "there are openai" in capsys.readouterr().err
