"""The format of a receipt, version 1."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from llorch.errors import InputError
from llorch.fields.sampling_table import STEPS
from llorch.fields.table import FIELDS, MAX_STOP_IDS
from llorch.receipts.canonical import sha256_of

VERSION = 1
ARITHMETIC = 1
"""Revision of what the kernels compute: raised when the same model and tokens give other bits of logits than before."""
MAX_TOKENS = 1 << 20
N_RUNNING_DIGITS = 16

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
TokenId = Annotated[int, Field(ge=0, lt=2**31)]
TokenIds = Annotated[list[TokenId], Field(max_length=MAX_TOKENS)]
Count = Annotated[int, Field(ge=0, lt=2**63)]
BiasId = Annotated[str, Field(pattern="^[0-9]{1,10}$")]
Name = Annotated[str, Field(max_length=512)]
Number = Annotated[float, Field(allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class ModelPart(_Part):
    """Which model.

    Attributes:
        name: what the file calls itself.
        sha256: of its file; of a split model, of its files one after the other.
        bytes: size of them.
        tensors: how many tensors there are of each type.
        quantization: the type that takes most bytes.
    """

    name: Name
    sha256: Sha256
    bytes: Count
    tensors: Annotated[dict[Name, Count], Field(max_length=64)]
    quantization: Name


class ArithmeticPart(_Part):
    """What the bits of the logits depend on, beside model and tokens.

    Attributes:
        revision: `ARITHMETIC` of the llorch that computed.
        sums: whose order of float additions: ``"llorch"`` or ``"llama.cpp"``.
        kv_type: number type of the KV cache.
    """

    revision: Annotated[int, Field(ge=1, lt=2**31)]
    sums: Literal["llorch", "llama.cpp"]
    kv_type: Literal["f16", "f32"]


class PromptPart(_Part):
    """The prompt as it was computed, BOS included; `sha256` is of the ids as canonical JSON."""

    token_ids: Annotated[TokenIds, Field(min_length=1)]
    sha256: Sha256


class SettingsPart(_Part):
    """How tokens were chosen, and when the text ends. Names are those of the fields of `POST /generate`.

    Attributes:
        max_tokens: as asked for, or what the context had room for.
        logit_bias: by token id; ``"-inf"`` forbids a token.
        penalize_prompt: whether penalties see the prompt.
        end_ids: tokens that end a text.
        shown_ids: control tokens that are visible in the text.
        is_constrained: whether a grammar (a JSON schema, tools) limited the choice; the receipt does not hold it.

    What few requests ask for stands there only if it differs from the default.
    """

    temperature: Number
    top_k: Count
    top_p: Number
    min_p: Number
    repetition_penalty: Number
    presence_penalty: Number
    frequency_penalty: Number
    penalty_last_n: Annotated[int, Field(ge=-1, lt=2**31)]
    penalize_prompt: bool
    logit_bias: Annotated[dict[BiasId, Number | Literal["-inf"]], Field(max_length=MAX_TOKENS)]
    seed: Annotated[int, Field(ge=0, lt=2**64)]
    max_tokens: Count
    stop: Annotated[list[Annotated[str, Field(min_length=1, max_length=100)]], Field(max_length=16)]
    ignore_eos: bool
    end_ids: TokenIds
    shown_ids: TokenIds
    is_constrained: bool
    min_tokens: Count = 0
    stop_token_ids: Annotated[list[TokenId], Field(max_length=MAX_STOP_IDS)] = []
    samplers: Annotated[list[Name], Field(max_length=16)] = list(STEPS)
    typical_p: Number = FIELDS["typical_p"].default
    top_n_sigma: Number = FIELDS["top_n_sigma"].default
    xtc_probability: Number = FIELDS["xtc_probability"].default
    xtc_threshold: Number = FIELDS["xtc_threshold"].default
    dynatemp_range: Number = FIELDS["dynatemp_range"].default
    dynatemp_exponent: Number = FIELDS["dynatemp_exponent"].default
    dry_multiplier: Number = FIELDS["dry_multiplier"].default
    dry_base: Number = FIELDS["dry_base"].default
    dry_allowed_length: Count = FIELDS["dry_allowed_length"].default
    dry_penalty_last_n: Annotated[int, Field(ge=-1, lt=2**31)] = FIELDS["dry_penalty_last_n"].default
    dry_sequence_breakers: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=40)]], Field(max_length=16)
    ] = list(FIELDS["dry_sequence_breakers"].default)
    mirostat: Annotated[int, Field(ge=0, le=2)] = FIELDS["mirostat"].default
    mirostat_tau: Number = FIELDS["mirostat_tau"].default
    mirostat_eta: Number = FIELDS["mirostat_eta"].default
    adaptive_target: Number = FIELDS["adaptive_target"].default
    adaptive_decay: Number = FIELDS["adaptive_decay"].default

    def without_defaults(self) -> dict[str, Any]:
        """As it stands in the receipt."""
        return self.model_dump(exclude_unset=True)


RARE = {name: field.default for name, field in SettingsPart.model_fields.items() if not field.is_required()}
"""Settings that stand in a receipt only where they are not as here."""


class AnswerPart(_Part):
    """What was answered.

    Attributes:
        token_ids: without the end-of-generation one.
        end_token_id: the end-of-generation token that was chosen at the end, if one was.
        finish_reason: ``"stop"``, ``"length"`` or ``"abort"``.
        matched_stop: the stop string that ended the text.
        timed_out: whether a deadline ended it.
        text_sha256: of the text in UTF-8.
    """

    token_ids: TokenIds
    end_token_id: TokenId | None
    finish_reason: Literal["stop", "length", "abort"]
    matched_stop: Annotated[str, Field(max_length=100)] | None
    timed_out: bool
    text_sha256: Sha256


class LogitsPart(_Part):
    """From which logits the tokens were chosen, the end-of-generation one among them.

    Attributes:
        n_rows: rows of logits, one for each token.
        n_vocab: logits of a row.
        sha256: over all rows, float32 little-endian, one after the other; None where there are none.
        running: the first 16 digits of that hash after each row.
    """

    n_rows: Count
    n_vocab: Count
    sha256: Sha256 | None
    running: Annotated[
        list[Annotated[str, Field(pattern=f"^[0-9a-f]{{{N_RUNNING_DIGITS}}}$")]],
        Field(max_length=MAX_TOKENS + 1),
    ]


class CircumstancesPart(_Part):
    """What must not have changed the answer; nobody can check it afterwards.

    Attributes:
        job_id: name of the generation.
        kernel_path: which instructions computed.
        cached_tokens: of the prompt, found in the KV cache.
        drafted_tokens: computed ahead.
    """

    job_id: Name
    kernel_path: Name
    cached_tokens: Count
    drafted_tokens: Count


class Receipt(_Part):
    """A receipt.

    Attributes:
        receipt: version of the format.
        llorch: version of the program.
        settings_sha256: of `settings` as canonical JSON.
        sha256: of everything else as canonical JSON.
    """

    type: Literal["receipt"]
    receipt: Literal[1]
    llorch: Name
    model: ModelPart
    arithmetic: ArithmeticPart
    prompt: PromptPart
    settings: SettingsPart
    settings_sha256: Sha256
    answer: AnswerPart
    logits: LogitsPart
    circumstances: CircumstancesPart
    sha256: Sha256

    @property
    def chosen_ids(self) -> list[int]:
        """The tokens that were chosen, the end-of-generation one among them."""
        end = self.answer.end_token_id
        return self.answer.token_ids + ([] if end is None else [end])


def printable(text: str) -> str:
    """A text of a stranger's file, for a terminal."""
    return text if text.isprintable() else ascii(text)


def with_hash(receipt: dict[str, Any]) -> dict[str, Any]:
    """`receipt` with the hash over all the rest of it."""
    content = {name: value for name, value in receipt.items() if name != "sha256"}
    return {**content, "sha256": sha256_of(content)}


def parse_receipt(document: object, where: str) -> Receipt:
    """The receipt in a JSON document.

    Raises:
        InputError: it is none, or one of another version; names the first fault, never a text.
    """
    if not isinstance(document, dict) or document.get("type") != "receipt":
        raise InputError(f"{where}: holds no receipt: an object of type 'receipt' was expected")
    version = document.get("receipt")
    if isinstance(version, int) and version > VERSION:
        raise InputError(f"{where}: is a receipt of version {str(version)[:20]}; this llorch reads {VERSION}")
    try:
        return Receipt.model_validate(document)
    except ValidationError as error:
        fault = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(printable(str(part)[:64]) for part in fault["loc"])
        raise InputError(f"{where}: {place}: {fault['msg']}") from None
    except RecursionError:
        raise InputError(f"{where}: is nested too deeply") from None
