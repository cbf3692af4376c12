"""The fields of `POST /completion`: what they mean here, which values are refused, which are ignored.

A field that would change the text in a way that llorch does not have is known with the only values that change nothing,
so it is refused by name where it asks for more. Fields without such an effect are ignored, unknown ones too. Values
beyond the ends of top-k, top-p and min-p count as the ends.

Source: llama.cpp 0.5.0-dev, `tools/server/server-schema.cpp`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from llorch.engine.params import SamplingParams
from llorch.fields.field import Field
from llorch.fields.kinds import BOOLEAN, Kind, integer
from llorch.fields.sampling_table import RARE_SAMPLING
from llorch.fields.table import FIELDS, MAX_LOGPROBS
from llorch.server.body import check_fields, object_schema
from llorch.server.routes.llama_server.biases import BIASES_SCHEMA, bias_faults
from llorch.server.routes.llama_server.prompts import (
    MAX_PROMPTS,
    PROMPT_SCHEMA,
    Prompt,
    prompt_faults,
    prompts_of,
)
from llorch.server.routes.llama_server.sampler_order import (
    SAMPLERS_SCHEMA,
    names_adaptive,
    sampler_faults,
    steps_of,
)
from llorch.server.routes.openai.kinds import GRAMMAR
from llorch.server.routes.openai.structure import Structure, parse_structure
from llorch.settings import Settings

_INT32_MAX = 2**31 - 1
_RANDOM_SEEDS = (-1, 2**32 - 1)


def _native(name: str, native: str, kind: Kind | None = None) -> Field:
    """The native field `native` under llama-server's name."""
    field = FIELDS[native]
    return dataclasses.replace(field, name=name, kind=kind or field.kind, others_say=())


def _without(name: str, what: str, kind: Kind) -> Field:
    """A field for `what`, which llorch has not; `kind` has the values that do not ask for it."""
    kind = dataclasses.replace(kind, rule=f"{kind.rule} (llorch has no {what})")
    return Field(name, kind, None, words=f"llorch has no {what}")


def _make_false() -> Any:
    """Not `Literal[False]` alone, to which 0 is equal."""
    from pydantic import BeforeValidator

    return Annotated[Literal[False], BeforeValidator(lambda value: value if type(value) is bool else None)]


def _number(rule: str, **limits: float) -> Kind:
    return Kind(float, rule, limits)


def _list_of(type_: type, rule: str, most: int) -> Kind:
    return Kind(list[type_], rule, {"max_length": most})  # type: ignore[valid-type]


_ZERO, _ONE = _number("0", ge=0, le=0), _number("1", ge=1, le=1)
_AT_MOST_0 = _number("a number <= 0", le=0)

_NATIVE = {
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "repeat_penalty": "repetition_penalty",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "repeat_last_n": "penalty_last_n",
    **{name: name for name in RARE_SAMPLING if name != "samplers"},
}
"""Fields with a native one of that meaning, by llama-server's name."""
_ENDS: dict[str, tuple[float, float]] = {
    "temperature": (0, math.inf),
    "top_k": (0, math.inf),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "typical_p": (0, 1),
    "top_n_sigma": (-1, math.inf),
    "xtc_probability": (0, 1),
    "xtc_threshold": (0, 1),
    "mirostat": (0, 2),
    "adaptive_target": (-1, math.inf),
    "adaptive_decay": (0, 0.99),
}
_KINDS = {
    "temperature": _number("a number, temperature <= 2", le=2),
    "top_k": Kind(int, "an integer, top_k < 2^31", {"le": _INT32_MAX}),
    "top_p": _number("a number"),
    "min_p": _number("a number"),
    "typical_p": _number("a number"),
    "top_n_sigma": _number("a number, top_n_sigma <= 1000", le=1000),
    "xtc_probability": _number("a number"),
    "xtc_threshold": _number("a number"),
    "mirostat": Kind(int, "an integer"),
    "adaptive_target": _number("a number, adaptive_target <= 1", le=1),
    "adaptive_decay": _number("a number"),
}
_ALIASES = {
    "max_tokens": "n_predict",
    "max_completion_tokens": "n_predict",
    "logprobs": "n_probs",
    "n": "n_cmpl",
}
"""Other names, for bodies without the first one."""

_TABLE = (
    Field(
        "n_predict",
        integer(-1, _INT32_MAX),
        None,
        words="most tokens to generate; -1: to the end of the context",
    ),
    *(_native(name, native, _KINDS.get(name)) for name, native in _NATIVE.items()),
    Field("seed", integer(-1, 2**64 - 1), -1, words="-1: a new one, which `generation_settings` reports"),
    _native("stop", "stop"),
    _native("ignore_eos", "ignore_eos"),
    Field("stream", BOOLEAN, False, words="server-sent events, the last with `stop: true`"),
    Field("n_probs", integer(0, MAX_LOGPROBS), 0, words="so many alternatives in `completion_probabilities`"),
    Field(
        "post_sampling_probs",
        BOOLEAN,
        False,
        words="these are `prob` and `top_probs`: after all steps of sampling",
    ),
    Field(
        "cache_prompt", BOOLEAN, True, words="the beginning of the prompt may come from the cache of prefixes"
    ),
    Field(
        "return_tokens", BOOLEAN, False, words="`tokens` are the generated ids; in a stream they always are"
    ),
    Field("return_progress", BOOLEAN, False, words="a stream reports how much of the prompt has been read"),
    Field("timings_per_token", BOOLEAN, False, words="every event of a stream has `timings`"),
    Field(
        "response_fields", _list_of(str, "a list of strings", 64), None, words="what the answer shall hold"
    ),
    Field("n_cmpl", integer(1, MAX_PROMPTS), 1, words="completions of each prompt"),
    _native("timeout", "timeout_s"),
    _native("receipt", "receipt"),
    _without("tfs_z", "tail-free sampling", _ONE),
    _without("min_keep", "min_keep", integer(0, 1)),
    _without("n_indent", "minimal indentation", _ZERO),
    _without("t_max_predict_ms", "limit of time", _AT_MOST_0),
    _without("lora", "LoRA adapters", Kind(list[Any], "an empty list", {"max_length": 0})),
    _without("image_data", "images", Kind(list[Any], "an empty list", {"max_length": 0})),
    Field("grammar", GRAMMAR, "", words="the text fits this GBNF grammar; empty: none"),
    _without("grammar_lazy", "grammar that waits for a trigger", Kind(_make_false, "false")),
    Field(
        "json_schema", Kind(dict[str, Any], "an object"), None, words="the text is JSON that fits this schema"
    ),
)
FIELDS_OF_COMPLETION = {field.name: field for field in _TABLE}


def completion_schema() -> dict[str, Any]:
    """JSON schema of the body."""
    schema = object_schema(FIELDS_OF_COMPLETION)
    schema["properties"] |= {
        "prompt": {**PROMPT_SCHEMA, "description": "text, ids, both in a list, or a list of such prompts"},
        "logit_bias": BIASES_SCHEMA,
        "samplers": SAMPLERS_SCHEMA,
    }
    return {**schema, "required": ["prompt"], "additionalProperties": True}


@dataclasses.dataclass(frozen=True)
class CompletionRequest:
    """A checked body.

    Attributes:
        prompts: at least one.
        given: the fields that it gives, without null ones.
        steps: what `samplers` names, under llorch's names; None where it is not given.
        is_adaptive: whether `samplers` names adaptive-p, which chooses nothing otherwise.
        logit_bias: as it came.
        structure: what `json_schema` or `grammar` asks for.
    """

    prompts: list[Prompt]
    given: Mapping[str, Any]
    steps: tuple[str, ...] | None
    is_adaptive: bool
    logit_bias: list[Any] | dict[str, Any]
    structure: Structure

    def get(self, name: str) -> Any:
        """The value of a field, or its default."""
        return self.given.get(name, FIELDS_OF_COMPLETION[name].default)

    @property
    def stop(self) -> list[str]:
        """The strings that end the text."""
        stop = self.given.get("stop", [])
        return [stop] if isinstance(stop, str) else stop

    def max_tokens(self, settings: Settings, n_ctx: int) -> int:
        """Most tokens to generate; those that the context does not hold do not matter."""
        n_predict: int = self.given.get("n_predict", settings.n_predict)
        return n_ctx if n_predict < 0 else n_predict

    def params(self, settings: Settings, logit_bias: Mapping[int, float]) -> SamplingParams:
        """How tokens are chosen; what the body does not say is as the settings say."""
        given: dict[str, Any] = {
            native: self.given[name] for name, native in _NATIVE.items() if name in self.given
        }
        if self.steps is not None:
            given["samplers"] = self.steps
        if not self.is_adaptive:
            given["adaptive_target"] = -1.0
        seed = self.get("seed")
        return dataclasses.replace(
            SamplingParams.from_settings(settings, seed=None if seed in _RANDOM_SEEDS else seed),
            **given,
            logit_bias=logit_bias,
        )


def parse_completion(body: Mapping[str, Any], max_prompt_chars: int) -> CompletionRequest:
    """The request in a body.

    Raises:
        RequestError: with every fault of the body.
    """
    known = {name: value for name, value in body.items() if name in FIELDS_OF_COMPLETION}
    for alias, name in _ALIASES.items():
        if known.get(name) is None and body.get(alias) is not None:
            known[name] = body[alias]
    for name, (low, high) in _ENDS.items():
        if type(known.get(name)) in (int, FIELDS_OF_COMPLETION[name].kind.type):
            known[name] = min(max(known[name], low), high)
    faults = prompt_faults(body.get("prompt"), max_prompt_chars)
    faults += bias_faults(body.get("logit_bias")) + sampler_faults(body.get("samplers"))
    schema = known.get("json_schema")
    # llama-server takes the empty schema for any object
    binding = {"json_schema": {"type": "object"} if schema == {} else schema, "grammar": known.get("grammar")}
    structure = parse_structure(binding, faults, has_tools=False)
    given = check_fields(known, FIELDS_OF_COMPLETION, more_faults=faults)
    samplers = body.get("samplers")
    return CompletionRequest(
        prompts=prompts_of(body["prompt"]),
        given=given,
        steps=None if samplers is None else steps_of(samplers),
        is_adaptive=names_adaptive(samplers),
        logit_bias=body.get("logit_bias") or {},
        structure=structure,
    )
