"""What a caller wants generated, and the checks that decide whether it can be."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Collection
from dataclasses import dataclass

from llorch.engine.constraint import Constraint
from llorch.engine.params import SamplingParams
from llorch.errors import ContextLengthError, DuplicateJobError, FieldError, InputError, RequestError, shown
from llorch.fields.table import FIELDS, MAX_LOGPROBS
from llorch.observe.states import StatesReader
from llorch.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Request:
    """What a caller wants generated. Immutable, and complete: text is token ids here, defaults are filled in.

    Values become plain Python ones (NumPy's integers are taken, one stop string may stand alone); what is wrong with
    them is said by `check`.

    Attributes:
        job_id: name of the generation, unique among unfinished ones.
        token_ids: the prompt.
        params: how tokens are chosen.
        max_tokens: most tokens to generate; 0 only reads the prompt. The context may end the text earlier.
        stop: strings that end the text and are not part of it.
        ignore_eos: never choose an end-of-generation token.
        min_tokens: before so many tokens nothing ends the text: no end-of-generation token, no stop string or token.
        stop_token_ids: tokens that end the text beside the model's own, and are not part of it.
        owner: whose request it is (a name of an API key): owners take turns, and share no cached prefixes.
        cache_prompt: whether the beginning of the prompt may come from the cache of prefixes.
        n_logprobs: report how probable each generated token was, beside so many of the most probable ones.
        logprobs_after_sampling: among the candidates that were left to draw from, not among all tokens.
        n_prompt_logprobs: the same for the tokens of the prompt, of which none comes from the cache then.
        constraint: makes what limits the choice of tokens, anew for each generation (a grammar).
        shown_ids: control tokens that are visible in the text, as marks in it.
        states_to: gets what leaves the last layer for the tokens of the prompt; none comes from the cache then.
        wants_progress: report how much of the prompt has been read.
        hashes_logits: note, with the end, from which logits its tokens were chosen.
        request_id: of the HTTP request it belongs to, for the log.
    """

    job_id: str
    token_ids: tuple[int, ...]
    params: SamplingParams
    max_tokens: int
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    min_tokens: int = 0
    stop_token_ids: tuple[int, ...] = ()
    owner: str = ""
    cache_prompt: bool = True
    n_logprobs: int | None = None
    logprobs_after_sampling: bool = False
    n_prompt_logprobs: int | None = None
    constraint: Callable[[], Constraint] | None = None
    shown_ids: frozenset[int] = frozenset()
    states_to: StatesReader | None = None
    wants_progress: bool = False
    hashes_logits: bool = False
    request_id: str = ""

    def __post_init__(self) -> None:
        for name in ("token_ids", "max_tokens", "min_tokens", "stop", "stop_token_ids"):
            object.__setattr__(self, name, FIELDS[name].plain(getattr(self, name)))
        for name in ("n_logprobs", "n_prompt_logprobs"):
            object.__setattr__(self, name, FIELDS["max_tokens"].plain(getattr(self, name)))

    @property
    def log_fields(self) -> dict[str, str]:
        """What a line of the log about it bears, where nothing else says whose it is: on the compute thread."""
        request_id = {"request_id": self.request_id} if self.request_id else {}
        return {"job_id": self.job_id, **request_id}

    def check(self, n_vocab: int, n_ctx: int, eog_ids: Collection[int] = ()) -> None:
        """Refuse a request that cannot be generated.

        Args:
            n_vocab: tokens of the model.
            n_ctx: tokens a sequence may hold.
            eog_ids: the model's end-of-generation tokens.

        Raises:
            RequestError: with every fault of the request.
            ContextLengthError: the prompt fills the context.
        """
        faults = FIELDS["job_id"].python_faults(self.job_id)
        nothing = [_fault("prompt", "at least one token", "no token")]
        faults += nothing if self.token_ids == () else _id_faults("token_ids", self.token_ids, n_vocab)
        faults += _id_faults("stop_token_ids", self.stop_token_ids, n_vocab)
        if type(self.max_tokens) is not int or self.max_tokens:
            faults += FIELDS["max_tokens"].python_faults(self.max_tokens)
        for name in ("stop", "ignore_eos", "min_tokens"):
            faults += FIELDS[name].python_faults(getattr(self, name))
        faults += self._logprobs_faults()
        faults += self._params_faults(n_vocab, eog_ids)
        if self.constraint is not None:
            why = "with a constraint, which says where the text ends"
            if self.ignore_eos is True:
                faults.append(_fault("ignore_eos", f"false {why}", "true"))
            if self.min_tokens:
                faults.append(_fault("min_tokens", f"0 {why}", shown(self.min_tokens)))
        if faults:
            raise RequestError(faults)
        if len(self.token_ids) + min(self.max_tokens, 1) > n_ctx:
            raise ContextLengthError(len(self.token_ids), n_ctx, has_answer=self.max_tokens > 0)

    def _logprobs_faults(self) -> list[FieldError]:
        rule = f"an integer, 0 <= n <= {MAX_LOGPROBS}, or None"
        return [
            _fault(name, rule, shown(value))
            for name in ("n_logprobs", "n_prompt_logprobs")
            if (value := getattr(self, name)) is not None
            and not (type(value) is int and 0 <= value <= MAX_LOGPROBS)
        ]

    def _params_faults(self, n_vocab: int, eog_ids: Collection[int]) -> list[FieldError]:
        """What the vocabulary says against the parameters; the rest was checked when they were made."""
        params: object = self.params
        if not isinstance(params, SamplingParams):
            return [_fault("params", "SamplingParams", f"a value of type {type(params).__name__}")]
        bias = params.logit_bias
        n_bad = sum(token_id >= n_vocab for token_id in bias)
        if n_bad:
            return [_fault("logit_bias", f"0 <= id < {n_vocab}", f"{n_bad} of {len(bias)} ids wrong")]
        forbidden = {token_id for token_id, value in bias.items() if value == -math.inf}
        if len(forbidden.union(eog_ids if self.ignore_eos is True or self.min_tokens else ())) < n_vocab:
            return []
        return [_fault("logit_bias", "a token that may be chosen", "every token forbidden")]


def _id_faults(name: str, token_ids: tuple[int, ...], n_vocab: int) -> list[FieldError]:
    faults = FIELDS[name].python_faults(token_ids)
    if not faults and max(token_ids, default=0) >= n_vocab:
        n_bad = sum(token_id >= n_vocab for token_id in token_ids)
        faults.append(_fault(name, f"0 <= id < {n_vocab}", f"{n_bad} of {len(token_ids)} items wrong"))
    return faults


def check_prompt(prompt: object, token_ids: object, max_chars: int) -> None:
    """Refuse a prompt that is not exactly one of text of 1..`max_chars` characters and token ids.

    Raises:
        RequestError: it is not.
    """
    if (prompt is None) == (token_ids is None):
        raise RequestError([FieldError("prompt", "prompt or token_ids", "give either prompt or token_ids")])
    if prompt is None:
        return  # the request's check looks at the ids
    if not isinstance(prompt, str):
        raise RequestError([_fault("prompt", "a string", f"a value of type {type(prompt).__name__}")])
    if not 1 <= len(prompt) <= max_chars:
        message = f"prompt has {len(prompt)} characters, 1..{max_chars} are possible"
        raise RequestError([FieldError("prompt", f"1..{max_chars} characters", message)])


def encode_prompt(tokenizer: Tokenizer, prompt: str, *, parse_special: bool = False) -> tuple[int, ...]:
    """The token ids of `prompt`, BOS included where the model wants one.

    Args:
        tokenizer: the model's.
        prompt: text.
        parse_special: recognise control tokens in it; not for text from strangers.

    Raises:
        RequestError: `prompt` is not valid Unicode.
    """
    try:
        return tuple(tokenizer.encode(prompt, parse_special=parse_special))
    except RequestError:
        raise
    except InputError as error:
        raise RequestError([FieldError("prompt", "valid Unicode", str(error))]) from None


def _fault(name: str, rule: str, got: str) -> FieldError:
    return FieldError(name, rule, f"{name}: expected {rule}; got {got}")


def new_seed() -> int:
    """A seed for a request without one; 53 bits, because JavaScript's JSON numbers hold no more."""
    return secrets.randbits(53)


def duplicate_job() -> DuplicateJobError:
    """The error for a `job_id` that an unfinished generation has."""
    message = "another request of this job_id is not finished yet"
    return DuplicateJobError([FieldError("job_id", "unique among unfinished requests", message)])
