"""The vocabulary of a Hugging Face directory, under the keys of GGUF."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llorch.errors import ModelError
from llorch.formats.hugging_face.chat_template import chat_template_metadata
from llorch.formats.hugging_face.json_section import Section, optional_file, optional_section
from llorch.formats.hugging_face.sentencepiece_model import is_tiktoken, parse_sentencepiece, read_model_file
from llorch.formats.hugging_face.sentencepiece_tokens import put_added, put_pieces
from llorch.formats.hugging_face.special_tokens import SpecialTokenFiles, special_token_metadata
from llorch.formats.hugging_face.token_table import TokenTable
from llorch.formats.hugging_face.tokenizer_json import read_tokenizer_json, spm_keys
from llorch.formats.printed import printable
from llorch.formats.protocol import MetadataValue

_OTHER_FILES = ("tekken.json", "vocab.json", "tiktoken.model", "spiece.model")
"""Vocabularies that llorch does not read."""

_TO_TOKENIZER_JSON = (
    "from transformers import AutoTokenizer; AutoTokenizer.from_pretrained('DIR').save_pretrained('DIR')"
)


def tokenizer_metadata(directory: Path, n_vocab: int, config: Mapping[str, Any]) -> dict[str, MetadataValue]:
    """The `tokenizer.*` keys of a directory, chat templates included; none where it has no tokenizer.

    `tokenizer.model` comes before `tokenizer.json`, as in llama.cpp's converter, unless it is no SentencePiece model.

    Args:
        directory: that holds `tokenizer.json` or `tokenizer.model`, and the files beside it.
        n_vocab: rows of the embedding; unused tokens are made up for those that have none.
        config: what stands in `config.json`.

    Raises:
        ModelError: a file is malformed, contradicts another, or holds what llorch does not know.
    """
    model_path = optional_file(directory, "tokenizer.model")
    raw = None if model_path is None else read_model_file(model_path)
    tokenizer_json = optional_section(directory, "tokenizer.json")
    if model_path is not None and raw is not None and is_tiktoken(raw):
        if not tokenizer_json.values:
            raise _not_read(model_path, directory)
        raw = None
    if raw is None and not tokenizer_json.values:
        for name in _OTHER_FILES:
            if (path := optional_file(directory, name)) is not None:
                raise _not_read(path, directory)
        return {}
    tokenizer_config = optional_section(directory, "tokenizer_config.json")
    model_ids: Mapping[str, int] = {}
    if model_path is not None and raw is not None:
        model = parse_sentencepiece(raw, model_path)
        table, model_ids = TokenTable(n_vocab, printable(model_path)), model.ids
        put_pieces(model, table)
        put_added(table, optional_section(directory, "added_tokens.json"), tokenizer_config, tokenizer_json)
        found = spm_keys(model.has_space_prefix)
    else:
        table = TokenTable(n_vocab, tokenizer_json.label)
        found = read_tokenizer_json(tokenizer_json, table)
    is_spm = found["tokenizer.ggml.model"] == "llama"
    if "add_prefix_space" in tokenizer_config:
        found["tokenizer.ggml.add_space_prefix"] = tokenizer_config.flag("add_prefix_space")
    files = SpecialTokenFiles(
        tokenizer_config=tokenizer_config,
        special_tokens_map=optional_section(directory, "special_tokens_map.json"),
        tokenizer_json=tokenizer_json,
        generation_config=optional_section(directory, "generation_config.json"),
        config=Section(printable(directory / "config.json"), config),
        model_ids=model_ids,
    )
    return {
        **found,
        **table.metadata(with_scores=is_spm),
        **special_token_metadata(files, table, needs_unknown=is_spm),
        **chat_template_metadata(directory, tokenizer_config),
    }


def _not_read(path: Path, directory: Path) -> ModelError:
    return ModelError(
        f"{printable(path)}: is a vocabulary that llorch does not read, and {printable(directory)} has no "
        f'tokenizer.json; transformers writes one: python -c "{_TO_TOKENIZER_JSON}"'
    )
