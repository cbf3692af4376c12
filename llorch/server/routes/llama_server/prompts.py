"""What llama-server takes as a prompt: a text, ids, both mixed in a list, or a list of such prompts.

Source: llama.cpp 0.5.0-dev, `tools/server/server-common.cpp`, `tokenize_input_prompts` and `tokenize_mixed`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from llorch.errors import FieldError, InputError, RequestError
from llorch.fields.kinds import MAX_TOKEN_ID, described
from llorch.fields.token_kinds import TOKEN_ID_SCHEMA
from llorch.text.tokenizer import Tokenizer

Prompt: TypeAlias = tuple[str | int, ...]
"""Texts and token ids, in the order in which they stand."""

MAX_PROMPTS = 64
"""Most prompts of one request; unless few may wait, there is a place for each."""

_PARTS: list[dict[str, Any]] = [
    {"type": "string"},
    {"type": "array", "minItems": 1, "items": {"anyOf": [{"type": "string"}, TOKEN_ID_SCHEMA]}},
]
_ONE_SCHEMA: list[dict[str, Any]] = [
    *_PARTS,
    {
        "type": "object",
        "properties": {"prompt_string": {"anyOf": _PARTS}, "multimodal_data": {"enum": [None, []]}},
        "required": ["prompt_string"],
    },
]


def prompt_schema(most: int = MAX_PROMPTS) -> dict[str, Any]:
    """JSON schema of a field that holds up to `most` prompts."""
    prompts = {"type": "array", "minItems": 1, "maxItems": most, "items": {"anyOf": _ONE_SCHEMA}}
    return {"anyOf": [*_ONE_SCHEMA, prompts]}


PROMPT_SCHEMA: dict[str, Any] = prompt_schema()
"""JSON schema of the field `prompt`."""

_RULE = "a string, a list of token ids and strings, or a list of such prompts"


def prompt_faults(
    value: object, max_chars: int | None, name: str = "prompt", *, most: int = MAX_PROMPTS
) -> list[FieldError]:
    """What is wrong with `value`, as JSON has it, as prompts.

    Args:
        value: null counts as missing.
        max_chars: most characters of one prompt; None: the body's size is limit enough.
        name: of the field.
        most: prompts that there may be.
    """
    if value is None:
        return [FieldError(name, _RULE, f"{name} is required")]
    parts = _split(value)
    if not 1 <= len(parts) <= most:
        return [_fault(name, f"1 <= prompts <= {most}", str(len(parts)))]
    faults = []
    for index, part in enumerate(parts):
        subject = name if len(parts) == 1 else f"{name}[{index}]"
        faults += one_prompt_faults(part, max_chars, subject)
    return faults


def prompts_of(value: object) -> list[Prompt]:
    """The prompts in `value`, in which there is no fault.

    A list with an id among its items is one prompt, any other list is a list of prompts.
    """
    return [tuple(parts_of(part)) for part in _split(value)]


def _split(value: object) -> Sequence[object]:
    is_list = isinstance(value, list) and not any(type(item) is int for item in value)
    return value if is_list and isinstance(value, list) else [value]


def parts_of(part: object) -> Sequence[Any]:
    """The texts and ids of one prompt in which there is no fault."""
    if isinstance(part, dict):
        part = part.get("prompt_string")
    return part if isinstance(part, list) else [part]


def one_prompt_faults(part: object, max_chars: int | None, name: str) -> list[FieldError]:
    """What is wrong with `part` as one prompt; arguments as for `prompt_faults`."""
    if isinstance(part, dict) and part.get("multimodal_data") not in (None, []):
        return [_fault(name, "text", "multimodal_data, which llorch does not take")]
    text = part.get("prompt_string") if isinstance(part, dict) else part
    if not isinstance(text, str | list):
        return [_fault(name, _RULE, described(text))]
    items = parts_of(part)
    n_bad = sum(not (isinstance(item, str) or _is_id(item)) for item in items)
    if n_bad:
        return [_fault(name, _RULE, f"{n_bad} of {len(items)} items wrong")]
    n_chars = sum(len(item) for item in items if isinstance(item, str))
    if max_chars is not None and n_chars > max_chars:
        return [_fault(name, f"characters <= {max_chars}", f"{n_chars} characters")]
    return []


def prompt_ids(
    tokenizer: Tokenizer, prompt: Prompt, *, add_special: bool = True, parse_special: bool = True
) -> list[int]:
    """Token ids of `prompt`: only a text at its beginning gets BOS, and only if `add_special`.

    Control tokens in the texts are recognised unless `parse_special` is off: whoever asks on these paths writes the
    whole prompt, turns of a chat included.

    Raises:
        RequestError: a text is not valid Unicode.
    """
    token_ids: list[int] = []
    for index, part in enumerate(prompt):
        if isinstance(part, int):
            token_ids.append(part)
            continue
        add_bos = None if add_special and index == 0 else False
        try:
            token_ids += tokenizer.encode(part, add_bos=add_bos, parse_special=parse_special)
        except InputError as error:
            raise RequestError([FieldError("prompt", "valid Unicode", str(error))]) from None
    return token_ids


def shown_text(tokenizer: Tokenizer, token_ids: Sequence[int]) -> str:
    """The text of `token_ids` with control tokens in it, as llama-server shows prompts.

    Raises:
        InputError: an id is outside the vocabulary.
    """
    pieces = [tokenizer.token_bytes(token_id, special=True) for token_id in token_ids]
    return b"".join(pieces).decode(errors="replace")


def _is_id(value: object) -> bool:
    return type(value) is int and 0 <= value <= MAX_TOKEN_ID


def _fault(name: str, rule: str, got: str) -> FieldError:
    return FieldError(name, rule, f"{name}: expected {rule}; got {got}")
