"""What a checked body asks of the engine: sampling parameters, options, a generation for each choice."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request

from llorch.engine.params import SamplingParams
from llorch.server.access import owner_of
from llorch.settings import Settings

_TO_THE_END = 2**31 - 1
"""As many tokens as the context holds."""

_DEFAULTS = {"temperature": 1.0, "top_p": 1.0, "penalty_last_n": -1}
"""OpenAI's, where neither the request nor the operator says something else."""


def sampling_params(given: Mapping[str, Any], settings: Settings) -> SamplingParams:
    """How tokens are chosen: as the request says, else as the operator set, else as OpenAI does."""
    said = dict(given)
    for name, llama_server_name in (
        ("repetition_penalty", "repeat_penalty"),
        ("penalty_last_n", "repeat_last_n"),
    ):
        said.setdefault(name, said.get(llama_server_name))
    if said.get("top_k") == -1:
        said["top_k"] = 0
    if said.get("logit_bias") is not None:
        said["logit_bias"] = {int(token_id): bias for token_id, bias in said["logit_bias"].items()}
    said["seed"] = None if said.get("seed") in (None, -1) else said["seed"] % 2**64
    defaults = {name: value for name, value in _DEFAULTS.items() if name not in settings.model_fields_set}
    known = SamplingParams.__dataclass_fields__
    chosen = {name: value for name, value in said.items() if name in known and value is not None}
    params = SamplingParams.from_settings(settings)
    return dataclasses.replace(params, **{**defaults, **chosen}, penalize_prompt=False)


def keywords_of_choices(
    request: Request,
    given: Mapping[str, Any],
    prompts: list[dict[str, Any]],
    answer_id: str,
    *,
    max_tokens: int,
    params: SamplingParams | None = None,
    **options: object,
) -> list[dict[str, Any]]:
    """Keywords of `EngineService.submit` for each generation of an answer: `n` for each prompt, side by side.

    Args:
        request: whose it is.
        given: the checked fields.
        prompts: keywords that give a prompt.
        answer_id: the generations are named after it.
        max_tokens: of each; -1: to the end of the context.
        params: how tokens are chosen; None: `sampling_params`.
        options: of the engine's `Request`.
    """
    settings: Settings = request.app.state.service.settings
    params = params or sampling_params(given, settings)
    n = given.get("n", 1)
    is_alone = len(prompts) * n == 1
    shared = {
        "max_tokens": _TO_THE_END if max_tokens == -1 else max_tokens,
        "stop": given.get("stop", ()),
        "ignore_eos": given.get("ignore_eos", False),
        "options": {
            "owner": owner_of(request.scope),
            "cache_prompt": given.get("cache_prompt", True),
            "hashes_logits": given.get("receipt", False),
            "min_tokens": given.get("min_tokens", 0),
            "stop_token_ids": given.get("stop_token_ids", ()),
            "wants_progress": given.get("return_progress", False) and given.get("stream", False),
            **options,
        },
    }
    return [
        {
            **shared,
            **prompt,
            "params": params_of_choice(params, k),
            "job_id": answer_id if is_alone else f"{answer_id}.{i * n + k}",
        }
        for i, prompt in enumerate(prompts)
        for k in range(n)
    ]


def params_of_choice(params: SamplingParams, k: int) -> SamplingParams:
    """The parameters of choice k, which has a seed of its own: alone, with that seed, it is the same."""
    if params.seed is None or k == 0:
        return params
    return dataclasses.replace(params, seed=(params.seed + k) % 2**64)


def new_id(prefix: str, joint: str = "-") -> str:
    """A name for an answer, or for a part of one: `prefix`, `joint`, and what no other name has."""
    return f"{prefix}{joint}{uuid.uuid4().hex}"
