"""The safetensors files of a directory: one, or the shards that an index names, checked against their headers."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from llorch.errors import SafetensorsError, described
from llorch.formats.folder import file_inside
from llorch.formats.json_file import parse_json, read_bytes
from llorch.formats.printed import printable, quote
from llorch.formats.safetensors.file import SafetensorsFile
from llorch.formats.safetensors.header import MAX_HEADER_BYTES, MAX_TENSORS

logger = logging.getLogger(__name__)

WHOLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
MAX_SHARDS = 1024
_SHARD_NAME = re.compile(r"model(-\d+-of-\d+)?\.safetensors")


def open_safetensors(directory: Path) -> list[SafetensorsFile]:
    """Open the weights in a directory: its one file, or every shard of its index, in the order of their names.

    Raises:
        SafetensorsError: there are none, a file is malformed, or the index and the shards' headers contradict each
            other; the message names the file and the tensor.
    """
    found = sorted(entry.name for entry in directory.iterdir() if entry.name.endswith(".safetensors"))
    if not (directory / INDEX).exists():
        if WHOLE not in found:
            raise SafetensorsError(_no_weights(directory, found))
        return [SafetensorsFile(file_inside(directory, WHOLE, printable(directory), SafetensorsError))]
    path = file_inside(directory, INDEX, printable(directory), SafetensorsError)
    label = printable(path)
    index = parse_json(read_bytes(path, MAX_HEADER_BYTES), label, SafetensorsError)
    weight_map = _weight_map(index, label)
    names = sorted(set(weight_map.values()))
    if len(names) > MAX_SHARDS:
        raise SafetensorsError(f"{label}: names {len(names)} files; at most {MAX_SHARDS} are read")
    if extra := [name for name in found if _SHARD_NAME.fullmatch(name) and name not in names]:
        raise SafetensorsError(
            f"{label}: does not name {', '.join(map(quote, extra[:4]))}, which lies beside it: of two versions of the "
            "model remove one"
        )
    with ExitStack() as undo:
        shards = {}
        for name in names:
            shards[name] = SafetensorsFile(file_inside(directory, name, label, SafetensorsError))
            undo.callback(shards[name].close)
        _check_index(weight_map, shards, label)
        _warn_about_size(index, shards, label)
        undo.pop_all()
    return list(shards.values())


def _no_weights(directory: Path, found: list[str]) -> str:
    where = printable(directory)
    if any(_SHARD_NAME.fullmatch(name) for name in found):
        return f"{where}: holds shards of a model, but no {INDEX}: fetch it, too"
    if "adapter_model.safetensors" in found:
        return f"{where}: holds an adapter (LoRA) and no model: merge it into its model first (peft: merge_and_unload)"
    seen = f"; it holds {', '.join(map(quote, found[:4]))}" if found else ""
    return f"{where}: holds neither {WHOLE} nor {INDEX}{seen}"


def _weight_map(index: Mapping[str, Any], label: str) -> dict[str, str]:
    found = index.get("weight_map")
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found.values()):
        raise SafetensorsError(
            f"{label}: weight_map: expected an object with a file for each tensor, got {described(found)}"
        )
    if not 0 < len(found) <= MAX_TENSORS:
        raise SafetensorsError(f"{label}: weight_map: has {len(found)} tensors; 1 to {MAX_TENSORS} are read")
    return found


def _check_index(weight_map: Mapping[str, str], shards: Mapping[str, SafetensorsFile], label: str) -> None:
    """Check that every tensor lies in the shard that the index says, and in no other."""
    for name, file in weight_map.items():
        if name not in shards[file].infos:
            other = next((other for other, shard in shards.items() if name in shard.infos), None)
            where = f"it lies in {quote(other)}" if other else "no shard has it: fetch the shards again"
            raise SafetensorsError(
                f"{label}: says that {quote(file)} holds tensor {quote(name)}, but {where}"
            )
    for file, shard in shards.items():
        for name in shard.infos:
            if weight_map.get(name) != file:
                said = (
                    f"says that it lies in {quote(weight_map[name])}"
                    if name in weight_map
                    else "does not name it"
                )
                raise SafetensorsError(
                    f"{printable(shard.path)}: holds tensor {quote(name)}, but {label} {said}: of two versions of the "
                    "model remove one"
                )


def _warn_about_size(index: Mapping[str, Any], shards: Mapping[str, SafetensorsFile], label: str) -> None:
    """Only a warning: converters of Llama 2 counted buffers with the width of the weights."""
    metadata = index.get("metadata")
    stated = metadata.get("total_size") if isinstance(metadata, dict) else None
    size = sum(info.n_bytes for shard in shards.values() for info in shard.infos.values())
    if stated is not None and stated != size:
        logger.warning("%s: total_size is %s, but the tensors have %d bytes", label, described(stated), size)
