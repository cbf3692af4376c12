"""How a text is generated, as llama-server reports it: what llorch does not have stands there switched off.

Source: llama.cpp 0.5.0-dev, `tools/server/server-task.cpp`, `task_params::to_json`.
"""

from __future__ import annotations

import math
from typing import Any

from llorch.engine.params import SamplingParams
from llorch.fields.sampling_table import RARE_SAMPLING
from llorch.server.routes.llama_server.sampler_order import shown_steps

_ABSENT: dict[str, Any] = {
    "n_keep": 0,
    "n_discard": 0,
    "min_keep": 0,
    "grammar_lazy": False,
    "grammar_triggers": [],
    "preserved_tokens": [],
    "chat_format": "Content-only",
    "reasoning_format": "none",
    "reasoning_in_content": False,
    "generation_prompt": "",
    "speculative.types": "none",
    "backend_sampling": False,
    "lora": [],
}


def generation_settings(
    params: SamplingParams,
    *,
    n_predict: int,
    seed: int,
    stop: tuple[str, ...] = (),
    ignore_eos: bool = False,
    n_probs: int = 0,
    post_sampling_probs: bool = False,
    stream: bool = False,
    timings_per_token: bool = False,
    grammar: str = "",
) -> dict[str, Any]:
    """All of them.

    Args:
        params: how tokens are chosen.
        n_predict: most tokens; -1 for as many as the context holds.
        seed: the one in use.
        stop: strings that end the text.
        ignore_eos: whether the model's end of the text is never chosen.
        n_probs: alternatives reported beside each token.
        post_sampling_probs: whether they are those that sampling left.
        stream: whether the answer is a stream.
        timings_per_token: whether each of its events has timings.
        grammar: what the text fits, in GBNF.
    """
    biases = [
        {"token": token_id, "bias": bias if math.isfinite(bias) else False}
        for token_id, bias in params.logit_bias.items()
    ]
    return _ABSENT | {
        "seed": seed,
        "temperature": params.temperature,
        "top_k": params.top_k,
        "top_p": params.top_p,
        "min_p": params.min_p,
        **{name: getattr(params, name) for name in RARE_SAMPLING},
        "dry_sequence_breakers": list(params.dry_sequence_breakers),
        "repeat_last_n": params.penalty_last_n,
        "repeat_penalty": params.repetition_penalty,
        "presence_penalty": params.presence_penalty,
        "frequency_penalty": params.frequency_penalty,
        "stop": list(stop),
        "max_tokens": n_predict,
        "n_predict": n_predict,
        "ignore_eos": ignore_eos,
        "stream": stream,
        "logit_bias": biases,
        "n_probs": n_probs,
        "post_sampling_probs": post_sampling_probs,
        "samplers": shown_steps(params.samplers),
        "timings_per_token": timings_per_token,
        "grammar": grammar,
    }
