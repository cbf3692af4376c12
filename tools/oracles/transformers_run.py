"""Hugging Face transformers on a directory: logits of a prompt and greedy tokens, computed in float32."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


class OracleError(Exception):
    """A directory that the oracle cannot stand for."""


def load_llama(directory: Path, dtype: str = "float32") -> Any:
    """The model of a directory in plain ("eager") attention, its weights in `dtype`.

    Rows of int8 are multiplied with their scales, and activations stay as they are. The weights are put into the model
    here: `from_pretrained` leaves the embedding of a tied model without memory if the file has it as `lm_head.weight`
    alone.

    Raises:
        OracleError: the files hold other tensors than the model has.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.set_num_threads(1)
    config = AutoConfig.from_pretrained(directory)
    model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype), attn_implementation="eager")
    missing, unexpected = model.load_state_dict(_state(directory, config.tie_word_embeddings), strict=False)
    if missing or unexpected:
        raise OracleError(f"{directory}: the files lack {missing} and hold beyond the model {unexpected}")
    model.tie_weights()
    return model.eval()


def load_compressed(directory: Path, dtype: str = "float32") -> Any:
    """The model of a directory that compressed-tensors quantised, which quantises activations while the model runs."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(
        directory, dtype=getattr(torch, dtype), attn_implementation="eager"
    )
    return model.eval()


def _state(directory: Path, is_tied: bool) -> dict[str, Any]:
    """All tensors of the files by name, expanded where they are int8; the embedding of a tied model has two names."""
    from safetensors.torch import load_file

    state: dict[str, Any] = {}
    for file in sorted(directory.glob("*.safetensors")):
        state |= load_file(file)
    for name in [name for name in state if name.endswith(".weight_scale")]:
        weight = name.removesuffix("_scale")
        state[weight] = state[weight].float() * state.pop(name).float()
    if is_tied:
        table = state.get("model.embed_tokens.weight", state.get("lm_head.weight"))
        state["model.embed_tokens.weight"] = state["lm_head.weight"] = table
    return state


def logits_of(model: Any, token_ids: Sequence[int]) -> NDArray[np.float32]:
    """Logits of all tokens of one sequence: float32 (n_tokens, n_vocab)."""
    import torch

    with torch.no_grad():
        logits = model(torch.tensor([list(token_ids)])).logits[0].float().numpy()
    return np.ascontiguousarray(logits, np.float32)


def greedy_tokens(model: Any, token_ids: Sequence[int], n_tokens: int) -> tuple[list[int], list[float]]:
    """The most likely tokens one after the other, never ended, and how far ahead of the second best each was."""
    import torch

    found: list[int] = []
    margins: list[float] = []
    fed, cache = list(token_ids), None
    with torch.no_grad():
        for _ in range(n_tokens):
            output = model(torch.tensor([fed]), past_key_values=cache, use_cache=True)
            cache, row = output.past_key_values, output.logits[0, -1].float().numpy()
            second, best = np.partition(row, -2)[-2:]
            fed = [int(row.argmax())]
            found += fed
            margins.append(float(best) - float(second))
    return found, margins


def versions() -> dict[str, str]:
    """What computed the values."""
    import torch
    import transformers

    found = {"transformers": transformers.__version__, "torch": str(torch.__version__)}
    with contextlib.suppress(PackageNotFoundError):
        found["compressed-tensors"] = version("compressed-tensors")
    return found
