"""Model files as they circulate: odd, but usable. Each computes what the tiny model without the oddity computes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gguf import GGUFValueType

from tests.support.tiny_models import spm_vocabulary

N_LAYER, N_VOCAB = 2, 320
_, _SCORES, _TYPES = spm_vocabulary(N_VOCAB)
_ARRAY = GGUFValueType.ARRAY


@dataclass(frozen=True)
class OddModel:
    """Metadata that make a tiny model of two layers odd, and what its one warning must say.

    Attributes:
        overrides: as for `write_tiny_llama`.
        said: parts of the warning.
        runs_in_llama_cpp: whether the release of llama.cpp that the tests know runs the file.
    """

    overrides: dict[str, Any]
    said: tuple[str, ...]
    runs_in_llama_cpp: bool = True


def _tokenizer(**keys: Any) -> dict[str, Any]:
    return {f"tokenizer.ggml.{name}": value for name, value in keys.items()}


ODD_MODELS = {
    "an id outside the vocabulary": OddModel(
        _tokenizer(bos_token_id=N_VOCAB, eos_token_id=2**31), ("bos_token_id 320", "eos_token_id 2147483648")
    ),
    "an unused id that is none": OddModel(
        _tokenizer(padding_token_id=(GGUFValueType.UINT32, 2**32 - 1)),
        ("padding_token_id is 4294967295, which means none",),
    ),
    "an unused id of minus one": OddModel(
        _tokenizer(padding_token_id=(GGUFValueType.INT32, -1)),
        ("padding_token_id is -1, which means none",),
        runs_in_llama_cpp=False,
    ),
    "add_bos_token as an integer": OddModel(
        _tokenizer(add_bos_token=(GGUFValueType.UINT8, 1)),
        ("add_bos_token is the integer 1, read as true",),
        runs_in_llama_cpp=False,
    ),
    "head_count_kv as an array": OddModel(
        {"llama.attention.head_count_kv": (_ARRAY, [2] * N_LAYER)}, ("head_count_kv is an array with 2 for each",)
    ),
    "feed_forward_length as an array": OddModel(
        {"llama.feed_forward_length": (_ARRAY, [96] * N_LAYER)},
        ("feed_forward_length is an array with 96 for each",),
    ),
    "head_count as an array": OddModel(
        {"llama.attention.head_count": (_ARRAY, [4] * N_LAYER)}, ("head_count is an array with 4 for each",)
    ),
    "a vocab_size of one more": OddModel({"llama.vocab_size": 321}, ("vocab_size is 321, but there are 320",)),
    "a vocab_size of one less": OddModel({"llama.vocab_size": 319}, ("vocab_size is 319, but there are 320",)),
    "a vocab_size of nothing": OddModel({"llama.vocab_size": 0}, ("vocab_size is 0, but there are 320",)),
    "an enormous vocab_size": OddModel({"llama.vocab_size": 2**31 - 1}, ("vocab_size is 2147483647",)),
    "surplus scores": OddModel(
        _tokenizer(scores=[*_SCORES, 9.0, float("nan")]), ("scores has 322 values for 320 tokens",)
    ),
    "a sliding window": OddModel(
        {"llama.attention.sliding_window": 2}, ("sliding_window is not used for this architecture",)
    ),
    "a factor of YaRN that other architectures read": OddModel(
        {"llama.rope.scaling.yarn_beta_fast": 8.0}, ("yarn_beta_fast is not used for this architecture",)
    ),
    "surplus types": OddModel(_tokenizer(token_type=[*_TYPES, 6]), ("token_type has 321 values for 320 tokens",)),
}  # fmt: skip
