"""Bundles are written whole or not at all, under a name that cannot lead elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from llorch.errors import InputError
from llorch.validation.bundle import (
    DIRECTORY_VARIABLE,
    GENERATED_BY,
    RUN_ID_VARIABLE,
    BundleWriter,
    new_run_id,
)
from llorch.validation.records import ArrayFile, Record
from llorch.validation.verify import verify
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
