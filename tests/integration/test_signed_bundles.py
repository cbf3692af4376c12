"""Strangers' tools on a signed bundle: `model_signing`, in-toto's own classes, openssl's keys; and what they refuse."""

from __future__ import annotations

import base64
import json
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.support.proof import GOLDEN, rehash

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed"),
]
VALID_STATEMENT = """
import json, sys
from google.protobuf.json_format import ParseDict
from in_toto_attestation.predicates.test_result.v0.test_result_pb2 import TestResult
from in_toto_attestation.v1.statement import Statement
from in_toto_attestation.v1.statement_pb2 import Statement as Message
document = json.load(open(sys.argv[1]))
Statement.copy_from_pb(ParseDict(document, Message())).validate()
result = ParseDict(document["predicate"], TestResult())
print(result.result, len(result.passed_tests), len(result.configuration))
"""


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`key.pem`, `public.pem`, another pair, one of another kind, and one with a password."""
    folder = tmp_path_factory.mktemp("keys")
    for words in (
        "ecparam -name prime256v1 -genkey -noout -out key.pem",
        "ec -in key.pem -pubout -out public.pem",
        "ecparam -name secp384r1 -genkey -noout -out other.pem",
        "ec -in other.pem -pubout -out other-public.pem",
        "genrsa -out rsa.pem 2048",
        "ec -in key.pem -aes128 -passout pass:secret -out locked.pem",
    ):
        subprocess.run(["openssl", *words.split()], cwd=folder, check=True, capture_output=True)
    return folder


def run(*words: object, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run Python with these words."""
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)} | variables
    command = [sys.executable, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=250)


@pytest.fixture(scope="module")
def signed(keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("signed")
    words = [
        "-m",
        GOLDEN / "tiny.gguf",
        "--reference",
        GOLDEN,
        "--proof-dir",
        root,
        "--sign",
        keys / "key.pem",
    ]
    done = run("-m", "llorch", "validate", *words, LLORCH_RUN_ID="one")
    assert done.returncode == 0, done.stderr
    return root / "checkpoint" / "one"


@pytest.fixture
def copied(signed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(signed, tmp_path / "bundle"))


def theirs(folder: Path, key: Path) -> subprocess.CompletedProcess[str]:
    signature = folder / "model.sig"
    return run("-m", "model_signing", "verify", "key", folder, "--public_key", key, "--signature", signature)


def ours(folder: Path, key: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return run("-m", "llorch", "validate", "--verify", folder, "--verify-key", key, *words)


def test_a_signed_bundle_is_verified_by_tools_that_are_not_llorchs(
    signed: Path, keys: Path, tmp_path: Path
) -> None:
    moved = Path(shutil.copytree(signed, tmp_path / "moved"))
    for folder in (signed, moved):
        assert theirs(folder, keys / "public.pem").returncode == 0
        done = ours(folder, keys / "public.pem")
        assert (done.returncode, "the signature holds for every file" in done.stdout) == (0, True), (
            done.stdout
        )
    sums = subprocess.run(["sha256sum", "--strict", "-c", "SHA256SUMS"], cwd=moved, capture_output=True)
    assert sums.returncode == 0


def test_the_attestation_is_a_test_result_by_in_totos_own_definitions(signed: Path) -> None:
    done = run("-c", VALID_STATEMENT, signed / "attestation.json")
    assert done.stdout.split() == ["PASSED", "26", "8"], done.stderr


def test_every_command_of_the_page_for_strangers_runs_in_an_empty_folder(tmp_path: Path) -> None:
    page = (REPOSITORY / "docs" / "proof.md").read_text("utf-8")
    (tmp_path / "python3").symlink_to(sys.executable)
    (tmp_path / "llorch").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m llorch "$@"\n')
    (tmp_path / "llorch").chmod(0o755)
    (tmp_path / "empty").mkdir()
    path = os.pathsep.join([str(tmp_path), str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", "\n".join(re.findall(r"```sh\n(.*?)```", page, re.DOTALL))],
        cwd=tmp_path / "empty",
        env=os.environ | {"PATH": path, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert '"signature_holds": true' in done.stdout
    hashes = re.findall(r"^([0-9a-f]{64})  -$", done.stdout, re.MULTILINE)
    assert hashes[0] in done.stderr  # the tolerances
    statement = json.loads((tmp_path / "empty" / "checkpoint" / "mine" / "attestation.json").read_text())
    assert hashes[1] == statement["subject"][1]["digest"]["dirHash"]


def test_with_json_the_verdict_on_the_signature_is_one_document(signed: Path, keys: Path) -> None:
    for key, holds in (("public.pem", True), ("other-public.pem", False)):
        done = ours(signed, keys / key, "--json")
        assert json.loads(done.stdout)["signature_holds"] is holds
        assert done.returncode == (0 if holds else 1)


def test_a_bundle_whose_hashes_were_all_made_anew_is_refused_by_its_signature(
    copied: Path, keys: Path
) -> None:
    (copied / "summary.md").write_text("# All is well\n")
    rehash(copied)
    done = run("-m", "llorch", "validate", "--verify", copied)
    assert done.returncode == 0  # nobody can tell without the key
    assert "the signature was not checked" in done.stdout
    done = ours(copied, keys / "public.pem")
    assert done.returncode == 1
    assert "model.sig was made over other content of SHA256SUMS, bundle.json, summary.md\n" in done.stdout
    refused = theirs(copied, keys / "public.pem")
    assert refused.returncode != 0
    assert "summary.md" in refused.stderr


@pytest.mark.parametrize("tampering", ["extra", "missing", "unsigned", "another key's"])
def test_other_tampering_is_refused(tampering: str, copied: Path, keys: Path) -> None:
    key = keys / ("other-public.pem" if tampering == "another key's" else "public.pem")
    named = {"extra": "x.txt", "missing": "drift.png"}.get(tampering, "model.sig")
    if tampering == "extra":
        (copied / named).write_text("x")
    elif tampering != "another key's":
        (copied / named).unlink()
    done = ours(copied, key)
    assert (done.returncode, named in done.stdout) == (1, True), done.stdout
    assert theirs(copied, key).returncode != 0


def test_a_change_of_what_the_signature_signs_or_of_itself_is_refused(copied: Path, keys: Path) -> None:
    path = copied / "model.sig"
    original = json.loads(path.read_text())
    chosen = random.Random(1)
    for part in ("payload", "sig"):
        document = json.loads(json.dumps(original))
        envelope = document["dsseEnvelope"]
        place = envelope if part == "payload" else envelope["signatures"][0]
        content = bytearray(base64.b64decode(place[part]))
        content[chosen.randrange(len(content))] ^= 1
        place[part] = base64.b64encode(content).decode()
        path.write_text(json.dumps(document))
        done = ours(copied, keys / "public.pem")
        assert (done.returncode, "model.sig does not hold" in done.stdout) == (1, True), done.stdout


def test_a_signature_that_ignores_a_file_does_not_cover_the_bundle(copied: Path, keys: Path) -> None:
    (copied / "model.sig").unlink()
    words = ["--private_key", keys / "key.pem", "--signature", copied / "model.sig"]
    done = run("-m", "model_signing", "sign", "key", copied, *words, "--ignore-paths", copied / "summary.md")
    assert done.returncode == 0, done.stderr
    done = ours(copied, keys / "public.pem")
    assert (done.returncode, "model.sig does not cover summary.md" in done.stdout) == (1, True), done.stdout


def test_a_bundle_is_signed_later_but_not_over_a_signature(copied: Path, keys: Path) -> None:
    sign = ["-m", "llorch", "validate", "--verify", copied, "--sign", keys / "key.pem"]
    done = run(*sign)
    assert (done.returncode, "is signed already" in done.stderr) == (2, True)
    (copied / "model.sig").unlink()
    assert run(*sign).returncode == 0
    assert ours(copied, keys / "public.pem").returncode == 0
    assert not [path.name for path in copied.parent.iterdir() if path != copied]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("absent.pem", "there is no such file"),
        ("public.pem", "no private elliptic-curve key"),
        ("rsa.pem", "no private elliptic-curve key"),
        ("locked.pem", "protected by a password"),
    ],
)
def test_a_key_that_cannot_sign_is_refused_before_any_work(
    name: str, words: str, keys: Path, tmp_path: Path
) -> None:
    command = ["validate", "-m", GOLDEN / "tiny.gguf", "--reference", GOLDEN, "--proof-dir", tmp_path]
    done = run("-m", "llorch", *command, "--sign", keys / name)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert words in done.stderr
    assert list(tmp_path.iterdir()) == []
