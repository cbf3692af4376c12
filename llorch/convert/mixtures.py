"""Which tensor gets which type: the file types of `llama-quantize`, and its rules for the tensors that need more bits.

Source: src/llama-quant.cpp of llama.cpp, for the Llama architecture and without an importance matrix.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from llorch.errors import InputError, shown
from llorch.model.config import ModelConfig
from llorch.quant.types import (
    BF16,
    F16,
    F32,
    Q3_K,
    Q4_0,
    Q4_1,
    Q4_K,
    Q5_0,
    Q5_1,
    Q5_K,
    Q6_K,
    Q8_0,
    QuantType,
)

Rule = Callable[[int, int], QuantType]
"""The type of a tensor of a layer, given the layer's number and how many there are."""

_ROLE = re.compile(r"blk\.([0-9]{1,9})\.(attn_v|ffn_down|attn_output)\.weight")
_N_LAYER_70B = 80

SHORTER = {Q3_K: Q4_0, Q4_K: Q5_0, Q5_K: Q5_1, Q6_K: Q8_0}
"""What takes the place of types with blocks of 256 where rows are no multiple of that."""


@dataclass(frozen=True, slots=True)
class FileType:
    """A row of the table of file types.

    Attributes:
        name: as `llama-quantize` spells it.
        number: value of ``general.file_type``.
        quant: type of most matrices.
        rules: types of matrices that get another, by role.
    """

    name: str
    number: int
    quant: QuantType
    rules: Mapping[str, Rule] = field(default_factory=dict)


def _in_first_and_last(more: QuantType, usual: QuantType) -> Rule:
    """`more` in the first and last eighth of the layers and in every third between."""

    def choose(i: int, n: int) -> QuantType:
        return more if i < n // 8 or i >= 7 * n // 8 or (i - n // 8) % 3 == 2 else usual

    return choose


def _before(first: Callable[[int], int], more: QuantType, usual: QuantType) -> Rule:
    """`more` in layers before ``first(n)``."""
    return lambda i, n: more if i < first(n) else usual


def _always(quant: QuantType) -> Rule:
    return lambda i, n: quant


_PLAIN = ((F32, 0), (F16, 1), (BF16, 32), (Q4_0, 2), (Q4_1, 3), (Q5_0, 8), (Q5_1, 9), (Q8_0, 7), (Q6_K, 18))

FILE_TYPES: tuple[FileType, ...] = (
    *(FileType(quant.name, number, quant) for quant, number in _PLAIN),
    FileType("Q3_K_S", 11, Q3_K),
    FileType("Q3_K_M", 12, Q3_K, {
        "attn_v": _before(lambda n: 2, Q5_K, Q4_K),
        "ffn_down": _before(lambda n: n // 16, Q5_K, Q4_K),
        "attn_output": _always(Q4_K),
    }),
    FileType("Q3_K_L", 13, Q3_K, dict.fromkeys(("attn_v", "ffn_down", "attn_output"), _always(Q5_K))),
    FileType("Q4_K_S", 14, Q4_K, {
        "attn_v": _before(lambda n: 4, Q5_K, Q4_K), "ffn_down": _before(lambda n: n // 8, Q5_K, Q4_K),
    }),
    FileType("Q4_K_M", 15, Q4_K, dict.fromkeys(("attn_v", "ffn_down"), _in_first_and_last(Q6_K, Q4_K))),
    FileType("Q5_K_S", 16, Q5_K),
    FileType("Q5_K_M", 17, Q5_K, dict.fromkeys(("attn_v", "ffn_down"), _in_first_and_last(Q6_K, Q5_K))),
)  # fmt: skip

ALIASES = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M"}


def file_type(name: str) -> FileType:
    """The file type of a name, in upper or lower case.

    Raises:
        InputError: there is none; the message lists those there are.
    """
    wanted = ALIASES.get(name.upper(), name.upper())
    for row in FILE_TYPES:
        if row.name == wanted:
            return row
    names = ", ".join([row.name for row in FILE_TYPES] + list(ALIASES))
    raise InputError(f"type {shown(name)} cannot be written; choose one of {names}")


def choose_type(
    name: str,
    shape: tuple[int, ...],
    wanted: FileType,
    config: ModelConfig,
    *,
    is_tied: bool,
    is_pure: bool,
) -> QuantType | None:
    """The type to store a tensor as; None for one that stays as it is: vectors, norms, and what is no weight.

    Args:
        name: GGUF name.
        shape: NumPy order.
        wanted: the file type.
        config: of the model.
        is_tied: whether the embedding serves as the output, too.
        is_pure: whether every matrix gets the type that most get.
    """
    is_matrix = sum(dim > 1 for dim in shape[:-1]) > 0
    if not is_matrix or not name.endswith("weight") or name.endswith("_norm.weight"):
        return None
    quant = wanted.quant
    if quant.block_size == 1:
        return quant
    if not is_pure:
        quant = _mixed(name, shape[-1], wanted, config, is_tied)
    if shape[-1] % quant.block_size:
        quant = SHORTER.get(quant, quant)
    return F16 if shape[-1] % quant.block_size else quant


def _mixed(name: str, n_in: int, wanted: FileType, config: ModelConfig, is_tied: bool) -> QuantType:
    """The type by the rules of the mixture, whatever the length of rows allows."""
    quant = wanted.quant
    if name == "output.weight" or (is_tied and name == "token_embd.weight"):
        return Q8_0 if n_in % quant.block_size or quant is Q8_0 else Q6_K
    found = _ROLE.fullmatch(name)
    if found is None:
        return quant
    i_layer, role = int(found[1]), found[2]
    if role in wanted.rules:
        quant = wanted.rules[role](i_layer, config.n_layer)
    # Eight heads of the 70B models share these weights: more bits cost little.
    is_shared = config.n_layer == _N_LAYER_70B and config.n_head != config.n_head_kv
    return Q5_K if role == "attn_v" and is_shared and quant in (Q3_K, Q4_K) else quant
