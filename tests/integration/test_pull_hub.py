"""Models of a hub: a server on this machine that speaks its protocol, and the real `huggingface_hub`."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from llorch.cli.main import main
from llorch.errors import InputError, PullError
from llorch.model_files import resolve_model_path
from tests.support.commands import llorch
from tests.support.hub_server import COMMIT, TOKEN, Hub
from tests.support.hub_user import MODEL, hub, left, no_pauses, pull, pull_until

__all__ = ["hub", "no_pauses"]


def test_a_model_is_fetched_and_named_also_without_the_hub(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pull", "a/b", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    path = tmp_path / "data" / "models" / "hub" / "a" / "b" / "b-Q8_0.gguf"
    assert document == {"path": str(path), "sha256": hashlib.sha256(MODEL).hexdigest(), "bytes": len(MODEL)}
    assert path.read_bytes() == MODEL
    assert left(tmp_path) == ["b-Q8_0.gguf"]
    assert main(["pull", "a/b:b-Q8_0.gguf"]) == 0
    assert "is there already" in capsys.readouterr().out
    assert hub.downloads == ["b-Q8_0.gguf"]
    hub.files.clear()
    assert resolve_model_path("a/b") == resolve_model_path("a/b:Q8_0") == path


def test_the_command_heeds_endpoint_and_token_of_the_environment(hub: Hub, tmp_path: Path) -> None:
    hub.gated.add("a/b")
    variables = {"HF_ENDPOINT": hub.url, "LLORCH_DATA_DIR": str(tmp_path / "data"), "HOME": str(tmp_path)}
    refused = llorch("pull", "a/b", **variables)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "licence" in refused.stderr
    assert "HF_TOKEN" in refused.stderr
    assert llorch("pull", "a/b", HF_TOKEN=TOKEN, **variables).stderr == ""
    assert left(tmp_path) == ["b-Q8_0.gguf"]


def test_several_files_are_listed_unless_one_is_preferred(hub: Hub) -> None:
    hub.files["a/b"]["b-Q6_K.gguf"] = b"six"
    with pytest.raises(InputError, match=r"b-Q6_K\.gguf, b-Q8_0\.gguf"):
        pull("a/b")
    hub.files["a/b"]["b-Q4_K_M.gguf"] = b"four"
    assert pull("a/b").read_bytes() == b"four"
    assert pull("a/b:Q6_K").read_bytes() == b"six"


def test_all_parts_of_a_split_model_are_fetched(hub: Hub, tmp_path: Path) -> None:
    names = [f"q/c-0000{number}-of-00002.gguf" for number in (1, 2)]
    hub.files["a/c"] = {names[1]: b"two", names[0]: b"one"}
    assert pull("a/c").read_bytes() == b"one"
    assert left(tmp_path) == ["c-00001-of-00002.gguf", "c-00002-of-00002.gguf"]
    del hub.files["a/c"][names[1]]
    with pytest.raises(InputError, match="lacks parts of"):
        pull("a/c")


def test_a_revision_is_kept_apart(hub: Hub, tmp_path: Path) -> None:
    hub.revisions.add("v1")
    path = pull("a/b@v1")
    assert path.parent.name == "b@v1"
    assert resolve_model_path("a/b@v1") == path
    with pytest.raises(InputError, match="there is no model at a/b "):
        resolve_model_path("a/b")


def test_a_lost_connection_is_continued(hub: Hub, monkeypatch: pytest.MonkeyPatch, no_pauses: None) -> None:
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 50_000)
    hub.cut_after = 120_000
    assert pull("a/b").read_bytes() == MODEL
    assert hub.ranges == ["", "bytes=100000-", "bytes=200000-"]


def test_an_interrupted_transfer_is_continued_by_the_next_call(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 50_000)

    pull_until("a/b", 150_000)
    assert pull("a/b").read_bytes() == MODEL
    assert hub.ranges == ["", "bytes=150000-"]
    assert left(tmp_path) == ["b-Q8_0.gguf"]


def test_a_newer_file_of_the_same_name_replaces_the_old_one(hub: Hub) -> None:
    assert pull("a/b").read_bytes() == MODEL
    hub.files["a/b"]["b-Q8_0.gguf"] = b"new"
    assert pull("a/b").read_bytes() == b"new"


def test_a_small_file_is_checked_by_the_hash_of_git(hub: Hub) -> None:
    hub.small.add("b-Q8_0.gguf")
    assert pull("a/b").read_bytes() == MODEL


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a/none", "no such repository"),
        ("a/b@v7", "no such revision"),
        ("a/b:b-Q2_K.gguf", r"no GGUF file 'b-Q2_K\.gguf'.*b-Q8_0\.gguf"),
    ],
)
def test_what_the_hub_does_not_have_is_said_in_one_line(hub: Hub, name: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        pull(name)
    assert "\n" not in str(caught.value)


def test_a_hub_that_does_not_answer_is_said_in_one_line(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, no_pauses: None
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(PullError, match=r"a/b could not be fetched: .*refused") as caught:
        pull("a/b")
    assert "\n" not in str(caught.value)


def test_without_the_extra_the_message_names_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["pull", f"a/b@{COMMIT}"]) == 2
    assert "pip install 'llorch[hub]'" in capsys.readouterr().err
