"""Names of pulled models: what they mean, and that none leads out of the folder."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from llorch.errors import InputError
from llorch.model_files import resolve_model_path
from llorch.pulled.names import HubName, choose_file, models_folder, parts_of

MODELS = ["README.md", "m-Q4_0.gguf", "m-Q4_K_M.gguf", "m-Q8_0.gguf", "mmproj-m.gguf"]


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's data folder."""
    monkeypatch.setenv("LLORCH_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


def put(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_models_lie_in_the_users_data_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert models_folder() == tmp_path / "data" / "models"
    monkeypatch.delenv("LLORCH_DATA_DIR")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    in_home = "Library/Application Support" if sys.platform == "darwin" else ".local/share"
    assert models_folder() == tmp_path / in_home / "llorch" / "models"
    if sys.platform != "darwin":
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
        assert models_folder() == tmp_path / "xdg" / "llorch" / "models"
    monkeypatch.setenv("HOME", "relative")
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    with pytest.raises(InputError, match="LLORCH_DATA_DIR"):
        models_folder()


def test_a_name_that_was_not_pulled_says_what_to_do() -> None:
    with pytest.raises(InputError, match="`llorch pull smollm2`"):
        resolve_model_path("smollm2")
    with pytest.raises(InputError, match=r"there is no model at a/b .*`llorch pull a/b`"):
        resolve_model_path("a/b")
    with pytest.raises(InputError, match=r"there is no model at a/b\.gguf$"):
        resolve_model_path("a/b.gguf")


def test_pulled_names_mean_their_files(data: Path) -> None:
    wheel = put(data / "models" / "smollm2" / "SmolLM2-135M-Instruct.Q4_1.gguf")
    hub = put(data / "models" / "hub" / "a" / "b" / "x.gguf")
    old = put(data / "models" / "hub" / "a" / "b@v1" / "sub" / "y.gguf")
    put(data / "models" / "hub" / "a" / "b" / ".partial" / "z.gguf")
    assert resolve_model_path("smollm2") == wheel
    assert resolve_model_path("a/b") == resolve_model_path("a/b:x.gguf") == hub
    assert resolve_model_path("a/b@v1:sub/y.gguf") == old
    with pytest.raises(InputError, match=r"no GGUF file 'z.gguf'.*: x\.gguf"):
        resolve_model_path("a/b:z.gguf")


def test_a_name_beats_a_file_and_a_path_beats_a_repository(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ``demo`` does; ``./smollm2`` is the file."""
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "smollm2")
    put(data / "models" / "hub" / "a" / "b" / "x.gguf")
    put(tmp_path / "a" / "b")
    with pytest.raises(InputError, match="llorch pull"):
        resolve_model_path("smollm2")
    assert resolve_model_path("./smollm2") == Path("smollm2")
    assert resolve_model_path("a/b") == Path("a/b")


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("a/b", HubName("a/b", None, None)),
        ("Org-1/Model_2.0:f.gguf", HubName("Org-1/Model_2.0", None, "f.gguf")),
        ("a/b@refs-1:sub/f.gguf", HubName("a/b", "refs-1", "sub/f.gguf")),
        ("a/b:Q4_K_M", HubName("a/b", None, "Q4_K_M")),
    ],
)
def test_a_hub_name_is_a_repository_a_revision_and_a_file(text: str, meant: HubName) -> None:
    assert HubName.parse(text) == meant


@pytest.mark.parametrize(
    ("file", "chosen"),
    [
        (None, "m-Q4_K_M.gguf"),
        ("m-Q8_0.gguf", "m-Q8_0.gguf"),
        ("q8_0", "m-Q8_0.gguf"),
        ("mmproj-m.gguf", "mmproj-m.gguf"),
    ],
)
def test_a_file_is_meant_by_its_name_or_its_format(file: str | None, chosen: str) -> None:
    assert choose_file(MODELS, HubName("a/b", None, file)) == chosen


def test_without_a_file_the_only_one_is_meant_else_the_choices_are_listed() -> None:
    wanted = HubName("a/b", None, None)
    assert choose_file(["x.gguf", "y.txt"], wanted) == "x.gguf"
    with pytest.raises(InputError, match=r"several files; say a/b:FILE with one of: x\.gguf, y\.gguf"):
        choose_file(["y.gguf", "x.gguf"], wanted)
    assert choose_file(["x_IQ4_XS.gguf", "x_q4_k_m.gguf"], wanted) == "x_q4_k_m.gguf"
    with pytest.raises(InputError, match="no GGUF file"):
        choose_file(["model.safetensors"], wanted)
    with pytest.raises(InputError, match=r"no GGUF file 'Q4_K'.*m-Q4_0\.gguf"):
        choose_file(MODELS, HubName("a/b", None, "Q4_K"))


def test_without_gguf_files_a_directory_is_meant_then_the_only_graph() -> None:
    directory = ["config.json", "model.safetensors", "onnx/model.onnx"]
    assert choose_file(directory, HubName("a/b", None, None)) == "."
    assert choose_file([*directory, "x.gguf"], HubName("a/b", None, None)) == "x.gguf"
    assert choose_file([*directory, "x.gguf"], HubName("a/b", None, "safetensors")) == "."
    assert choose_file(directory, HubName("a/b", None, "onnx/model.onnx")) == "onnx/model.onnx"
    assert choose_file(directory[1:], HubName("a/b", None, None)) == "onnx/model.onnx"
    with pytest.raises(InputError, match="no directory of safetensors"):
        choose_file(["x.gguf"], HubName("a/b", None, "safetensors"))


def test_a_split_model_is_one_choice_and_all_its_parts() -> None:
    files = [f"big-Q4_K_M-0000{i}-of-00003.gguf" for i in (2, 1, 3)]
    first = choose_file(files, HubName("a/b", None, None))
    assert first == "big-Q4_K_M-00001-of-00003.gguf"
    assert parts_of(first) == sorted(files)
    assert parts_of("whole.gguf") == ["whole.gguf"]
