"""What clients may send, checked so that all faults of a request come back in one answer.

Prompts are never repeated: messages name the field, the rule, and the value only where it is a number.
"""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from llorch.errors import FieldError, RequestError

U64_MAX = 2**64 - 1
MAX_TOKEN_ID = 2**31 - 1
MAX_UNKNOWN_FIELDS = 20
"""Unknown fields named one by one in an answer; the rest is counted."""
MAX_STOPS = 16
MAX_STOP_CHARS = 100
MAX_LOGIT_BIASES = 1024


def _encodable(value: object) -> object:
    """Refuse lone surrogates: JSON can spell them, UTF-8 and the tokenizer cannot."""
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise PydanticCustomError(
                "lone_surrogate", "holds a lone surrogate, which is no character"
            ) from None
    return value


def _as_list(value: object) -> object:
    """A single stop string may stand without brackets."""
    return [value] if isinstance(value, str) else value


def _token_ids(value: object) -> object:
    """Check the items in one pass and report them together: a list may hold hundreds of thousands."""
    if isinstance(value, list):
        bad = [i for i, item in enumerate(value) if type(item) is not int or not 0 <= item <= MAX_TOKEN_ID]
        if bad:
            raise PydanticCustomError(
                "bad_items", f"{len(bad)} of {len(value)} items wrong, first [{bad[0]}]"
            )
    return value


def _at_most(n: int) -> BeforeValidator:
    """Refuse a long list or object before its items are looked at."""

    def check(value: object) -> object:
        if isinstance(value, list | dict) and len(value) > n:
            raise PydanticCustomError("bad_items", f"{len(value)} items")
        return value

    return BeforeValidator(check)


Text = Annotated[str, BeforeValidator(_encodable)]
JobId = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,64}$")]
Bias = Annotated[float, Field(ge=-100, le=100)]
StopString = Annotated[Text, Field(min_length=1, max_length=MAX_STOP_CHARS)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True)


class GenerateRequest(_Body):
    """Body of `POST /generate`. Fields left out (or null) take the server's defaults."""

    prompt: Text | None = Field(None, min_length=1, description="text to continue; or give token_ids")
    token_ids: Annotated[list[int], BeforeValidator(_token_ids)] | None = Field(
        None, min_length=1, description="the prompt as ids, taken as they are (no BOS is added)"
    )
    max_tokens: int | None = Field(None, ge=1, description="most tokens to generate")
    temperature: float | None = Field(None, ge=0, le=2, description="0 takes the most probable token")
    top_k: int | None = Field(None, ge=0, le=2**31 - 1, description="0 switches it off")
    top_p: float | None = Field(None, ge=0, le=1, description="1 switches it off")
    min_p: float | None = Field(None, ge=0, le=1, description="0 switches it off")
    repetition_penalty: float | None = Field(None, gt=0, le=2, description="1 switches it off")
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    logit_bias: Annotated[dict[str, Bias], _at_most(MAX_LOGIT_BIASES)] | None = Field(
        None, description="token id (as a string) to a number added to its logit"
    )
    stop: Annotated[list[StopString], BeforeValidator(_as_list), _at_most(MAX_STOPS)] | None = Field(
        None, description="generation ends before any of these strings"
    )
    seed: int | None = Field(None, ge=0, le=U64_MAX, description="generated, and returned, when absent")
    ignore_eos: bool | None = Field(None, description="go on to max_tokens whatever the model says")
    stream: bool | None = Field(None, description="server-sent events (default), or one JSON body")
    job_id: JobId | None = Field(None, description="name for POST /cancel; generated when absent")


class CancelRequest(_Body):
    """Body of `POST /cancel`."""

    job_id: JobId = Field(description="as the `started` event gave it")


_CONSTRAINTS = {
    "prompt": "a string that is not empty",
    "token_ids": "a list of integers, 0 <= id < n_vocab",
    "max_tokens": "an integer, max_tokens >= 1",
    "temperature": "a number, 0 <= temperature <= 2",
    "top_k": "an integer, 0 <= top_k < 2^31",
    "top_p": "a number, 0 <= top_p <= 1",
    "min_p": "a number, 0 <= min_p <= 1",
    "repetition_penalty": "a number, 0 < repetition_penalty <= 2",
    "presence_penalty": "a number, -2 <= presence_penalty <= 2",
    "frequency_penalty": "a number, -2 <= frequency_penalty <= 2",
    "logit_bias": f'an object of at most {MAX_LOGIT_BIASES} pairs "id": bias, -100 <= bias <= 100',
    "stop": f"at most {MAX_STOPS} strings, each 1 <= characters <= {MAX_STOP_CHARS}",
    "seed": "an integer, 0 <= seed < 2^64",
    "ignore_eos": "true or false",
    "stream": "true or false",
    "job_id": "a string of 1 to 64 characters from A-Z a-z 0-9 . _ : -",
}
"""The rule of each field, as an answer states it. The model above enforces the same."""

_MEANT = {
    "inputs": "prompt",  # text-generation-inference
    "max_new_tokens": "max_tokens",
    "n_predict": "max_tokens",  # llama.cpp
    "num_predict": "max_tokens",  # Ollama
    "max_completion_tokens": "max_tokens",
    "n": "max_tokens",
    "repeat_penalty": "repetition_penalty",
    "stop_sequences": "stop",
    "input_ids": "token_ids",
    "prompt_token_ids": "token_ids",
    "request_id": "job_id",
    "id": "job_id",
}
"""What clients of other servers call our fields."""

_HINTS = {
    "inputs": "; the `parameters` of text-generation-inference stand at the top level here",
    "parameters": "; its members stand at the top level here (max_tokens, temperature, ...)",
    "options": "; its members stand at the top level here (max_tokens, temperature, ...)",
    "messages": "; /generate continues plain text",
    "do_sample": "; temperature 0 is greedy",
}


def _unknown_field(name: str, valid: Mapping[str, object]) -> FieldError:
    shown = name[:64]
    hint = _HINTS.get(name, "")
    close = difflib.get_close_matches(name[:64].lower().replace("-", "_"), valid, n=1, cutoff=0.6)
    meant = _MEANT.get(name) or (close[0] if close and not hint else None)
    if meant in valid:
        hint = f"; did you mean {meant}?{' ' + hint[2:] if hint else ''}"
    return FieldError(shown, "a known field", f"{shown} is not a field of this request{hint}")


def _describe(value: object) -> str:
    """What came instead: numbers as they are, the size of everything else."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return reprlib.repr(value)
    if isinstance(value, str):
        return f"a string of {len(value)} characters"
    return f"a list of {len(value)}" if isinstance(value, list) else "an object"


def _field_error(fault: Mapping[str, Any]) -> FieldError:
    """One of pydantic's faults as one of ours."""
    name, *inner = fault["loc"]
    constraint = _CONSTRAINTS[name]
    if fault["type"] == "missing":
        return FieldError(name, constraint, f"{name} is required")
    subject = f"{name}[{inner[0]}]" if inner and isinstance(inner[0], int) else name
    got = _describe(fault["input"])
    if fault["type"] == "bad_items":
        got = str(fault["msg"])
    if fault["type"] in ("lone_surrogate", "string_unicode"):
        got += " with a lone surrogate, which is no character"
    return FieldError(subject, constraint, f"{subject}: expected {constraint}; got {got}")


def _encodable_keys(body: Mapping[str, Any]) -> dict[str, Any]:
    """`body` with lone surrogates in its keys written as escapes."""
    return {key.encode("utf-8", "backslashreplace").decode(): value for key, value in body.items()}


def _faults(model: type[BaseModel], body: Mapping[str, Any]) -> list[FieldError]:
    """Unknown fields, then what is wrong with the known ones."""
    unknown = [name for name in body if name not in model.model_fields]
    faults = [_unknown_field(name, model.model_fields) for name in unknown[:MAX_UNKNOWN_FIELDS]]
    if len(unknown) > MAX_UNKNOWN_FIELDS:
        message = f"{len(unknown) - MAX_UNKNOWN_FIELDS} more fields are unknown"
        faults.append(FieldError("body", "a known field", message))
    try:
        model.model_validate({name: value for name, value in body.items() if name in model.model_fields})
    except ValidationError as error:
        faults += [_field_error(dict(fault)) for fault in error.errors(include_url=False)]
    return faults


def _prompt_faults(body: Mapping[str, Any], max_prompt_chars: int) -> list[FieldError]:
    """Rules over prompt and token_ids, which hold whatever else is wrong."""
    prompt, token_ids = body.get("prompt"), body.get("token_ids")
    rule = "exactly one of prompt and token_ids"
    if prompt is None and token_ids is None:
        return [FieldError("prompt", rule, "give the text to continue as prompt, or its ids as token_ids")]
    faults = []
    if prompt is not None and token_ids is not None:
        faults.append(FieldError("prompt", rule, "prompt and token_ids exclude each other"))
    if isinstance(prompt, str) and len(prompt) > max_prompt_chars:
        rule = f"1 <= characters <= {max_prompt_chars}"
        faults.append(FieldError("prompt", rule, f"prompt: expected {rule}; got {len(prompt)} characters"))
    return faults


def _logit_bias_faults(body: Mapping[str, Any]) -> list[FieldError]:
    """Keys that are no token ids, which pydantic takes as any string."""
    biases = body.get("logit_bias")
    if not isinstance(biases, dict):
        return []
    n_bad = sum(not (key.isascii() and key.isdecimal() and len(key) < 10) for key in biases)
    message = f"logit_bias: expected {_CONSTRAINTS['logit_bias']}; {n_bad} of its keys are no token ids"
    return [FieldError("logit_bias", _CONSTRAINTS["logit_bias"], message)] if n_bad else []


def parse_generate(body: Mapping[str, Any], max_prompt_chars: int) -> GenerateRequest:
    """Check the body of `POST /generate`.

    Raises:
        RequestError: with every fault of the body.
    """
    body = _encodable_keys(body)
    if isinstance(body.get("logit_bias"), dict):
        body["logit_bias"] = _encodable_keys(body["logit_bias"])
    faults = _faults(GenerateRequest, body)
    faults += _prompt_faults(body, max_prompt_chars) + _logit_bias_faults(body)
    if faults:
        raise RequestError(faults)
    return GenerateRequest.model_validate(body)


def parse_cancel(body: Mapping[str, Any]) -> CancelRequest:
    """Check the body of `POST /cancel`.

    Raises:
        RequestError: with every fault of the body.
    """
    body = _encodable_keys(body)
    if faults := _faults(CancelRequest, body):
        raise RequestError(faults)
    return CancelRequest.model_validate(body)
