"""Bundles are written whole or not at all, under a name that cannot lead elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from llorch.errors import InputError
from llorch.validation import bundle_writer
from llorch.validation.bundle import DIRECTORY_VARIABLE, Bundle
from llorch.validation.bundle_writer import GENERATED_BY, RUN_ID_VARIABLE, BundleWriter, new_run_id
from llorch.validation.records import ArrayFile, Record
from llorch.validation.sums import SUMS
from llorch.validation.verify import verify
from tests.conftest import REPOSITORY
from tests.support.live_server import WAIT_S
from tools.performance.fingerprints import llorch_packages


class Anything(Record, extra="allow"):
    pass


def test_a_run_id_is_time_and_commit() -> None:
    assert re.fullmatch(r"\d{8}-\d{6}-([0-9a-f]{8}|v\d.*)", new_run_id())


def test_place_and_name_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DIRECTORY_VARIABLE, str(tmp_path / "proof"))
    monkeypatch.setenv(RUN_ID_VARIABLE, "nightly-7")
    assert BundleWriter("performance").folder == tmp_path / "proof" / "performance" / "nightly-7"
    assert BundleWriter("loading", tmp_path, "other").folder == tmp_path / "loading" / "other"


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", "a b", "x" * 101])
def test_a_name_that_is_no_plain_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=RUN_ID_VARIABLE):
        BundleWriter("loading", tmp_path, name)


def test_another_kind_is_a_mistake_of_the_caller(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="kind"):
        BundleWriter("opinion", tmp_path)  # type: ignore[arg-type]


def test_every_kind_of_file_is_marked_and_hashed(tmp_path: Path) -> None:
    writer = BundleWriter("performance", tmp_path, "one")
    writer.add_json("performance.json", {"cases": []})
    writer.add_ndjson("runs.ndjson", [])
    writer.add_json("a.json", {"x": 1})
    writer.add_ndjson("b.ndjson", [{"y": 2}, {"y": 3}])
    writer.add_npz("c.npz", {"z": np.arange(3)})
    writer.add_summary("# Summary\n")
    about = {"models": [], "peers": [], "packages": llorch_packages()}
    folder = writer.write({"note": {"file": "m.gguf"}, **about}, None, "llorch bench")
    found = verify(folder)
    assert (found.problems, found.index.kind) == ([], "performance")
    assert found.index.model_extra is not None
    assert found.index.model_extra["note"] == {"file": "m.gguf"}
    assert found.record("a.json", Anything).model_extra == {"generated_by": GENERATED_BY, "x": 1}
    assert [row.model_extra for row in found.rows("b.ndjson", Anything)] == [{"y": 2}, {"y": 3}]
    assert ArrayFile(found.path("c.npz")).read("z").tolist() == [0, 1, 2]
    assert sorted(path.name for path in (tmp_path / "performance").iterdir()) == ["one"]
    with pytest.raises(InputError, match="exists already"):
        BundleWriter("performance", tmp_path, "one")


def small_bundle(writer: BundleWriter) -> Path:
    writer.add_json("loading.json", {"checks": []})
    writer.add_png("a.png", run_id_bytes)
    writer.add_summary(lambda run_id: f"# Run {run_id}\n")
    return writer.write({}, True, "llorch inspect")


def run_id_bytes(run_id: str) -> bytes:
    return run_id.encode()


@pytest.mark.parametrize("given", ["one", None])
def test_bundles_of_one_name_are_all_kept(
    tmp_path: Path, given: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were begun at once, and each is what it would be alone, under a name of its own."""
    monkeypatch.setattr(bundle_writer, "new_run_id", lambda: "one")
    writers = [BundleWriter("loading", tmp_path, given) for _ in range(3)]
    folders = [small_bundle(writer) for writer in writers]
    assert [folder.name for folder in folders] == ["one", "one-2", "one-3"]
    assert [writer.folder for writer in writers] == folders
    for folder in folders:
        check_sums(folder)
        bundle = Bundle.open(folder)
        assert bundle.index.model_extra is not None
        assert bundle.index.model_extra["run_id"] == folder.name
        assert (folder / "a.png").read_bytes() == folder.name.encode()
        assert f"# Run {folder.name}\n" in (folder / "summary.md").read_text()
    assert {path.name for path in (tmp_path / "loading").iterdir()} == {"one", "one-2", "one-3"}


def check_sums(folder: Path) -> None:
    subprocess.run(["sha256sum", "--check", "--strict", SUMS], cwd=folder, check=True, capture_output=True)


def test_a_name_that_the_clock_gave_before_is_numbered_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle_writer, "new_run_id", lambda: "one")
    small_bundle(BundleWriter("loading", tmp_path))
    assert BundleWriter("loading", tmp_path).run_id == "one-2"


def test_a_file_that_takes_the_name_is_kept_too(tmp_path: Path) -> None:
    writer = BundleWriter("loading", tmp_path, "one")
    (tmp_path / "loading").mkdir()
    (tmp_path / "loading" / "one").write_text("mine")
    assert small_bundle(writer).name == "one-2"
    assert (tmp_path / "loading" / "one").read_text() == "mine"


def test_processes_that_write_one_name_at_once_lose_nothing(tmp_path: Path) -> None:
    """As from two containers: their process ids are the same, and so is everything that follows from them."""
    program = (
        "import os, sys; from pathlib import Path; os.getpid = lambda: 7\n"
        "from tests.unit.validation.test_bundle import BundleWriter, small_bundle\n"
        f"writers = [BundleWriter('loading', Path({str(tmp_path)!r}), 'one') for _ in range(10)]\n"
        "print('ready', flush=True); sys.stdin.read()\n"
        "for writer in writers: small_bundle(writer)\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=REPOSITORY
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.stdout.close()
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
    assert [process.wait(WAIT_S) for process in processes] == [0, 0, 0]
    folders = sorted((tmp_path / "loading").iterdir())
    assert {folder.name for folder in folders} == {"one", *(f"one-{n}" for n in range(2, 31))}
    for folder in folders:
        check_sums(folder)


def test_nothing_is_left_when_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = BundleWriter("loading", tmp_path, "one")
    writer.add_json("loading.json", {"checks": []})

    def full(path: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(
        InputError, match=f"{tmp_path}/loading/one: the bundle cannot be written there: No space"
    ):
        writer.write({}, True, "llorch inspect")
    assert list((tmp_path / "loading").iterdir()) == []
