"""Model files by name: which file is meant, what it calls itself, and its tokenizer, without a model that computes."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from llorch.errors import InputError
from llorch.fields.table import suggest
from llorch.formats.printed import printable
from llorch.formats.source import ModelSource, open_source
from llorch.pulled.names import WHEELS, find_pulled, is_hub_name
from llorch.text.tokenizer import Tokenizer, load_tokenizer

logger = logging.getLogger(__name__)

DEMO = "demo"
DEMO_PATH = Path(__file__).parent / "assets" / "demo.gguf"
MAX_NAME_CHARS = 128


def resolve_model_path(model: str | os.PathLike[str]) -> Path:
    """The file that `model` stands for: a path, ``"demo"``, or the name of a pulled model.

    ``"demo"`` and ``"smollm2"`` are names even where there is a file called so (``./demo`` is the file); a path that
    exists is never taken for the name of a repository.

    Raises:
        InputError: there is nothing of that name.
    """
    if model == DEMO:
        if not DEMO_PATH.exists():
            raise InputError(f"the embedded model is missing from this installation ({DEMO_PATH})")
        return DEMO_PATH
    path = Path(model)
    is_there = os.path.exists(path)  # unlike Path.exists, False where a folder must not be searched
    if isinstance(model, str) and (model in WHEELS or not is_there) and (pulled := find_pulled(model)):
        return pulled
    if not is_there:
        hint = ""
        if path.parent == Path() and not path.suffix:
            meant = suggest(str(path), (DEMO, *WHEELS))
            hint = f" (did you mean {meant!r}?)" if meant else f" ({DEMO!r} is the embedded model)"
        elif isinstance(model, str) and is_hub_name(model):
            hint = f" (if the model hub has one of that name, `llorch pull {model}` fetches it)"
        raise InputError(f"there is no model at {printable(path)}{hint or _why_not(path)}")
    return path


def _why_not(path: Path) -> str:
    """What hides a file, where that is more than that there is none."""
    try:
        path.stat()
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as error:
        return f" ({error.strerror if isinstance(error, OSError) else error})"
    return ""


def open_tokenizer(path: str | os.PathLike[str], *, override_pre: str | None = None) -> Tokenizer:
    """The tokenizer of a model file, or of one that holds a vocabulary and nothing else.

    Args:
        path: the file, or ``"demo"``.
        override_pre: name of the pre-tokenizer, in place of the one the file names.

    Raises:
        InputError: the file cannot be used; `ModelError` says what is wrong inside it.
    """
    source = open_source(resolve_model_path(path))
    try:
        oddities: list[str] = []
        tokenizer = load_tokenizer(source.metadata, oddities, override_pre)
        warn_about(source, oddities)
        return tokenizer
    finally:
        source.close()


def model_name(source: ModelSource) -> str:
    """What the file calls itself (`general.name`), else its name on disk without the ending."""
    name = source.metadata.get("general.name")
    words = " ".join(name.split()) if isinstance(name, str) else ""
    return words[:MAX_NAME_CHARS] or source.path.stem.encode("utf-8", "backslashreplace").decode()


def warn_about(source: ModelSource, oddities: Sequence[str]) -> None:
    """One line for all that is odd in a file."""
    if oddities:
        logger.warning("%s: odd, but usable: %s", printable(source.path), "; ".join(oddities))
