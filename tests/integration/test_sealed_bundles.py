"""What `llorch validate` says of a bundle's sums, attestation and signature; the extra `sign` is not needed here."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from llorch.cli.main import main
from llorch.errors import InputError
from llorch.validation.attestation import ATTESTATION
from llorch.validation.bundle_writer import BundleWriter
from llorch.validation.not_proven import not_proven
from llorch.validation.sums import SIGNATURE, SUMS
from tests.support.proof import GOLDEN, TINY, error_of
from tools.performance.fingerprints import llorch_packages
from tools.proof import seal_bundles


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle that judges nothing, signed by something that is no signature."""
    writer = BundleWriter("performance", tmp_path, "one", lambda folder: sign_badly(folder))
    writer.add_json("performance.json", {"cases": []})
    writer.add_ndjson("runs.ndjson", [])
    writer.add_summary("# Speed\n")
    return writer.write({"models": [], "peers": [], "packages": llorch_packages()}, None, "command")


def sign_badly(folder: Path) -> None:
    (folder / SIGNATURE).write_text("{}")


def output_of(capsys: pytest.CaptureFixture[str], folder: Path, expected: int = 0) -> str:
    assert main(["validate", "--verify", str(folder)]) == expected
    return capsys.readouterr().out


def test_a_signature_that_was_not_checked_is_not_called_valid(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "signed; the signature was not checked" in output_of(capsys, bundle)
    assert main(["validate", "--verify", str(bundle), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["is_signed"], found["signature_holds"], found["missing"]) == (True, None, [])
    (bundle / SIGNATURE).unlink()
    assert "not signed" in output_of(capsys, bundle)
    assert main(["validate", "--verify", str(bundle), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["is_signed"] is False


@pytest.fixture
def older(bundle: Path) -> Path:
    """The same in the form that bundles had before they were sealed."""
    index = json.loads((bundle / "bundle.json").read_text())
    for name in ("hardware", "package", "packages"):
        del index[name]
    (bundle / "bundle.json").write_text(json.dumps(index | {"schema": "llorch-proof/1"}))
    for name in (SUMS, ATTESTATION, SIGNATURE):
        (bundle / name).unlink()
    return bundle


def test_of_an_older_bundle_it_is_said_what_is_absent(
    older: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = output_of(capsys, older)
    assert "an older form of bundle: there is no SHA256SUMS and no attestation.json and no record of" in out
    assert "not signed" in out


def test_an_older_bundle_is_sealed_by_what_it_holds(older: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path.name: path.read_bytes() for path in older.iterdir()}
    assert seal_bundles.main([str(older)]) == 0
    assert "was sealed" in capsys.readouterr().out
    assert {name: (older / name).read_bytes() for name in before} == before
    assert "older form of bundle: there is no record of the hardware" in output_of(capsys, older)
    assert seal_bundles.main([str(older)]) == 0
    assert "is sealed already" in capsys.readouterr().out
    assert [path.name for path in older.parent.iterdir()] == [older.name]


@pytest.mark.parametrize("fault", ["altered", "signed"])
def test_a_bundle_that_cannot_be_sealed_is_left_as_it_is(
    fault: str, older: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "summary.md" if fault == "altered" else SIGNATURE
    (older / name).write_text("?")
    assert seal_bundles.main([str(older)]) == 1
    assert name in capsys.readouterr().err
    assert not (older / SUMS).exists()


@pytest.mark.parametrize("name", [SUMS, ATTESTATION])
def test_a_newer_bundle_may_not_lack_its_seals(
    name: str, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (bundle / name).unlink()
    out = output_of(capsys, bundle, 1)
    assert f"{name} is missing" in out
    assert "it does not hold" in out


@pytest.mark.parametrize(
    "words", [["--reference", str(GOLDEN), "--sign"], ["--verify", "{bundle}", "--verify-key"]]
)
def test_without_the_extra_one_message_says_how_to_get_it(
    words: list[str], bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "model_signing", None)
    key = bundle.parent / "key.pem"
    key.write_text("a key")
    words = [word.format(bundle=bundle) for word in words]
    assert "pip install 'llorch[sign]'" in error_of(capsys, [*TINY, *words, str(key)])


def test_a_key_without_a_bundle_to_check_is_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--verify BUNDLE" in error_of(capsys, [*TINY, "--verify-key", "key.pem"])


def test_nothing_is_left_when_signing_fails(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        assert folder.name == "one"  # the signature names the folder
        raise OSError(28, "No space left on device")

    writer = BundleWriter("loading", tmp_path, "one", fail)
    writer.add_json("loading.json", {"checks": []})
    with pytest.raises(InputError, match="one: the bundle cannot be written there: No space"):
        writer.write({}, True, "llorch inspect")
    assert list((tmp_path / "loading").iterdir()) == []


@pytest.mark.parametrize("kind", ["checkpoint", "loading", "performance"])
def test_the_page_of_a_bundle_ends_with_what_it_does_not_prove(
    kind: str, tmp_path: Path, bundle: Path
) -> None:
    text = not_proven(kind)
    assert text.startswith("## What this does not prove\n\n")
    for words in ("whose key it is you must know from elsewhere", "not who wrote them"):
        assert words in text
    for words in {
        "checkpoint": ("other prompts", "kernels of other CPUs", "not that the reference is right", "answers are good"),
        "loading": ("not say that its weights are", "answers are good"),
        "performance": ("other CPUs", "word of whoever made the bundle", "quality of the answers"),
    }[kind]:  # fmt: skip
        assert words in text
    if kind == "performance":
        assert (bundle / "summary.md").read_text().endswith(text)


def test_a_copied_bundle_holds_under_another_name(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "it holds" in output_of(capsys, Path(shutil.copytree(bundle, tmp_path / "elsewhere")))
