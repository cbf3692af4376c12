"""The hash of a package's files is one that anybody computes, and it does not depend on how llorch was installed."""

from __future__ import annotations

import json
import shutil
import subprocess
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest

from llorch.validation import package_digest
from llorch.validation.package_digest import SOURCES, folder_hash, own_package, package_at, package_facts

COMMAND = "find {} -type f ! -path '*/__pycache__/*' | LC_ALL=C sort | xargs sha256sum | sha256sum"


def by_command(folder: Path) -> str:
    words = COMMAND.format(folder.name)
    return subprocess.run(
        words, shell=True, cwd=folder.parent, capture_output=True, text=True, check=True
    ).stdout.split()[0]


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="sha256sum is not installed")
def test_the_hash_of_llorch_is_what_the_documented_command_prints() -> None:
    assert own_package(None)["dir_hash"] == by_command(SOURCES)


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="sha256sum is not installed")
def test_order_is_by_bytes_and_compiled_modules_do_not_count(tmp_path: Path) -> None:
    package = tmp_path / "pkg"
    for name in ("b.py", "B.py", "a/z.py", "a.py", "a-b.py", "ä.txt", "__pycache__/b.pyc"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(name)
    before = folder_hash(package)
    assert before == by_command(package)
    (package / "__pycache__" / "c.nbi").write_text("compiled")
    (package / "link.py").symlink_to("b.py")
    assert folder_hash(package) == before
    (package / "b.py").write_text("another")
    assert folder_hash(package) != before


def test_the_hash_of_an_installed_package_covers_the_files_that_its_record_lists(tmp_path: Path) -> None:
    record = tmp_path / "toy-1.2.dist-info"
    record.mkdir()
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.2\n")
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "a.py").write_text("a")
    (tmp_path / "toy" / "left.py").write_text("not listed")
    (record / "RECORD").write_text(
        "toy/a.py,sha256=x,1\n../../bin/toy,sha256=x,1\ntoy-1.2.dist-info/RECORD,,\n"
    )
    facts = package_at(record)
    assert {key: facts[key] for key in ("name", "version", "n_files")} == {
        "name": "toy",
        "version": "1.2",
        "n_files": 1,
    }
    (tmp_path / "toy" / "left.py").write_text("changed")
    assert package_at(record) == facts
    (tmp_path / "toy" / "a.py").write_text("changed")
    assert package_at(record)["dir_hash"] != facts["dir_hash"]


def test_a_package_that_is_not_installed_has_no_facts() -> None:
    assert package_facts("no-such-package-here") is None
    numpy = package_facts("numpy")
    assert numpy is not None
    assert numpy["n_files"] > 100


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The record of an installed llorch whose only file is `version.py`; it is no checkout."""
    record = tmp_path / "llorch-9.dist-info"
    for path, text in {
        tmp_path / "llorch" / "version.py": "",
        record / "METADATA": "Metadata-Version: 2.1\nName: llorch\nVersion: 9\n",
        record / "RECORD": "llorch/version.py,sha256=x,0\n",
    }.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(package_digest, "SOURCES", tmp_path / "llorch")
    monkeypatch.setattr(package_digest, "distribution", lambda name: PathDistribution(record))
    return record


def test_an_installed_llorch_names_the_archive_that_pip_unpacked(installed: Path) -> None:
    found = own_package(None)
    assert (found["source"], found["archive_sha256"]) == ("installed", None)
    for origin, digest in (
        ({"archive_info": {"hashes": {"sha256": "a" * 64}}, "url": "file:///llorch.whl"}, "a" * 64),
        ({"archive_info": {}, "url": "file:///llorch.whl"}, None),
        ({"dir_info": {"editable": True}, "url": "file:///src"}, None),
        ([], None),
    ):
        (installed / "direct_url.json").write_text(json.dumps(origin))
        assert own_package(None)["archive_sha256"] == digest
    (installed / "direct_url.json").write_text("no JSON")
    assert own_package(None)["archive_sha256"] is None


def test_a_record_of_another_copy_says_nothing_of_the_files_that_run(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (installed / "direct_url.json").write_text(json.dumps({"archive_info": {"hashes": {"sha256": "a" * 64}}}))
    elsewhere = Path(shutil.copytree(tmp_path / "llorch", tmp_path / "src" / "llorch"))
    monkeypatch.setattr(package_digest, "SOURCES", elsewhere)
    found = own_package(None)
    assert (found["source"], found["archive_sha256"]) == ("checkout", None)
