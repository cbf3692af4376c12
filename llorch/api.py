"""The Python interface: load a model, generate text.

with llorch.load("demo") as model:
    print(model.generate("Once upon a time", max_tokens=50, temperature=0).text)
    for piece in model.stream("The cat", seed=7):
        print(piece, end="")
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

from llorch.engine.engine import Engine, open_configured
from llorch.engine.events import (
    EndEvent,
    Event,
    FinishReason,
    PromptEvent,
    Timings,
    TokenEvent,
    TokenLogprobs,
)
from llorch.engine.params import SamplingParams
from llorch.engine.request import Request, encode_prompt
from llorch.engine.session import CallerDriver
from llorch.errors import EngineStoppedError, FieldError, InputError, RequestError
from llorch.fields.table import FIELDS
from llorch.open_model import OpenModel
from llorch.progress import Progress, ignore_progress
from llorch.setting_sources import service_links
from llorch.settings import load_settings
from llorch.text.tokenizer import Tokenizer

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Generation:
    """The result of a generation.

    Attributes:
        text: the generated text, without the prompt.
        token_ids: its tokens, without the end-of-generation one.
        prompt_token_ids: the tokens it continues.
        finish_reason: ``"stop"`` (an end-of-generation token or a stop string) or ``"length"``.
        matched_stop: the stop string that ended the text.
        seed: gives the same text again.
        logprobs: how probable each of `token_ids` was, if that was asked for.
        timings: durations and speeds.
    """

    text: str
    token_ids: tuple[int, ...]
    prompt_token_ids: tuple[int, ...]
    finish_reason: FinishReason
    matched_stop: str | None
    seed: int
    timings: Timings
    logprobs: tuple[TokenLogprobs, ...] | None = None


def load(
    path: str | os.PathLike[str] = "demo", *, progress: Progress = ignore_progress, **settings: Any
) -> Model:
    """Load a model.

    Args:
        path: a `.gguf` file, a Hugging Face directory or an `.onnx` file; ``"demo"``, the embedded model; or the
            name of a pulled one such as ``"smollm2"``.
        progress: called with what is being done, how much of it is done, and of how much; the first start
            on a machine compiles the kernels, which takes a while.
        **settings: any of `llorch.settings.Settings`: `ctx_size`, `threads`, `kv_type`, `weights`, ...;
            the environment and `$LLORCH_CONFIG` count as they do for the command.

    Raises:
        InputError: the file or a setting cannot be used.
    """
    if not isinstance(path, str | os.PathLike) or not isinstance(os.fspath(path), str):
        raise InputError(f"path: expected a string or a path, got a value of type {type(path).__name__}")
    if not callable(progress):
        raise InputError(f"progress: expected a function, got a value of type {type(progress).__name__}")
    chosen = load_settings(overrides={**settings, "model": os.fspath(path)}, are_flags=False)
    if ignored := service_links():
        logger.warning("%s", ignored)
    loaded = open_configured(chosen, progress, with_chat_template=False)
    try:
        engine = Engine(loaded, chosen)
        return Model(loaded, engine, SamplingParams.from_settings(chosen), chosen.most_tokens(engine.n_ctx))
    except BaseException:
        loaded.close()
        raise


class Model:
    """A loaded model. Threads may share it: their generations run side by side in one batch.

    It belongs to the process that loaded it. Its threads and memory go with `close`, or when nobody holds it any more.

    Attributes:
        tokenizer: text to token ids and back.
        n_ctx: most tokens of prompt and answer together.
    """

    def __init__(self, loaded: OpenModel, engine: Engine, params: SamplingParams, max_tokens: int) -> None:
        """Use `load` instead."""
        self.tokenizer: Tokenizer = loaded.tokenizer
        self.n_ctx = engine.n_ctx
        self._loaded = loaded
        self._params = params
        self._max_tokens = max_tokens
        self._driver = CallerDriver(engine)
        self._numbers = itertools.count(1)

    @property
    def name(self) -> str:
        """What the model's file calls itself."""
        return self._loaded.name

    def generate(
        self,
        prompt: str | Sequence[int],
        *,
        max_tokens: int | None = None,
        stop: str | Sequence[str] | None = None,
        ignore_eos: bool = False,
        min_tokens: int = 0,
        stop_token_ids: Sequence[int] = (),
        n_logprobs: int | None = None,
        **sampling: Any,
    ) -> Generation:
        """Continue `prompt`.

        Args:
            prompt: text, or a sequence of token ids as they shall be computed (BOS included).
            max_tokens: most tokens to generate (default: the setting `n_predict`).
            stop: string or strings that end the text and are not part of it.
            ignore_eos: never choose an end-of-generation token.
            min_tokens: before so many tokens neither an end-of-generation token nor a stop string or token ends the
                text.
            stop_token_ids: tokens that end the text and are not part of it.
            n_logprobs: 0..20: tell how probable each token was, beside so many of the most probable ones.
            **sampling: fields of `SamplingParams`: `temperature` (0 = always the most probable token),
                `top_k`, `top_p`, `min_p`, `repetition_penalty`, `presence_penalty`, `frequency_penalty`,
                `penalty_last_n`, `logit_bias`, `seed`, and those of steps that few need.

        Raises:
            RequestError: with every field that is wrong; `ContextLengthError` if the prompt is too long.
            NumericalError: the model computed NaN.
            ForkedError: this process was forked from the one that loaded the model.
        """
        ends = {"min_tokens": min_tokens, "stop_token_ids": stop_token_ids}
        request = self._request(prompt, max_tokens, stop, ignore_eos, sampling, **ends, n_logprobs=n_logprobs)
        logprobs: list[TokenLogprobs] = []
        with contextlib.closing(self._driver.events(request)) as events:
            for event in events:
                if isinstance(event, TokenEvent) and event.logprobs is not None:
                    logprobs.append(event.logprobs)
                if isinstance(event, EndEvent):
                    return Generation(
                        text=event.text,
                        token_ids=event.token_ids,
                        prompt_token_ids=request.token_ids,
                        finish_reason=event.finish_reason,
                        matched_stop=event.matched_stop,
                        seed=event.seed,
                        timings=event.timings,
                        logprobs=None if n_logprobs is None else tuple(logprobs),
                    )
        raise EngineStoppedError("the generation ended without a result")

    def logprobs(self, prompt: str | Sequence[int], *, n_top: int = 0) -> tuple[TokenLogprobs | None, ...]:
        """How probable the tokens of `prompt` are, each behind those before it; nothing is generated.

        The sum over the tokens of an answer is its log-likelihood.

        Args:
            prompt: text, or a sequence of token ids as they shall be computed (BOS included).
            n_top: 0..20: report so many of the most probable tokens, too.

        Returns:
            An entry for each token; None for the first, which nothing predicts.

        Raises:
            RequestError, NumericalError, ForkedError: as `generate`.
        """
        request = self._request(prompt, None, None, False, {}, n_prompt_logprobs=n_top)
        with contextlib.closing(self._driver.events(replace(request, max_tokens=0))) as events:
            for event in events:
                if isinstance(event, PromptEvent):
                    return event.logprobs
        raise EngineStoppedError("the prompt was not read to its end")

    def stream(
        self,
        prompt: str | Sequence[int],
        *,
        max_tokens: int | None = None,
        stop: str | Sequence[str] | None = None,
        ignore_eos: bool = False,
        min_tokens: int = 0,
        stop_token_ids: Sequence[int] = (),
        **sampling: Any,
    ) -> Generator[str]:
        """Like `generate`, but an iterator over the text as it is generated; leaving it ends the generation.

        The request is checked when this is called; nothing is computed before the first piece is asked for.
        """
        ends = {"min_tokens": min_tokens, "stop_token_ids": stop_token_ids}
        request = self._request(prompt, max_tokens, stop, ignore_eos, sampling, **ends)
        return _pieces(self._driver.events(request))

    def close(self) -> None:
        """Stop the compute threads and free the memory. Idempotent."""
        self._driver.close()
        self._loaded.close()

    def __enter__(self) -> Model:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _request(
        self,
        prompt: str | Sequence[int],
        max_tokens: int | None,
        stop: str | Sequence[str] | None,
        ignore_eos: bool,
        sampling: dict[str, Any],
        **options: Any,
    ) -> Request:
        known = [name for name in SamplingParams.__dataclass_fields__ if name in FIELDS]
        faults = [
            FieldError(name, f"one of {', '.join(known)}", f"{name} is no sampling parameter")
            for name in sorted(set(sampling) - set(known))
        ]
        if max_tokens is None:
            max_tokens = self._max_tokens
        others = {"prompt": prompt, "max_tokens": max_tokens, "stop": stop, "ignore_eos": ignore_eos}
        for name, value in (others | sampling).items():
            if name in known or name in others:
                faults += [] if name == "seed" and value is None else FIELDS[name].python_faults(value)
        if faults:
            raise RequestError(faults)
        return Request(
            job_id=f"python-{next(self._numbers)}",
            token_ids=encode_prompt(self.tokenizer, prompt) if isinstance(prompt, str) else tuple(prompt),
            params=replace(self._params, **sampling),
            max_tokens=max_tokens,
            stop=FIELDS["stop"].plain(stop),
            ignore_eos=ignore_eos,
            **options,
        )


def _pieces(events: Generator[Event]) -> Generator[str]:
    """The text of `events`, which are closed with this generator."""
    with contextlib.closing(events):
        for event in events:
            if isinstance(event, TokenEvent) and event.text:
                yield event.text
