"""Files of a repository that make one model: a directory of safetensors, or an ONNX graph and its data.

Nothing else is fetched: no pickle, no other framework's weights, no folder of another export.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from llorch.errors import PullError
from llorch.pulled.names import DIRECTORY, WEIGHTS, WEIGHTS_INDEX, check_file_name, parts_of

MAX_SIDE_BYTES = 1 << 27
"""Most bytes of a file that holds no weights; the largest tokenizers have 35 MB."""

_SIDE_FILES = {
    "config.json", "generation_config.json", "genai_config.json", "tokenizer.json", "tokenizer.model",
    "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt",
    "chat_template.jinja", "chat_template.json",
}  # fmt: skip
_LOCATION = re.compile(rb"\x0a\x08location\x12")
"""Start of the entry of an ONNX tensor that names the file of its data."""
_MAX_LOCATION_BYTES = 1024
_CHUNK_BYTES = 1 << 20


def main_file(chosen: str, files: Collection[str]) -> str:
    """The file that makes a model of the `chosen` one: it says which others belong to it, and is put in place last."""
    if chosen != DIRECTORY:
        return chosen
    return WEIGHTS if WEIGHTS in files else WEIGHTS_INDEX


def is_side_file(name: str) -> bool:
    """Whether a file is one of those around the weights, which are all small."""
    return name.rpartition("/")[2] in _SIDE_FILES or name == WEIGHTS_INDEX


def other_files(main: str, path: Path, files: Collection[str]) -> list[str]:
    """The files that belong to a model beside its main file, those missing among `files` too.

    Args:
        main: name of the main file.
        path: where its content is.
        files: of the repository.

    Raises:
        PullError: the main file names what is no file of a repository.
    """
    if main in (WEIGHTS, WEIGHTS_INDEX):
        shards = _shards(path) if main == WEIGHTS_INDEX else []
        return sorted({*shards, *(_SIDE_FILES & set(files))} - {main})
    if main.lower().endswith(".onnx"):
        return sorted(_beside_graph(main, path, files) - {main})
    return parts_of(main)[1:]


def stale_files(main: str, keep: Collection[str], folder: Path) -> list[Path]:
    """Files of an older directory of safetensors that the newer one no longer has."""
    if main not in (WEIGHTS, WEIGHTS_INDEX):
        return []
    return [
        path
        for path in folder.iterdir()
        if path.is_file()
        and path.name not in keep
        and (path.name.endswith(".safetensors") or is_side_file(path.name))
    ]


def _shards(index: Path) -> set[str]:
    """The files that an index of weights names."""
    try:
        shards = set(json.loads(index.read_bytes())["weight_map"].values())
        for shard in shards:
            if not shard.endswith(".safetensors") or "/" in shard:
                raise PullError(
                    f"{WEIGHTS_INDEX} names {shard!r:.200}, which is no safetensors file beside it"
                )
            check_file_name(shard)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise PullError(f"{WEIGHTS_INDEX} is no index of safetensors files") from None
    return shards


def _beside_graph(graph: str, path: Path, files: Collection[str]) -> set[str]:
    """The files of an ONNX graph's data, and those of its tokenizer beside it and one level up."""
    folder = PurePosixPath(graph).parent
    beside = {name for name in files if PurePosixPath(name).parent == folder}
    named = {str(folder / location) for location in _locations(path)}
    data = {name for name in beside if name.startswith((graph, graph.removesuffix(".onnx") + ".data"))}
    sides = {
        name for name in files if is_side_file(name) and PurePosixPath(name).parent in (folder, folder.parent)
    }
    return data | sides | (named & set(files))


def _locations(graph: Path) -> set[str]:
    """The files that an ONNX graph names as those of its data; its other bytes are not understood."""
    found, tail = set(), b""
    with graph.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            window = tail + chunk
            for match in _LOCATION.finditer(window):
                length, start = window[match.end() : match.end() + 1], match.end() + 1
                n_bytes = length[0] if length else 0
                if n_bytes >= 128:  # a second byte of the length
                    n_bytes, start = n_bytes - 128 + 128 * (window[start : start + 1] or b"\0")[0], start + 1
                if n_bytes <= _MAX_LOCATION_BYTES:
                    found.add(window[start : start + n_bytes].decode("utf-8", "replace"))
            tail = window[-2 * _MAX_LOCATION_BYTES :]
    return found
