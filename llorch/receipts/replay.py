"""Computing again what a receipt says."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path

from llorch.engine.engine import Engine
from llorch.engine.events import EndEvent, EndTokenEvent, TokenEvent, TokenLogprobs
from llorch.engine.params import SamplingParams
from llorch.engine.request import Request
from llorch.engine.session import CallerDriver
from llorch.open_model import OpenModel, open_model
from llorch.progress import Progress, ignore_progress
from llorch.receipts.forced_tokens import ForcedTokens
from llorch.receipts.schema import Receipt
from llorch.settings import Settings

JOB_ID = "replay"


@dataclass(frozen=True, slots=True)
class Replay:
    """What came out.

    Attributes:
        end: how it ended.
        token_ids: the tokens that were chosen, the end-of-generation one among them.
        digests: hash over the logits after each of them, in hexadecimal digits.
        logprobs: of each of them, and of the most probable token there.
    """

    end: EndEvent
    token_ids: list[int]
    digests: list[str]
    logprobs: list[TokenLogprobs]


def open_for_replay(
    path: Path, receipt: Receipt, settings: Settings, progress: Progress = ignore_progress
) -> OpenModel:
    """The model, with the cache's number type and the end tokens of the receipt.

    Raises:
        InputError: the file cannot be used.
    """
    loaded = open_model(
        path,
        n_threads=settings.threads,
        weights=settings.weights,
        kv_type=receipt.arithmetic.kv_type,
        progress=progress,
    )
    tokenizer = loaded.tokenizer
    for token_id in receipt.settings.end_ids:  # a chat template may have named one
        if token_id < loaded.config.n_vocab and not tokenizer.is_eog(token_id):
            tokenizer = tokenizer.with_end(token_id)
    return dataclasses.replace(loaded, _tokenizer=tokenizer)


def is_repeatable_end(receipt: Receipt) -> bool:
    """Whether the text says where it ends; else a deadline or the client ended it."""
    return receipt.answer.finish_reason != "abort" and not receipt.answer.timed_out


def generate_again(receipt: Receipt, loaded: OpenModel, settings: Settings) -> Replay:
    """Choose tokens as the receipt says; at most one more than it has.

    Raises:
        RequestError: its settings are none that a request may have.
        NumericalError: they leave no token to choose.
    """
    n = len(receipt.answer.token_ids) + is_repeatable_end(receipt)
    asked = receipt.settings
    request = Request(
        JOB_ID,
        tuple(receipt.prompt.token_ids),
        sampling_params(receipt),
        max(min(asked.max_tokens, n), 1),
        tuple(asked.stop),
        ignore_eos=asked.ignore_eos,
        min_tokens=asked.min_tokens,
        stop_token_ids=tuple(asked.stop_token_ids),
        shown_ids=frozenset(asked.shown_ids),
    )
    return _run(request, receipt, loaded, settings)


def follow(receipt: Receipt, loaded: OpenModel, settings: Settings) -> Replay:
    """The logits along the tokens of the receipt, whoever chose them; the last token is not that of the receipt."""
    token_ids, n_vocab = receipt.chosen_ids, loaded.config.n_vocab
    request = Request(
        JOB_ID,
        tuple(receipt.prompt.token_ids),
        SamplingParams(temperature=0.0),
        len(token_ids),
        constraint=lambda: ForcedTokens(token_ids[:-1], n_vocab),
    )
    return _run(request, receipt, loaded, settings)


def _run(request: Request, receipt: Receipt, loaded: OpenModel, settings: Settings) -> Replay:
    """Generate alone, without a cache of prefixes, without drafts.

    Raises:
        SettingsError: the KV cache does not fit into memory.
    """
    run_settings = settings.model_copy(
        update={
            "parallel": 1,
            "ctx_size": len(request.token_ids) + request.max_tokens,
            "kv_type": receipt.arithmetic.kv_type,
            "prefix_cache": False,
            "prefix_cache_dir": None,
            "draft": "off",
        }
    )
    request = dataclasses.replace(request, n_logprobs=1, hashes_logits=True)
    logprobs: list[TokenLogprobs] = []
    for event in CallerDriver(Engine(loaded, run_settings)).events(request):
        if isinstance(event, TokenEvent | EndTokenEvent) and event.logprobs is not None:
            logprobs.append(event.logprobs)
        elif isinstance(event, EndEvent):
            break
    assert isinstance(event, EndEvent)  # an error would have been raised
    assert event.logits is not None
    digests = [digest.hex() for digest in event.logits.digests]
    return Replay(event, list(event.logits.token_ids), digests, logprobs)


def sampling_params(receipt: Receipt) -> SamplingParams:
    """How the receipt says that tokens were chosen.

    Raises:
        RequestError: its values are none that a request may have.
    """
    values = receipt.settings.model_dump(include=set(SamplingParams.__dataclass_fields__))
    bias = {
        int(token_id): -math.inf if value == "-inf" else value
        for token_id, value in receipt.settings.logit_bias.items()
    }
    return SamplingParams(**{**values, "logit_bias": bias})
