"""`llorch.load`, and the model that it gives."""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import os
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from llorch.api.generation import Generation, collected, in_turns, pieces
from llorch.api.options import Options
from llorch.api.rule import NAMES, constraint_of
from llorch.chat.choose import choose_chat_template
from llorch.chat.grammar import Grammars
from llorch.chat.messages import checked_messages
from llorch.chat.template import ChatTemplate
from llorch.embedding.pooling import Pooler, Pooling, check_pooling
from llorch.engine.engine import Engine, open_configured
from llorch.engine.events import PromptEvent, TokenLogprobs
from llorch.engine.params import SamplingParams
from llorch.engine.request import Request, encode_prompt
from llorch.engine.session import CallerDriver
from llorch.errors import EngineStoppedError, FieldError, InputError, RequestError
from llorch.fields.table import FIELDS
from llorch.open_model import OpenModel
from llorch.progress import Progress, ignore_progress
from llorch.setting_sources import service_links
from llorch.settings import Settings, load_settings
from llorch.text.tokenizer import Tokenizer

logger = logging.getLogger(__name__)


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
        return Model(loaded, Engine(loaded, chosen), chosen)
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

    def __init__(self, loaded: OpenModel, engine: Engine, settings: Settings) -> None:
        """Use `load` instead."""
        self.tokenizer: Tokenizer = loaded.tokenizer
        self.n_ctx = engine.n_ctx
        self._loaded = loaded
        self._settings = settings
        self._params = SamplingParams.from_settings(settings)
        self._driver = CallerDriver(engine)
        self._numbers = itertools.count(1)

    def __repr__(self) -> str:
        return f"<llorch.Model {self.name!r}, context of {self.n_ctx} tokens>"

    @property
    def name(self) -> str:
        """What the model's file calls itself."""
        return self._loaded.name

    def generate(self, prompt: str | Sequence[int], **options: Unpack[Options]) -> Generation:
        """Continue `prompt`.

        Args:
            prompt: text, or a sequence of token ids as they shall be computed (BOS included).
            **options: by name, any of

                * `max_tokens`: most tokens to generate (default: the setting `n_predict`).
                * `stop`: string or strings that end the text and are not part of it.
                * `ignore_eos`: never choose an end-of-generation token.
                * `min_tokens`: before so many tokens neither an end-of-generation token nor a stop string or token
                  ends the text.
                * `stop_token_ids`: tokens that end the text and are not part of it.
                * `n_logprobs`: 0..20: tell how probable each token was, beside so many of the most probable ones.
                * one of `json_schema`, `grammar` (GBNF), `regex`, `choice` (a list of texts): what the whole answer is;
                  needs the extra `grammar`.
                * fields of `SamplingParams`: `temperature` (0 = always the most probable token), `top_k`, `top_p`,
                  `min_p`, `repetition_penalty`, `presence_penalty`, `frequency_penalty`, `penalty_last_n`,
                  `logit_bias`, `seed`, and those of steps that few need.

        Raises:
            RequestError: with every field that is wrong; `ContextLengthError` if the prompt is too long.
            NumericalError: the model computed NaN.
            ForkedError: this process was forked from the one that loaded the model.
        """
        return in_turns([self._begun(self._request(prompt, **options))])[0]

    def generate_all(
        self, prompts: Iterable[str | Sequence[int]], **options: Unpack[Options]
    ) -> list[Generation]:
        """Continue several prompts side by side, as many at a time as the setting `parallel` says.

        Each has the result, in every bit, that `generate` gives for it alone with the same options and seed. All are
        checked before anything is computed.

        Args:
            prompts: as `generate` takes one.
            **options: as `generate` has them, for all.

        Raises:
            RequestError, NumericalError, ForkedError: as `generate`; the others end, too.
        """
        requests = [self._request(prompt, **options) for prompt in prompts]
        return in_turns([self._begun(request) for request in requests])

    def chat(self, messages: Sequence[Mapping[str, Any]], **options: Unpack[Options]) -> Generation:
        """Answer the last of `messages`, in the model's own chat template.

        Args:
            messages: ``{"role": "user", "content": "Hello"}`` and so on, as OpenAI's API has them.
            **options: as `generate` has them.

        Raises:
            RequestError: as `generate`; or the template refuses the messages.
            NumericalError, ForkedError: as `generate`.
        """
        return in_turns([self._begun(self._chat_request(messages, options))])[0]

    def stream_chat(
        self, messages: Sequence[Mapping[str, Any]], **options: Unpack[Options]
    ) -> Generator[str]:
        """Like `chat`, but an iterator over the text, as `stream` gives it."""
        return pieces(self._driver.events(self._chat_request(messages, options)))

    def chat_prompt(self, messages: Sequence[Mapping[str, Any]]) -> list[int]:
        """The token ids that `chat` continues.

        Raises:
            RequestError: the messages are wrong, or the template refuses them or cannot be used.
        """
        checked = checked_messages(list(messages) if isinstance(messages, tuple) else messages)
        return self._chat_template.prompt_ids(self.tokenizer, checked)

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
        request = replace(self._request(prompt), max_tokens=0, n_prompt_logprobs=n_top)
        with contextlib.closing(self._driver.events(request)) as events:
            for event in events:
                if isinstance(event, PromptEvent):
                    return event.logprobs
        raise EngineStoppedError("the prompt was not read to its end")

    def embed(self, text: str | Sequence[int], *, pooling: Pooling = "mean") -> NDArray[np.float32]:
        """A vector for a text: float32 (n_embd,), of length 1. Products of two say how alike the model finds the texts.

        Args:
            text: a text, or token ids.
            pooling: the ``"mean"`` over all tokens, or the ``"last"`` alone.

        Raises:
            RequestError, NumericalError, ForkedError: as `generate`.
        """
        check_pooling(pooling)
        pooler = Pooler(self._loaded, pooling)
        request = replace(self._request(text), max_tokens=0, states_to=pooler)
        for _ in self._driver.events(request):
            pass
        return pooler.vector()

    def stream(self, prompt: str | Sequence[int], **options: Unpack[Options]) -> Generator[str]:
        """Like `generate`, but an iterator over the text as it is generated; leaving it ends the generation.

        The request is checked when this is called; nothing is computed before the first piece is asked for.
        """
        return pieces(self._driver.events(self._request(prompt, **options)))

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

    @functools.cached_property
    def _chat_template(self) -> ChatTemplate:
        """The model's, or that of the setting; compiled when it is first needed."""
        override = self._settings.chat_template
        template, note = choose_chat_template(self._loaded.source.metadata, self.tokenizer, override)
        if note:
            logger.warning("%s: %s", self.name, note)
        return template

    @functools.cached_property
    def _grammars(self) -> Grammars:
        return Grammars(self.tokenizer)

    def _begun(self, request: Request) -> Generator[None, None, Generation]:
        return collected(self._driver.events(request), request)

    def _chat_request(self, messages: Sequence[Mapping[str, Any]], options: Options) -> Request:
        request = self._request(self.chat_prompt(messages), **options)
        end_id = self._chat_template.end_id
        if end_id is None or self.tokenizer.is_eog(end_id) or request.ignore_eos:
            return request
        return replace(request, stop_token_ids=(*request.stop_token_ids, end_id))

    def _request(
        self,
        prompt: str | Sequence[int],
        *,
        max_tokens: int | None = None,
        stop: str | Sequence[str] | None = None,
        ignore_eos: bool = False,
        min_tokens: int = 0,
        stop_token_ids: Sequence[int] = (),
        n_logprobs: int | None = None,
        **others: Any,
    ) -> Request:
        rules = {name: others.pop(name, None) for name in NAMES}
        known = [name for name in SamplingParams.__dataclass_fields__ if name in FIELDS]
        faults = [
            FieldError(name, f"one of {', '.join(known)}", f"{name} is no sampling parameter")
            for name in sorted(set(others) - set(known))
        ]
        if max_tokens is None:
            max_tokens = self._settings.most_tokens(self.n_ctx)
        fields = {"prompt": prompt, "max_tokens": max_tokens, "stop": stop, "ignore_eos": ignore_eos}
        for name, value in (fields | others).items():
            if name in known or name in fields:
                faults += [] if name == "seed" and value is None else FIELDS[name].python_faults(value)
        if faults:
            raise RequestError(faults)
        return Request(
            job_id=f"python-{next(self._numbers)}",
            token_ids=encode_prompt(self.tokenizer, prompt) if isinstance(prompt, str) else tuple(prompt),
            params=replace(self._params, **others),
            max_tokens=max_tokens,
            stop=FIELDS["stop"].plain(stop),
            ignore_eos=ignore_eos,
            min_tokens=min_tokens,
            stop_token_ids=stop_token_ids,  # type: ignore[arg-type]
            n_logprobs=n_logprobs,
            constraint=constraint_of(rules, lambda: self._grammars),
        )
