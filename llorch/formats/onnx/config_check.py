"""`config.json` beside a graph: it must not contradict what the graph computes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from llorch.errors import OnnxError
from llorch.formats.hugging_face.config import read_config
from llorch.formats.protocol import MetadataValue

_TOLERANCE = 1e-4
"""Of numbers that a graph holds as float32 or float16, or that are worked out of its tables."""

_COMPARED = {
    "llama.block_count": "num_hidden_layers",
    "llama.embedding_length": "hidden_size",
    "llama.feed_forward_length": "intermediate_size",
    "llama.attention.head_count": "num_attention_heads",
    "llama.attention.head_count_kv": "num_key_value_heads",
    "llama.attention.key_length": "head_dim",
    "llama.attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "llama.vocab_size": "vocab_size",
    "llama.rope.freq_base": "rope_theta",
}
"""Names in `config.json` by GGUF key."""

_SCALING = "llama.rope.scaling."


def with_config(
    found: Mapping[str, MetadataValue], config: Mapping[str, Any], label: str, config_label: str
) -> dict[str, MetadataValue]:
    """The metadata of a graph, with the context length of `config.json`: a graph has tables of positions at most.

    Args:
        found: of the graph.
        config: what stands in the file.
        label: the graph's path, for errors.
        config_label: the file's.

    Raises:
        ModelError: the config is no Llama model's, or contradicts the graph.
    """
    read = read_config(config, config_label)
    stated = read.metadata()
    is_scaled = read.rope.divisors is not None or any(key.startswith(_SCALING) for key in stated)
    for key, name in _COMPARED.items():
        if key == "llama.rope.freq_base" and is_scaled:  # the graph has the scaled frequencies only
            continue
        if key in found and key in stated and not _agree(found[key], stated[key]):
            raise OnnxError(
                f"{label}: computes with {key} = {_shown(found[key])}, but {config_label} says {name} = "
                f"{_shown(stated[key])}: one of the two files belongs to another model"
            )
    return {**found, "llama.context_length": stated["llama.context_length"]}


def _agree(found: MetadataValue, stated: MetadataValue) -> bool:
    if isinstance(found, float) and isinstance(stated, int | float):
        return math.isclose(found, stated, rel_tol=_TOLERANCE)
    return bool(found == stated)


def _shown(value: MetadataValue) -> str:
    return f"{value:.7g}" if isinstance(value, float) else str(value)
