"""Directories of safetensors and ONNX graphs from a hub: what is fetched of a repository, and when it is a model."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from llorch.cli.main import main
from llorch.errors import InputError, PullError
from llorch.model_files import resolve_model_path
from tests.support.hub_server import Hub
from tests.support.hub_user import hub, left, no_pauses, pull, pull_until

__all__ = ["hub", "no_pauses"]

SHARDS = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
INDEX = "model.safetensors.index.json"
SIDES = [
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
]
OTHERS = ["README.md", ".gitattributes", "pytorch_model.bin", "flax_model.msgpack", "consolidated.safetensors",
          "original/model.safetensors", "onnx/config.json", "training_args.bin"]  # fmt: skip


def index(*shards: str) -> bytes:
    return json.dumps(
        {"weight_map": {f"tensor{number}": shard for number, shard in enumerate(shards)}}
    ).encode()


@pytest.fixture
def sharded(hub: Hub) -> Hub:
    """A hub whose repository `a/dir` holds a directory in two shards, and what else such repositories hold."""
    hub.files["a/dir"] = {name: os.urandom(200_000) for name in SHARDS}
    hub.files["a/dir"][INDEX] = index(*SHARDS)
    hub.files["a/dir"] |= {name: b"side " + name.encode() for name in SIDES}
    hub.files["a/dir"] |= dict.fromkeys(OTHERS, b"other")
    hub.small |= {*SIDES, INDEX, *OTHERS}
    return hub


def test_a_directory_is_fetched_with_its_shards_and_tokenizer_and_nothing_else(
    sharded: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pull", "a/dir", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    folder = tmp_path / "data" / "models" / "hub" / "a" / "dir"
    kept = sorted([*SHARDS, INDEX, *SIDES])
    n_bytes = sum(len(sharded.files["a/dir"][name]) for name in kept)
    assert document == {"path": str(folder), "sha256": None, "bytes": n_bytes}
    assert left(tmp_path) == kept
    assert all((folder / name).read_bytes() == sharded.files["a/dir"][name] for name in kept)
    assert main(["pull", "a/dir"]) == 0
    assert "is there already" in capsys.readouterr().out
    assert sorted(sharded.downloads) == kept
    sharded.files.clear()
    assert resolve_model_path("a/dir") == resolve_model_path("a/dir:safetensors") == folder


def test_a_file_of_all_weights_is_taken_rather_than_shards(sharded: Hub, tmp_path: Path) -> None:
    sharded.files["a/dir"]["model.safetensors"] = b"whole"
    pull("a/dir")
    assert left(tmp_path) == sorted(["model.safetensors", *SIDES])


def test_a_gguf_wins_unless_safetensors_are_asked_for(sharded: Hub) -> None:
    sharded.files["a/dir"]["d-Q8_0.gguf"] = b"gguf"
    assert pull("a/dir").name == "d-Q8_0.gguf"
    assert pull("a/dir:safetensors").name == "dir"
    assert resolve_model_path("a/dir").name == "d-Q8_0.gguf"
    assert resolve_model_path("a/dir:safetensors").name == "dir"


def test_half_a_directory_is_no_model_and_is_continued(
    sharded: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 50_000)

    pull_until("a/dir", 150_000)
    n_downloads = len(sharded.downloads)
    pull("a/dir")
    assert "bytes=150000-" in sharded.ranges
    assert INDEX not in sharded.downloads[n_downloads:]
    assert left(tmp_path) == sorted([*SHARDS, INDEX, *SIDES])


def test_it_is_no_model_while_a_newer_one_is_put_in_place(
    sharded: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    pull("a/dir")
    sharded.files["a/dir"] |= {name: b"new" + os.urandom(9) for name in SHARDS}

    def fail(unfinished: Path, target: Path) -> None:
        with pytest.raises(InputError, match="a/dir has no"):
            resolve_model_path("a/dir")
        raise OSError(5, "power failure")

    with monkeypatch.context() as patched:
        patched.setattr("llorch.pulled.hub.put_in_place", fail)
        with pytest.raises(OSError, match="power"):
            pull("a/dir")
    n_downloads = len(sharded.downloads)
    folder = pull("a/dir")
    assert len(sharded.downloads) == n_downloads
    assert all((folder / name).read_bytes() == sharded.files["a/dir"][name] for name in SHARDS)


def test_files_that_a_newer_directory_lacks_are_removed(sharded: Hub, tmp_path: Path) -> None:
    pull("a/dir")
    files = sharded.files["a/dir"]
    del files[SHARDS[1]], files["generation_config.json"]
    files[INDEX] = index(SHARDS[0])
    pull("a/dir")
    assert left(tmp_path) == sorted({*SHARDS, INDEX, *SIDES} - {SHARDS[1], "generation_config.json"})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (index(*SHARDS, "model-3.safetensors"), r"lacks parts of .*model-3\.safetensors"),
        (index("../../x.safetensors"), "no safetensors file beside it"),
        (index("pytorch_model.bin"), "no safetensors file beside it"),
        (b'{"weight_map": {"a": 1}}', "is no index"),
        (b'{"weight_map": ["a"]}', "is no index"),
        (b"[" * 100_000, "is no index"),
    ],
)
def test_an_index_that_names_something_else_is_refused(
    sharded: Hub, tmp_path: Path, content: bytes, said: str
) -> None:
    sharded.files["a/dir"][INDEX] = content
    with pytest.raises((InputError, PullError), match=said):
        pull("a/dir")
    assert sharded.downloads == [INDEX]
    with pytest.raises(InputError, match="there is no model"):
        resolve_model_path("a/dir")


def test_a_shard_of_another_hash_is_refused(sharded: Hub) -> None:
    sharded.hashes[SHARDS[1]] = "0" * 64
    with pytest.raises(PullError, match="is not the expected file"):
        pull("a/dir")
    with pytest.raises(InputError, match="there is no model"):
        resolve_model_path("a/dir")


def test_a_tokenizer_of_absurd_size_is_refused_before_it_is_fetched(sharded: Hub) -> None:
    sharded.sizes["tokenizer.json"] = 1 << 40
    with pytest.raises(PullError, match=r"'tokenizer\.json' has 1,099,511,627,776 bytes; at most"):
        pull("a/dir")
    assert sharded.downloads == [INDEX]


def test_pickles_alone_are_never_fetched(hub: Hub, tmp_path: Path) -> None:
    hub.files["a/old"] = {"config.json": b"{}", "pytorch_model.bin": b"pickle"}
    with pytest.raises(
        InputError, match=r"no GGUF file, no model\.safetensors .*pickles \('pytorch_model\.bin'\)"
    ):
        pull("a/old")
    with pytest.raises(InputError, match="no directory of safetensors"):
        pull("a/old:safetensors")
    assert hub.downloads == []
    assert left(tmp_path) == []


def location(name: str) -> bytes:
    """The entry of an ONNX tensor that names the file of its data."""
    raw = name.encode()
    length = bytes([len(raw)]) if len(raw) < 128 else bytes([len(raw) % 128 + 128, len(raw) // 128])
    return b"\x0a\x08location\x12" + length + raw


def test_a_graph_is_fetched_with_its_data_and_tokenizer(hub: Hub, tmp_path: Path) -> None:
    long_name = "onnx__MatMul_" + "7" * 120
    graph = (
        b"\x08\x07" + location("weights.bin") + bytes(2_000_000) + location(long_name) + location("../../x")
    )
    data = ["onnx/model.onnx_data", "onnx/model.onnx_data_1", "onnx/weights.bin", f"onnx/{long_name}"]
    sides = ["tokenizer.json", "onnx/config.json"]
    others = ["onnx/model_fp16.onnx", "onnx/model_fp16.onnx_data", "onnx/README.md", "pytorch_model.bin"]
    hub.files["a/graph"] = {"onnx/model.onnx": graph} | {
        name: name.encode() for name in data + sides + others
    }
    path = pull("a/graph:onnx/model.onnx")
    assert path.read_bytes() == graph
    assert left(tmp_path) == sorted(Path(name).name for name in ["onnx/model.onnx", *data, *sides])
    assert hub.downloads[0] == "onnx/model.onnx"
    assert resolve_model_path("a/graph") == resolve_model_path("a/graph:onnx/model.onnx") == path
    with pytest.raises(InputError, match=r"several files; say a/graph:FILE with one of: .*model_fp16\.onnx"):
        pull("a/graph")
    with pytest.raises(InputError, match=r"no ONNX graph 'x\.onnx'.*onnx/model\.onnx"):
        pull("a/graph:x.onnx")
