"""llama.cpp's own sampling steps, one at a time."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import llama_cpp
import numpy as np
from numpy.typing import NDArray


class LlamaCppStep:
    """One step of llama.cpp's chain."""

    def __init__(self, step: Any) -> None:
        self._step = step

    def accept(self, token_ids: Iterable[int]) -> None:
        """Tell it which tokens were chosen."""
        for token_id in token_ids:
            llama_cpp.llama_sampler_accept(self._step, token_id)

    def apply(
        self, logits: NDArray[np.float32], token_ids: Iterable[int] | None = None
    ) -> tuple[dict[int, float], int | None]:
        """Logits of the candidates it leaves, by id, and the token it chooses, if it is such a step.

        Args:
            logits: of the candidates.
            token_ids: their ids; default: the first ones.
        """
        items = (llama_cpp.llama_token_data * len(logits))()
        ids = range(len(logits)) if token_ids is None else token_ids
        for i, (token_id, value) in enumerate(zip(ids, logits.tolist(), strict=True)):
            items[i] = llama_cpp.llama_token_data(token_id, value, 0.0)
        array = llama_cpp.llama_token_data_array(items, len(logits), -1, False)
        llama_cpp.llama_sampler_apply(self._step, ctypes.byref(array))
        left = {int(array.data[i].id): float(array.data[i].logit) for i in range(array.size)}
        return left, int(array.data[array.selected].id) if array.selected >= 0 else None


@contextmanager
def llama_cpp_step(name: str, *arguments: Any) -> Iterator[LlamaCppStep]:
    """The step that `llama_sampler_init_NAME` makes."""
    step = getattr(llama_cpp, f"llama_sampler_init_{name}")(*arguments)
    try:
        yield LlamaCppStep(step)
    finally:
        llama_cpp.llama_sampler_free(step)


def c_strings(*texts: str) -> Any:
    """An array of C strings."""
    return (ctypes.c_char_p * len(texts))(*(text.encode() for text in texts))
