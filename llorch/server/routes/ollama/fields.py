"""The fields that Ollama's routes take. Null means that a field is not given; unknown ones are ignored, as there."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from llorch.chat.messages import MAX_MESSAGES
from llorch.fields.field import Field
from llorch.fields.kinds import BOOLEAN, Kind, integer
from llorch.fields.table import FIELDS, MAX_LOGPROBS
from llorch.fields.token_kinds import token_ids
from llorch.server.body import object_schema
from llorch.server.embeddings import MAX_INPUTS
from llorch.server.openapi import GENERATED, WITHOUT_TOOLS, json_body, properties, refusals
from llorch.server.routes.ollama.lines import MEDIA_TYPE
from llorch.server.routes.openai.kinds import INT32_MAX, NAME, OBJECT, TOOLS, looked_at_elsewhere

TEXT = Kind(str, "a string")


def _own(name: str, kind: Kind, words: str) -> Field:
    return Field(name, kind, None, is_request=True, words=words)


def _renamed(name: str, of: str) -> Field:
    """The field `of` of `POST /generate`, under Ollama's name."""
    return dataclasses.replace(FIELDS[of], name=name)


OPTIONS = {entry.name: entry for entry in (
    _own("num_predict", integer(-2, INT32_MAX),
         "most tokens to generate; below 1: to the end of the context, the default"),
    _own("seed", integer(-(2**63), 2**64 - 1), "the same seed gives the same text; -1: any"),
    FIELDS["stop"],
    FIELDS["temperature"], FIELDS["top_k"], FIELDS["top_p"], FIELDS["min_p"], FIELDS["typical_p"],
    _renamed("repeat_penalty", "repetition_penalty"),
    _renamed("repeat_last_n", "penalty_last_n"),
    FIELDS["presence_penalty"], FIELDS["frequency_penalty"],
    FIELDS["mirostat"], FIELDS["mirostat_tau"], FIELDS["mirostat_eta"],
)}  # fmt: skip
"""What `options` may say of an answer. Others say how a model is loaded, and that is done."""

ENGINE_NAMES = {"repeat_penalty": "repetition_penalty", "repeat_last_n": "penalty_last_n"}
"""Options that the engine calls otherwise."""

_FORMAT = looked_at_elsewhere(
    '"json" or a JSON schema, an object', {"anyOf": [{"enum": ["", "json"]}, {"type": "object"}]}
)
_MODEL = _own("model", NAME, "any name: the one model of the server answers, and the answer says its name")
_SHARED = (
    _MODEL,
    _own("options", OBJECT, "how tokens are chosen; what concerns loading is ignored"),
    _own("format", _FORMAT, "`json`, or a JSON schema: the answer is JSON that fits it"),
    _own("stream", BOOLEAN, "an object on each line; default true"),
    _own("logprobs", BOOLEAN, "report how probable each token was"),
    _own("top_logprobs", integer(0, MAX_LOGPROBS), "and so many of the most probable ones; needs `logprobs`"),
    FIELDS["receipt"],
    _renamed("timeout", "timeout_s"),
)
CHAT = {entry.name: entry for entry in (
    _own("tools", TOOLS, "functions that the model may call"),
    *_SHARED,
)}  # fmt: skip
GENERATE = {entry.name: entry for entry in (
    _own("prompt", TEXT, "the text; without one, the answer says only that the model is there"),
    _own("system", TEXT, "what the template puts in front of it"),
    _own("raw", BOOLEAN, "the prompt is continued as it is, without the template; default false"),
    _own("context", token_ids(), "the `context` of an earlier answer, which this one follows"),
    *_SHARED,
)}  # fmt: skip
_INPUT = looked_at_elsewhere(
    f"a text, or a list of up to {MAX_INPUTS} texts",
    {
        "anyOf": [
            {"type": "string"},
            {"type": "array", "items": {"type": "string", "minLength": 1}, "maxItems": MAX_INPUTS},
        ]
    },
)
EMBED = {entry.name: entry for entry in (
    _MODEL,
    _own("input", _INPUT, "the texts; the answer has a vector of length 1 for each"),
    _own("truncate", BOOLEAN, "cut what is longer than the context, the default; else it is refused"),
    _own("dimensions", integer(0, INT32_MAX), "keep so many numbers of each vector; 0: all"),
)}  # fmt: skip
EMBEDDINGS = {entry.name: entry for entry in (
    _MODEL,
    _own("prompt", TEXT, "the text; the answer has its vector as the model makes it"),
)}  # fmt: skip

REFUSED: Mapping[str, tuple[object, ...]] = {
    "suffix": ("",), "template": ("",), "images": ([],), "think": (False, ""),
}  # fmt: skip
"""Fields that would change the answer, with the values that do not."""

_MESSAGE = properties(role="string") | {
    "properties": {
        "role": {"enum": ["system", "user", "assistant", "tool"]},
        "content": {"type": ["string", "null"]},
    }
}
_MESSAGES = {"anyOf": [{"type": "array", "items": _MESSAGE, "maxItems": MAX_MESSAGES}, {"type": "null"}]}
ERRORS = {0: properties(error="string")}


def _with_logprobs() -> dict[str, Any]:
    without = {"properties": {"top_logprobs": {"enum": [0, None]}}}
    return {"anyOf": [without, {"properties": {"logprobs": {"const": True}}, "required": ["logprobs"]}]}


def operation(known: Mapping[str, Field], answer: Mapping[str, Any], *, streams: bool) -> dict[str, Any]:
    """Keywords of a route that takes the fields `known`."""
    schema = object_schema(known) | {"additionalProperties": True}
    if known is CHAT:
        schema["properties"]["messages"] = _MESSAGES
    if known is GENERATE:
        schema["properties"]["context"]["anyOf"].append({"type": "array", "maxItems": 0})
    if "options" in known:
        options = object_schema(OPTIONS) | {"additionalProperties": True}
        schema["properties"]["options"] = {"anyOf": [options, {"type": "null"}], "default": None}
        rules = [_with_logprobs(), *([WITHOUT_TOOLS] if known is CHAT else [])]
        schema["allOf"] = rules
    content = {"application/json": {"schema": answer}}
    if streams:
        content[MEDIA_TYPE] = {"schema": {"type": "string"}}
    said = {"description": "The answer", "content": content}
    return {"responses": {200: said, **refusals(GENERATED, ERRORS)}, "openapi_extra": json_body(schema)}
