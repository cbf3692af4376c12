"""What onnxruntime computes with an exported Llama."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

PROMPT = (1, 5, 9, 33, 7, 60, 2, 17)
_WIDTH_UNSAID = 1
"""Of a past of no tokens, where the graph leaves the width of heads open."""


def session_of(model: Path | bytes) -> onnxruntime.InferenceSession:
    """A session on the CPU, with one thread, that does not fuse operations."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    given = str(model) if isinstance(model, Path) else model
    return onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])


def feed_of(
    session: onnxruntime.InferenceSession,
    token_ids: Sequence[int],
    past: dict[str, NDArray[Any]] | None = None,
    width: int = _WIDTH_UNSAID,
) -> dict[str, NDArray[Any]]:
    """Inputs for one pass: ids, mask, positions and past, as far as the graph has them.

    Args:
        session: of the graph.
        token_ids: of this pass.
        past: keys and values by the name of the input; None for none.
        width: of heads, where the graph does not say it.
    """
    n_past = next(iter(past.values())).shape[2] if past else 0
    n = len(token_ids)
    feed: dict[str, NDArray[Any]] = {}
    for given in session.get_inputs():
        if "past" in given.name:
            dtype = np.float16 if "float16" in given.type else np.float32
            shape = [1, given.shape[1], 0, given.shape[3] if isinstance(given.shape[3], int) else width]
            feed[given.name] = past[given.name] if past else np.zeros(shape, dtype)
        elif "mask" in given.name:
            feed[given.name] = np.ones((1, n_past + n), np.int64)
        elif "position" in given.name:
            feed[given.name] = np.arange(n_past, n_past + n)[None]
        else:
            feed[given.name] = np.array([token_ids], np.int64)
    return feed


def logits_of(path: Path, token_ids: Sequence[int] = PROMPT) -> NDArray[np.float32]:
    """Logits of all tokens of a prompt: float32 (tokens, n_vocab)."""
    session = session_of(path)
    (logits,) = session.run(["logits"], feed_of(session, token_ids, width=16))
    return np.asarray(logits[0], np.float32)
