"""Bundles that were tampered with: any byte of any file, files too many or too few, and tricks in `SHA256SUMS`."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from llorch.cli.main import main
from llorch.errors import ReferenceDumpError
from llorch.validation.attestation import ATTESTATION
from llorch.validation.bundle_writer import RUN_ID_VARIABLE
from llorch.validation.sums import SUMS, check_sums, sums_of_folder
from llorch.validation.verify import verify
from tests.support.proof import GOLDEN, TINY

FILES = [
    "SHA256SUMS", "attestation.json", "bundle.json", "checkpoints.json", "checks-f32.ndjson", "drift.png",
    "summary.md", "values-f32.npz", "worst.png",
]  # fmt: skip


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sealed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(RUN_ID_VARIABLE, "one")
        assert main([*TINY, "--reference", str(GOLDEN / "tiny-f32"), "--proof-dir", str(root)]) == 0
    return root / "checkpoint" / "one"


@pytest.fixture
def copied(sealed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sealed, tmp_path / "bundle"))


def problems_of(folder: Path) -> str:
    """What the verifier finds, or why it refuses the folder."""
    try:
        return "\n".join(verify(folder).problems)
    except ReferenceDumpError as error:
        return str(error)


def test_the_list_above_names_every_file_of_a_bundle(sealed: Path) -> None:
    assert sorted(path.name for path in sealed.iterdir()) == FILES


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="sha256sum is not installed")
def test_sha256sum_itself_checks_a_bundle(copied: Path) -> None:
    check = ["sha256sum", "--strict", "--check", SUMS]
    done = subprocess.run(check, cwd=copied, capture_output=True, text=True)
    assert (done.returncode, done.stdout.count(": OK")) == (0, len(FILES) - 1)
    (copied / "summary.md").write_text("changed")
    done = subprocess.run(check, cwd=copied, capture_output=True, text=True)
    assert done.returncode == 1
    assert "summary.md: FAILED" in done.stdout


def test_the_sums_of_equal_files_are_the_same_bytes(copied: Path) -> None:
    assert sums_of_folder(copied) == (copied / SUMS).read_bytes()


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_anywhere_in_a_file_is_found(name: str, copied: Path) -> None:
    content = (copied / name).read_bytes()
    chosen = random.Random(name)
    for at in [0, len(content) - 1, *(chosen.randrange(len(content)) for _ in range(6))]:
        changed = bytearray(content)
        changed[at] ^= 1 << chosen.randrange(8)
        (copied / name).write_bytes(changed)
        assert name in problems_of(copied), f"byte {at}"


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("change", ["removed", "emptied", "cut", "longer"])
def test_a_file_that_is_not_as_it_was_is_named(name: str, change: str, copied: Path) -> None:
    path = copied / name
    content = path.read_bytes()
    path.write_bytes({"emptied": b"", "cut": content[:-9], "longer": content + b"\n", "removed": b""}[change])
    if change == "removed":
        path.unlink()
    assert name in problems_of(copied)


@pytest.mark.parametrize("name", ["extra.txt", ".hidden", ".gitignore", "model.sig.bak", "sha256sums"])
def test_a_file_too_many_is_named(name: str, copied: Path) -> None:
    (copied / name).write_text("x")
    assert f"{name} does not belong to the bundle" in problems_of(copied)


@pytest.mark.parametrize("makes_pipe", [False, True])
def test_a_name_cannot_send_codes_to_the_terminal(
    makes_pipe: bool, copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = os.fsencode(copied) + b"/\xff\x1b[31mred\nline"
    if makes_pipe:
        os.mkfifo(name)
    else:
        Path(os.fsdecode(name)).write_text("x")
    assert main(["validate", "--verify", str(copied)]) == (2 if makes_pipe else 1)
    shown = "".join(capsys.readouterr())
    assert "\\x1b[31mred\\nline" in shown
    assert "\x1b" not in shown


def test_text_in_a_bundle_cannot_send_codes_to_the_terminal(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index = json.loads((copied / "bundle.json").read_text())
    (copied / "bundle.json").write_text(json.dumps(index | {"created": "\x1b[2J\nwiped"}))
    main(["validate", "--verify", str(copied)])
    out = capsys.readouterr().out
    assert "\\x1b[2J\\nwiped" in out
    assert "\x1b" not in out


@pytest.mark.parametrize(
    "make",
    [
        lambda path: path.symlink_to("/etc/hostname"),
        lambda path: path.mkdir(),
        lambda path: os.mkfifo(path),
        lambda path: path.symlink_to("absent"),
    ],
    ids=["link", "folder", "pipe", "broken link"],
)
@pytest.mark.parametrize("name", ["drift.png", "bundle.json", SUMS, ATTESTATION, "model.sig", "extra"])
def test_what_is_no_regular_file_is_named_and_never_opened(
    name: str, make: Callable[[Path], object], copied: Path
) -> None:
    (copied / name).unlink(missing_ok=True)
    make(copied / name)
    assert f"{name} is no regular file" in problems_of(copied)


SUM = "0" * 64
TRICKS = {
    "a path upwards": f"{SUM}  ../x\n",
    "an absolute path": f"{SUM}  /etc/hostname\n",
    "a path below": f"{SUM}  a/b\n",
    "the folder": f"{SUM}  .\n",
    "the folder above": f"{SUM}  ..\n",
    "itself": f"{SUM}  SHA256SUMS\n",
    "the signature": f"{SUM}  model.sig\n",
    "carriage returns": f"{SUM}  a\r\n",
    "an escaped name": f"\\{SUM}  a\\nb\n",
    "a backslash": f"{SUM}  a\\b\n",
    "a name with a null": f"{SUM}  a\0b\n",
    "a name that ends in a space": f"{SUM}  a \n",
    "no name": f"{SUM}  \n",
    "one space": f"{SUM} a\n",
    "binary mode": f"{SUM} *a\n",
    "BSD's form": f"SHA256 (a) = {SUM}\n",
    "capital digits": f"{'A' * 64}  a\n",
    "a short sum": f"{SUM[1:]}  a\n",
    "an empty line": f"\n{SUM}  a\n",
    "a comment": f"# sums\n{SUM}  a\n",
    "a byte order mark": f"\ufeff{SUM}  a\n",
    "another line separator": f"{SUM}  a\u2028{SUM}  b\n",
    "no last line feed": f"{SUM}  a",
    "the same name twice": f"{SUM}  a\n{SUM}  a\n",
    "another order": f"{SUM}  b\n{SUM}  a\n",
    "nothing": "",
}


@pytest.mark.parametrize("trick", TRICKS)
def test_a_trick_in_the_sums_is_refused_before_any_file_is_read(trick: str, tmp_path: Path) -> None:
    (tmp_path / SUMS).write_bytes(TRICKS[trick].encode())
    problems = check_sums(tmp_path)
    assert problems
    assert all(problem.startswith(SUMS) for problem in problems)
    assert all("\n" not in problem and "\0" not in problem for problem in problems)


def test_sums_that_are_no_text_or_far_too_large_are_refused(tmp_path: Path) -> None:
    (tmp_path / SUMS).write_bytes(b"\xff\xfe\n")
    assert check_sums(tmp_path) == [f"{SUMS} is no UTF-8"]
    with (tmp_path / SUMS).open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ReferenceDumpError, match="larger than 1 MiB"):
        check_sums(tmp_path)


@pytest.mark.parametrize(
    "content", [b"[]", b"{}", b"null", b"[" * 100_000, b'{"predicate": 3}', b"{", b"\xff"]
)
def test_an_attestation_that_is_something_else_is_refused(content: bytes, copied: Path) -> None:
    (copied / ATTESTATION).write_bytes(content)
    (copied / SUMS).write_bytes(sums_of_folder(copied))
    found = problems_of(copied)
    assert ATTESTATION in found
    assert "\n" not in found
