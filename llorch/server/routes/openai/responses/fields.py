"""The fields that `POST /v1/responses` takes, and those that it refuses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llorch.chat.messages import MAX_MESSAGES
from llorch.chat.tools import MAX_TOOLS
from llorch.errors import FieldError
from llorch.fields.field import Field
from llorch.fields.kinds import integer
from llorch.fields.sampling_table import RARE_SAMPLING
from llorch.server.routes.openai.constraints import CONSTRAINTS
from llorch.server.routes.openai.fields import CHAT, REFUSED_IN_CHATS, refused_faults
from llorch.server.routes.openai.kinds import INT32_MAX, NAME, TEXTS, is_text, looked_at_elsewhere

MAX_METADATA = 16
_MAX_KEY_CHARS, _MAX_VALUE_CHARS = 64, 512
_NAME_SCHEMA = {"type": "string", "pattern": "^[a-zA-Z0-9_-]{1,64}$"}


def _typed(kind: str, **more: dict[str, Any]) -> dict[str, Any]:
    """The schema of an object of this type, which needs what `more` names."""
    return {
        "type": "object",
        "properties": {"type": {"const": kind}, **more},
        "required": ["type", *more],
    }


_PART = {
    "anyOf": [_typed(kind, text={"type": "string"}) for kind in ("input_text", "output_text", "text")]
    + [_typed("refusal", refusal={"type": "string"})]
}
_MESSAGE = {
    "type": "object",
    "properties": {
        "type": {"enum": ["message", None]},
        "role": {"enum": ["user", "assistant", "system", "developer"]},
        "content": {"anyOf": [{"type": "string"}, {"type": "array", "items": _PART}]},
    },
    "required": ["role", "content"],
}
INPUT = looked_at_elsewhere(
    f"a string, or a list of 1..{MAX_MESSAGES} items",
    {
        "anyOf": [
            {"type": "string"},
            {"type": "array", "minItems": 1, "maxItems": MAX_MESSAGES, "items": _MESSAGE},
        ]
    },
)
_NULL = {"type": "null"}
_STRICT = {"type": ["boolean", "null"]}
_FORMAT = {
    "anyOf": [
        _NULL,
        _typed("text"),
        _typed("json_object"),
        _typed("json_schema", name=_NAME_SCHEMA, schema={"type": "object"}),
    ]
}
TEXT = looked_at_elsewhere(
    "an object with format", {"type": "object", "properties": {"format": _FORMAT, "verbosity": {}}}
)
_TOOL = _typed("function", name=_NAME_SCHEMA)
_TOOL["properties"] |= {
    "description": {"type": ["string", "null"]},
    "parameters": {"type": ["object", "null"]},
    "strict": _STRICT,
}
TOOLS = looked_at_elsewhere("a list of functions", {"type": "array", "maxItems": MAX_TOOLS, "items": _TOOL})
TOOL_CHOICE = looked_at_elsewhere(
    "none, auto, required, or a function",
    # The name of a function must be one of `tools`, which no schema can say.
    {"enum": ["none", "auto", "required"]},
)
METADATA = looked_at_elsewhere(
    f"an object of at most {MAX_METADATA} texts",
    {
        "type": "object",
        "maxProperties": MAX_METADATA,
        "propertyNames": {"maxLength": _MAX_KEY_CHARS},
        "additionalProperties": {"type": "string", "maxLength": _MAX_VALUE_CHARS},
    },
)
LOGPROBS = "message.output_text.logprobs"
"""What `include` says to get log probabilities; what else may stand there is never in an answer of this server."""
_OTHERS = (
    "model", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "repeat_penalty",
    "presence_penalty", "frequency_penalty", "penalty_last_n", "repeat_last_n", "logit_bias", "stop", "seed",
    "ignore_eos", "min_tokens", "stop_token_ids", *RARE_SAMPLING, "cache_prompt", "timeout", "receipt",
)  # fmt: skip
"""Fields that mean what they do in chats."""


def _own(name: str, kind: Any, words: str) -> Field:
    return Field(name, kind, None, is_request=True, words=words)


# fmt: off
PROMPT = {entry.name: entry for entry in (
    _own("input", INPUT, "the chat so far: a text, or items, which are messages, function_call, function_call_output"),
    _own("instructions", NAME, "a system message in front of `input`"),
    _own("tools", TOOLS, "functions that the model may call"),
    _own("tool_choice", TOOL_CHOICE, "`none`, `auto`, `required`, or the function that must be called; default auto"),
    CHAT["parallel_tool_calls"],
    CHAT["chat_template_kwargs"],
    _own("text", TEXT, "`format`: `json_object` or `json_schema`: the answer is JSON that fits the schema"),
)}
"""Fields that the prompt depends on, and those that say whether there are tools in it."""
RESPONSES = PROMPT | {entry.name: entry for entry in (
    _own("max_output_tokens", integer(1, INT32_MAX), "most tokens to generate; default: to the end of the context"),
    _own("stream", CHAT["stream"].kind, "named events; default false"),
    _own("include", TEXTS, f"`{LOGPROBS}`: report how probable each token of the text was; others change nothing"),
    _own("top_logprobs", CHAT["top_logprobs"].kind, "and so many of the most probable ones; needs that `include`"),
    _own("metadata", METADATA, "stands in the answer as it is"),
    *(CHAT[name] for name in _OTHERS),
)}
# fmt: on

REFUSED: Mapping[str, tuple[object, ...]] = {
    **{name: harmless for name, harmless in REFUSED_IN_CHATS.items() if name != "function_call"},
    **dict.fromkeys(CONSTRAINTS, ("", [], {})),
    "background": (False,),
    "prompt": (),
    "truncation": ("disabled",),
    "context_management": ([],),
    "moderation": (),
    "n": (1,),
    "max_tokens": (),
    "max_completion_tokens": (),
    "messages": (),
    "return_token_ids": (False,),
    "add_generation_prompt": (True,),
    "continue_final_message": (False,),
}
"""Fields that would change the answer, with the values that do not."""
_STORED = ("previous_response_id", "conversation")


def faults_of_others(body: Mapping[str, Any]) -> list[FieldError]:
    """What is wrong with the fields of `body` that are refused, or that are only repeated in the answer."""
    faults = refused_faults(body, REFUSED)
    for name in _STORED:
        if body.get(name) is not None:
            message = f"{name}: nothing is stored on this server; send all earlier items in input"
            faults.append(FieldError(name, "not given", message))
    include = body.get("include")
    if body.get("top_logprobs") and not (isinstance(include, list) and LOGPROBS in include):
        message = f'top_logprobs needs include: ["{LOGPROBS}"]'
        faults.append(FieldError("top_logprobs", f"with {LOGPROBS} in include", message))
    metadata = body.get("metadata")
    if metadata is not None and not _is_metadata(metadata):
        rule = (
            f"an object of at most {MAX_METADATA} strings of at most {_MAX_VALUE_CHARS} characters, "
            f"with keys of at most {_MAX_KEY_CHARS}"
        )
        faults.append(FieldError("metadata", rule, f"metadata: expected {rule}"))
    return faults


def _is_metadata(value: object) -> bool:
    if not isinstance(value, dict) or len(value) > MAX_METADATA:
        return False
    return all(
        _is_short(key, _MAX_KEY_CHARS) and _is_short(one, _MAX_VALUE_CHARS) for key, one in value.items()
    )


def _is_short(value: object, limit: int) -> bool:
    return is_text(value, least=0) and len(value) <= limit
