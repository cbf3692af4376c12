"""Chat templates of a directory: those in files of their own first, as transformers chooses."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any

from llorch.errors import ModelError, described
from llorch.formats.hugging_face.json_section import Section, optional_file, optional_section
from llorch.formats.json_file import read_bytes
from llorch.formats.printed import printable
from llorch.formats.protocol import MetadataValue

_KEY = "tokenizer.chat_template"
_MAX_BYTES = 1 << 22
_MAX_TEMPLATES = 64
_FOLDER = "additional_chat_templates"


def chat_template_metadata(directory: Path, tokenizer_config: Section) -> dict[str, MetadataValue]:
    """The template called ``default``, and the others under their names.

    Raises:
        ModelError: a file is malformed.
    """
    templates = _templates(directory, tokenizer_config)
    found: dict[str, MetadataValue] = {}
    if "default" in templates:
        found[_KEY] = templates.pop("default")
    names = {re.sub(r"[^A-Za-z0-9]", "_", name): text for name, text in templates.items() if name}
    found.update((f"{_KEY}.{name}", text) for name, text in names.items())
    if names:
        found["tokenizer.chat_templates"] = [name.encode() for name in names]
    return found


def _templates(directory: Path, tokenizer_config: Section) -> dict[str, str]:
    alone = optional_file(directory, "chat_template.jinja")
    if alone is not None:
        return {"default": _text(alone), **_additional(directory)}
    in_json = optional_section(directory, "chat_template.json")
    holder = in_json if "chat_template" in in_json else tokenizer_config
    value = holder.values.get("chat_template")
    if value is None:
        return {}
    if isinstance(value, str):
        return {"default": value}
    items: list[Any] = list(value.items()) if isinstance(value, dict) else []
    if isinstance(value, list):
        sections = holder.sections("chat_template")
        items = [(section.needed("name"), section.needed("template")) for section in sections]
    if not items or not all(isinstance(text, str) for _, text in items):
        raise holder.fault("chat_template", "a string, or a list of names and templates")
    if len(items) > _MAX_TEMPLATES:
        raise ModelError(
            f"{holder.label}: chat_template: expected up to {_MAX_TEMPLATES} templates, got {len(items)}"
        )
    return dict(items)


def _additional(directory: Path) -> dict[str, str]:
    """The templates in the folder for those that have a name."""
    files = {PurePosixPath(name).stem: optional_file(directory, name) for name in additional_files(directory)}
    return {name: _text(path) for name, path in files.items() if path is not None}


def additional_files(directory: Path) -> list[str]:
    """Names of the files in that folder, from the directory."""
    folder = directory / _FOLDER
    if not folder.is_dir():
        return []
    names = sorted(entry.name for entry in folder.iterdir() if entry.suffix == ".jinja")[:_MAX_TEMPLATES]
    return [f"{_FOLDER}/{name}" for name in names]


def _text(path: Path) -> str:
    raw = read_bytes(path, _MAX_BYTES)
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ModelError(
            f"{printable(path)}: expected UTF-8, got {described(raw[error.start : error.start + 8])}"
        ) from error
