"""Values of other implementations that `tests/golden/hugging_face` stores, and ours beside them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llorch.conversation import Conversation
from llorch.formats.source import open_source
from llorch.open_model import OpenModel, open_model
from llorch.quant.tensor import Tensor, dequantize
from llorch.quant.types import F32

FOLDER = Path(__file__).parents[1] / "golden" / "hugging_face"


@dataclass(frozen=True)
class OracleCase:
    """One model whose values are stored.

    Attributes:
        name: what it is called.
        about: its entry in the JSON file: prompt, greedy tokens, hash of its weights.
        logits: float32 (rows, columns), those of `rows` and every `column_step`-th column.
    """

    name: str
    about: dict[str, Any]
    logits: NDArray[np.float32]

    def chosen(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """The part of logits of all rows that is stored."""
        return logits[self.about["rows"], :: self.about["column_step"]]


def stored_cases(file: str) -> dict[str, OracleCase]:
    """The cases of one file by name."""
    cases = json.loads((FOLDER / f"{file}.json").read_text())["cases"]
    with np.load(FOLDER / f"{file}.npz") as arrays:
        return {name: OracleCase(name, about, arrays[name]) for name, about in cases.items()}


@contextmanager
def opened(path: Path, *, expanded: bool = False) -> Iterator[OpenModel]:
    """A model of float32 KV cache; `expanded` computes with its weights as float32, so that nothing is rounded."""
    source = open_source(path)
    tensors = {name: _as_f32(tensor) for name, tensor in source.tensors.items()} if expanded else None
    model = open_model(
        source,
        tensors=tensors,
        with_tokenizer=False,
        n_threads=1,
        n_batch=64,
        weights="mapped",
        kv_type="f32",
    )
    with model:
        yield model


def _as_f32(tensor: Tensor) -> Tensor:
    values = np.ascontiguousarray(dequantize(tensor))
    return Tensor(tensor.name, F32, tensor.shape, values.reshape(-1).view(np.uint8))


def logits_and_greedy(
    model: OpenModel, token_ids: Sequence[int], n_greedy: int = 0
) -> tuple[NDArray[np.float32], list[int]]:
    """Logits of all prompt tokens, and greedy tokens after it."""
    talk = Conversation(model.llama, len(token_ids) + n_greedy)
    logits = talk.feed(token_ids, 0, all_rows=True)
    greedy, row = [], logits[-1]
    for i in range(n_greedy):
        greedy.append(int(row.argmax()))
        if i + 1 < n_greedy:
            row = talk.feed(greedy[-1:], len(token_ids) + i)[0]
    return logits, greedy


def nmse(ours: NDArray[Any], theirs: NDArray[Any]) -> float:
    """Normalised mean squared error, in float64."""
    theirs = theirs.astype(np.float64)
    return float(((ours - theirs) ** 2).sum() / (theirs**2).sum())
