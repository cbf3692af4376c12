"""The fields that OpenAI's routes take, each once: those of OpenAI, and what clients of llama-server and vLLM add.

Null means that a field is not given. Unknown fields are ignored, as clients send many (`user`, `store`, `metadata`,
`service_tier` ...); those that would change the answer, and cannot, are refused unless their value has no effect.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llorch.errors import FieldError
from llorch.fields.field import Field
from llorch.fields.kinds import BOOLEAN, Kind, choice, integer
from llorch.fields.sampling_table import RARE_SAMPLING
from llorch.fields.table import FIELDS, MAX_LOGPROBS
from llorch.server.routes.openai.kinds import (
    CHOICE,
    DIMENSIONS,
    GRAMMAR,
    INPUTS,
    INT32_MAX,
    LIMIT,
    NAME,
    OBJECT,
    PROMPTS,
    REGEX,
    RESPONSE_FORMAT,
    SCHEMA_OR_TEXT,
    STREAM_OPTIONS,
    STRUCTURED_OUTPUTS,
    TOOL_CHOICE,
    TOOLS,
)

MAX_N = 64


def _same(name: str, *, kind: Kind | None = None, words: str = "") -> Field:
    """The field of `POST /generate` that has this name."""
    entry = FIELDS[name]
    return Field(name, kind or entry.kind, None, is_request=True, words=words or entry.words)


def _own(name: str, kind: Kind, words: str) -> Field:
    return Field(name, kind, None, is_request=True, words=words)


# fmt: off
_SHARED = (
    _own("model", NAME, "any name: the one model of the server answers, and the answer says its name"),
    _same("temperature", words="0 takes the most probable token each time; default 1, as OpenAI's"),
    _same("top_p", words="keep the most probable tokens that sum up to this probability; default 1, as OpenAI's"),
    _same("top_k", kind=integer(-1, INT32_MAX), words="keep so many of the most probable tokens; 0 and -1 keep all"),
    _same("min_p"),
    _same("repetition_penalty"),
    _own("repeat_penalty", FIELDS["repetition_penalty"].kind, "llama-server's name of `repetition_penalty`"),
    _same("presence_penalty", words="subtracted once from the logit of a generated token"),
    _same("frequency_penalty", words="subtracted from the logit of a generated token as often as it occurred"),
    _same("penalty_last_n", words="how many of the latest generated tokens penalties see; -1: all, the default"),
    _own("repeat_last_n", FIELDS["penalty_last_n"].kind, "llama-server's name of `penalty_last_n`"),
    _same("logit_bias"),
    _same("stop"),
    _own("seed", integer(-(2**63), 2**64 - 1), "the same seed gives the same text; choice k uses seed + k; -1: any"),
    _own("n", integer(1, MAX_N), "choices to generate for each prompt"),
    _own("stream", BOOLEAN, "chunks as server-sent events; default false"),
    _own("stream_options", STREAM_OPTIONS, "`include_usage`: a last chunk with the counts of tokens"),
    _same("ignore_eos"),
    _same("min_tokens"),
    _same("stop_token_ids"),
    *(_same(name) for name in RARE_SAMPLING),
    _own("cache_prompt", BOOLEAN, "whether the prompt's beginning may come from the cache; default true"),
    _own("return_token_ids", BOOLEAN, "report `token_ids` and `prompt_token_ids`"),
    _own("response_format", RESPONSE_FORMAT, "`json_object` or `json_schema`: the answer is JSON that fits the schema"),
    _own("json_schema", OBJECT, "llama-server's name of the schema in `response_format`"),
    _own("grammar", GRAMMAR, "llama-server's: the answer fits this GBNF grammar; empty: none, as of all below"),
    _own("structured_outputs", STRUCTURED_OUTPUTS, "vLLM's: the answer fits its `json`, `regex` ..."),
    _own("guided_json", SCHEMA_OR_TEXT, "vLLM's older name of `structured_outputs.json`"),
    _own("guided_regex", REGEX, "vLLM's older name of `structured_outputs.regex`"),
    _own("guided_choice", CHOICE, "vLLM's older name of `structured_outputs.choice`"),
    _own("guided_grammar", GRAMMAR, "vLLM's older name of `structured_outputs.grammar`"),
    _own("timeout", FIELDS["timeout_s"].kind, FIELDS["timeout_s"].words),
    _same("receipt", words="each choice ends with a `receipt`, which `llorch verify-receipt` computes again"),
    _own("return_progress", BOOLEAN, "streams report how much of the prompt has been read, as `prompt_progress`"),
)
COMPLETION = {entry.name: entry for entry in (
    _own("prompt", PROMPTS, "text, token ids, or a list of either; the answer has `n` choices for each"),
    _own("max_tokens", integer(-1, INT32_MAX),
         "most tokens to generate; default 16, as OpenAI's; 0 needs `echo`; -1: to the end of the context"),
    _own("echo", BOOLEAN, "put the prompt in front of the text, and its tokens in front of `logprobs`"),
    _own("logprobs", integer(0, MAX_LOGPROBS), "report how probable each token was, and so many of the most probable"),
    *_SHARED,
)}
CHAT = {entry.name: entry for entry in (
    _own("max_completion_tokens", LIMIT,
         "most tokens to generate; without it, and for -1, to the end of the context"),
    _own("max_tokens", LIMIT, "older name of `max_completion_tokens`, which comes before it"),
    _own("logprobs", BOOLEAN, "report how probable each token was"),
    _own("top_logprobs", integer(0, MAX_LOGPROBS), "and so many of the most probable ones; needs `logprobs`"),
    _own("add_generation_prompt", BOOLEAN, "whether the template opens the assistant's turn; default true"),
    _own("continue_final_message", BOOLEAN,
         "the last message, an assistant's, is the beginning of the answer, which goes on where it ends"),
    _own("chat_template_kwargs", OBJECT, "variables for the chat template"),
    _own("tools", TOOLS, "functions that the model may call"),
    _own("tool_choice", TOOL_CHOICE, "`none`, `auto`, `required`, or the function that must be called; default auto"),
    _own("parallel_tool_calls", BOOLEAN, "whether there may be several calls; default true"),
    *_SHARED,
)}
EMBEDDING = {entry.name: entry for entry in (
    _own("input", INPUTS, "text, token ids, or a list of either; the answer has a vector for each"),
    _own("model", NAME, "any name: the one model of the server answers, and the answer says its name"),
    _own("encoding_format", choice("float", "base64"),
         "`float`, the default: an array of numbers; `base64`: the bytes of float32 numbers, little-endian"),
    _own("dimensions", DIMENSIONS, "how many numbers a vector has; only the model's own size"),
    _own("pooling", choice("mean", "last"), "over all tokens or of the last one; default: the setting `pooling`"),
    _own("timeout", FIELDS["timeout_s"].kind, FIELDS["timeout_s"].words),
)}
# fmt: on

_REFUSED: Mapping[str, tuple[object, ...]] = {
    "bad_words": ([],),
    "allowed_token_ids": ([],),
    "prompt_logprobs": (),
    "truncate_prompt_tokens": (),
    "include_stop_str_in_output": (False,),
    "use_beam_search": (False,),
    "guided_whitespace_pattern": ("",),
    "grammar_lazy": (False,),
}
"""Fields of other servers that would change the answer, with the values that do not."""

REFUSED_IN_COMPLETIONS: Mapping[str, tuple[object, ...]] = {**_REFUSED, "suffix": ("",)}
REFUSED_IN_CHATS: Mapping[str, tuple[object, ...]] = {
    **_REFUSED,
    "audio": (),
    "modalities": (["text"], []),
    "prediction": (),
    "web_search_options": (),
    "documents": ([],),
    "chat_template": (),
    "echo": (False,),
    "functions": ([],),
    "function_call": ("none", "auto"),
}


def refused_faults(body: Mapping[str, Any], *refused: Mapping[str, tuple[object, ...]]) -> list[FieldError]:
    """A fault for each field of `refused` that has a value with an effect."""
    return [
        FieldError(name, "not given", f"{name}: this server does not have it")
        for fields in refused
        for name, harmless in fields.items()
        if body.get(name) is not None and not any(_is_same(body[name], value) for value in harmless)
    ]


def _is_same(value: object, harmless: object) -> bool:
    """Equality that tells booleans from numbers."""
    return value == harmless and isinstance(value, bool) == isinstance(harmless, bool)
