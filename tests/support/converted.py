"""Files of `llorch convert` beside those of llama.cpp's converter: what may differ, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llorch.convert.conversion import own_type, plan_conversion
from llorch.convert.mixtures import file_type
from llorch.convert.quantize import write_quantized
from llorch.formats.source import open_source

Differences = dict[str, tuple[Any, Any]]
"""By key or tensor, ours and theirs; None for what one lacks."""

GUESSED = ("general.basename", "general.finetune", "general.version", "general.organization")
"""Their converter takes the name of the directory apart; ours keeps it whole, in ``general.name``."""

OF_EMBEDDINGS = ("tokenizer.ggml.add_sep_token",)
"""Says nothing about a Llama model, which has no separator; the key is for models that make embeddings."""

OF_SENTENCEPIECE = ("tokenizer.ggml.add_space_prefix", "tokenizer.ggml.unknown_token_id")
"""Said by `tokenizer.model`, and the same as llama.cpp takes where a file does not say it."""

OF_TOKENIZER_JSON = (
    "tokenizer.ggml.add_space_prefix",
    "tokenizer.ggml.scores",
    "tokenizer.ggml.token_type",
    "tokenizer.ggml.tokens",
)
"""Of a vocabulary of SentencePiece's kind without a `tokenizer.model`, their converter keeps no order of merges: every
token has the score -1000, and llama.cpp cuts words differently from the model's own tokenizer. Ours keeps the order as
scores and <unk> as the unknown token, and fills up to the rows of the embedding, without which llama.cpp loads nothing.
"""


def convert(source: Path, out: Path, wanted: str | None = None) -> None:
    """Convert as the command does."""
    model = open_source(source)
    try:
        plan = plan_conversion(model, out, file_type(wanted) if wanted else own_type(model))
        write_quantized(model, plan)
    finally:
        model.close()


def differences(ours: dict[str, Any], theirs: dict[str, Any]) -> Differences:
    """Between two files as `tools.oracles.llama_cpp_converter.described` describes them."""
    found: Differences = {}
    for part in ("metadata", "tensors"):
        for key in sorted(ours[part].keys() | theirs[part].keys()):
            pair = ours[part].get(key), theirs[part].get(key)
            if pair[0] != pair[1]:
                found[key] = pair
    return found


def unexplained(found: Differences, *explained: str) -> Differences:
    """Differences that are neither explained above nor in `explained`."""
    allowed = {*GUESSED, *OF_EMBEDDINGS, *explained}
    return {key: pair for key, pair in found.items() if key not in allowed}
