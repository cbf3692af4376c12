"""Bodies of `POST /api/chat` and `POST /api/generate`, checked, in the words of the engine and of OpenAI's chats."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from llorch.chat.choose import KEY
from llorch.engine.params import SamplingParams
from llorch.engine.request import encode_prompt
from llorch.errors import FieldError, RequestError
from llorch.fields.field import Field
from llorch.fields.kinds import described
from llorch.open_model import OpenModel
from llorch.server.body import check_fields
from llorch.server.field_names import FieldNames
from llorch.server.routes.ollama.fields import CHAT, ENGINE_NAMES, GENERATE, OPTIONS, REFUSED
from llorch.server.routes.openai.chat import prompt_encoder
from llorch.server.routes.openai.fields import refused_faults
from llorch.server.routes.openai.messages import plain_messages
from llorch.server.routes.openai.structure import FREE, Structure, parse_structure
from llorch.settings import Settings

Encode = Callable[[OpenModel], Sequence[int]]

_FORMAT_RULE = '"json" or a JSON schema, an object'
NAMES = FieldNames(
    (r"^response_format(\.json_schema\.schema)?", "format"),
    (r"^max_tokens$", "options.num_predict"),
)
"""Fields of OpenAI's chats and of the engine, and what they are called here."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a body asks for.

    Attributes:
        given: its checked fields.
        options: the checked ones of its `options`.
        encode: makes the prompt; None: the client asks only whether the model is there.
        structure: of the answer.
    """

    given: Mapping[str, Any]
    options: Mapping[str, Any]
    encode: Encode | None
    structure: Structure = FREE

    @property
    def max_tokens(self) -> int:
        """Most tokens; -1: to the end of the context."""
        n: int = self.options.get("num_predict", -1)
        return n if n > 0 else -1

    def params(self, settings: Settings) -> SamplingParams:
        """How tokens are chosen: as the request says, else as the operator set."""
        said = {ENGINE_NAMES.get(name, name): value for name, value in self.options.items()}
        seed = said.pop("seed", -1)
        said["seed"] = None if seed == -1 else seed % 2**64
        known = {name: value for name, value in said.items() if name in SamplingParams.__dataclass_fields__}
        return dataclasses.replace(SamplingParams.from_settings(settings), **known)


def parse_chat(body: Mapping[str, Any], settings: Settings) -> Asked:
    """What a body of `POST /api/chat` asks for.

    Raises:
        RequestError: with every fault of the body.
    """
    turns = body.get("messages")
    faults: list[FieldError] = []
    messages: list[dict[str, Any]] = []
    if turns not in (None, []):
        messages, faults = plain_messages(_openai_messages(turns), settings.max_prompt_chars)
        faults += _image_faults(turns)
    structure, given, options = _checked(body, CHAT, faults, has_tools=True)
    encode = prompt_encoder({"messages": messages, "structure": structure}) if messages else None
    return Asked(given, options, encode, structure)


def parse_generate(body: Mapping[str, Any], settings: Settings) -> Asked:
    """What a body of `POST /api/generate` asks for.

    Raises:
        RequestError: with every fault of the body.
    """
    if body.get("context") == []:
        body = {**body, "context": None}
    texts = [text for name in ("system", "prompt") if isinstance(text := body.get(name), str)]
    n_chars, max_chars = sum(map(len, texts)), settings.max_prompt_chars
    faults = []
    if n_chars > max_chars:
        rule = f"characters of system and prompt <= {max_chars}"
        message = f"prompt: expected {rule} (max_prompt_chars of this server); got {n_chars}"
        faults.append(FieldError("prompt", rule, message))
    structure, given, options = _checked(body, GENERATE, faults, has_tools=False)
    encode = partial(_text_ids, given, settings.chat_template is not None) if given.get("prompt") else None
    return Asked(given, options, encode, structure)


def _checked(
    body: Mapping[str, Any], known: Mapping[str, Field], faults: list[FieldError], *, has_tools: bool
) -> tuple[Structure, dict[str, Any], dict[str, Any]]:
    """The structure of the answer, the fields given, and those of `options`."""
    if body.get("top_logprobs") and body.get("logprobs") is not True:
        faults.append(FieldError("top_logprobs", "with logprobs", "top_logprobs needs logprobs: true"))
    faults += refused_faults(body, REFUSED)
    openai = {"tools": body.get("tools"), "response_format": _response_format(body.get("format"), faults)}
    found: list[FieldError] = []
    structure = parse_structure(openai, found, has_tools=has_tools)
    faults += map(NAMES.fault, found)
    options: dict[str, Any] = {}
    if isinstance(body.get("options"), dict):
        try:
            options = check_fields(body["options"], OPTIONS, ignores_unknown=True)
        except RequestError as error:
            faults += (
                FieldError(f"options.{one.field}", one.constraint, f"options.{one.message}")
                for one in error.errors
            )
    return structure, check_fields(body, known, more_faults=faults, ignores_unknown=True), options


def _response_format(value: object, faults: list[FieldError]) -> dict[str, Any] | None:
    if value in (None, ""):
        return None
    if value == "json":
        return {"type": "json_object"}
    if isinstance(value, dict):
        return {"type": "json_schema", "json_schema": {"schema": value}}
    faults.append(
        FieldError("format", _FORMAT_RULE, f"format: expected {_FORMAT_RULE}; got {described(value)}")
    )
    return None


def _image_faults(turns: object) -> list[FieldError]:
    fields = [
        f"messages[{i}].images"
        for i, turn in enumerate(turns if isinstance(turns, list) else ())
        if isinstance(turn, dict) and turn.get("images")
    ]
    return [FieldError(name, "no images", f"{name}: this model cannot read images") for name in fields]


def _openai_messages(turns: object) -> object:
    """Messages as OpenAI's clients send them: Ollama's calls have no ids, and its results name the tool instead."""
    if not isinstance(turns, list):
        return turns
    waiting: list[tuple[str, object]] = []  # ids and names of calls without results
    n_calls = 0
    messages = []
    for turn in turns:
        if not isinstance(turn, dict):
            messages.append(turn)
            continue
        turn = {**turn, "content": "" if turn.get("content") is None else turn["content"]}
        calls = turn.get("tool_calls")
        if isinstance(calls, list) and all(isinstance(call, dict) for call in calls):
            turn["tool_calls"] = [{"id": f"call{n_calls + k:05d}", **call} for k, call in enumerate(calls)]
            n_calls += len(calls)
            waiting = [(call["id"], _function_name(call)) for call in turn["tool_calls"]]
        elif turn.get("role") == "tool":
            name = turn.get("tool_name") or turn.get("name")
            answered = next((call for call in waiting if call[1] == name), waiting[0] if waiting else None)
            if answered is not None:
                waiting.remove(answered)
                turn.setdefault("tool_call_id", answered[0])
                name = name or answered[1]
            turn["name"] = name
        messages.append(turn)
    return messages


def _function_name(call: Mapping[str, Any]) -> object:
    function = call.get("function")
    return function.get("name") if isinstance(function, dict) else None


def _text_ids(given: Mapping[str, Any], has_template: bool, loaded: OpenModel) -> Sequence[int]:
    """The prompt of a text, behind an earlier `context`: in the operator's or the file's template, if there is one."""
    prompt, system, earlier = given["prompt"], given.get("system"), given.get("context", [])
    tokenizer = loaded.tokenizer
    ids: Sequence[int]
    if given.get("raw", False):
        ids = encode_prompt(tokenizer, prompt, parse_special=True)
    elif has_template or KEY in loaded.source.metadata:
        if earlier:
            return [*earlier, *_next_turn(loaded, prompt)]
        turns = [{"role": "system", "content": system}] if system else []
        return loaded.chat_template.prompt_ids(tokenizer, [*turns, {"role": "user", "content": prompt}])
    else:
        ids = encode_prompt(tokenizer, f"{system}\n\n{prompt}" if system else prompt)
    has_bos = ids[:1] == (tokenizer.vocab.bos_id,)
    return [*earlier, *(ids[1:] if earlier and has_bos else ids)]


def _next_turn(loaded: OpenModel, prompt: str) -> Sequence[int]:
    """What the template writes behind an answer, for another question: the end of that, and the question."""
    turns = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]
    write = partial(loaded.chat_template.prompt_ids, loaded.tokenizer)
    whole = write([*turns, {"role": "user", "content": prompt}])
    before = write(turns[:1], begun="y")
    if whole[: len(before)] == before:
        return whole[len(before) :]
    asked = write([{"role": "user", "content": prompt}])
    return asked[1:] if asked[:1] == [loaded.tokenizer.vocab.bos_id] else asked
