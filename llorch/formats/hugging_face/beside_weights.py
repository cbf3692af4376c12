"""What lies beside a model's weights: the files that say what the model is, and the name of the directory."""

from __future__ import annotations

import os
from pathlib import Path

from llorch.formats.hugging_face.chat_template import additional_files
from llorch.formats.safetensors.shards import INDEX

CONFIG = "config.json"
MAX_CONFIG_BYTES = 1 << 24
_NAMES = (
    CONFIG,
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
    INDEX,
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
)


def files_beside_weights(directory: Path) -> list[str]:
    """Names of the files that are there, in the order in which they are hashed, config.json first.

    A template that is empty writes nothing and cannot be mapped, so it is left out.
    """
    names = [name for name in _NAMES if os.path.lexists(directory / name)] + additional_files(directory)
    return [name for name in names if not (name.endswith(".jinja") and _is_empty(directory / name))]


def _is_empty(path: Path) -> bool:
    return path.is_file() and not path.stat().st_size


def name_of(directory: Path) -> str:
    """What the model is called: its repository if the directory is a snapshot in the cache of Hugging Face's hub."""
    home = directory.resolve()
    if home.parent.name == "snapshots" and home.parent.parent.name.startswith("models--"):
        return home.parent.parent.name.removeprefix("models--").replace("--", "/")
    return home.name.encode("utf-8", "backslashreplace").decode() or "model"
