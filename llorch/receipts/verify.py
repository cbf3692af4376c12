"""Does a receipt hold? Its own hashes, then whether it can be computed again here, then the computation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from llorch.errors import InputError, LlorchError, NumericalError, RequestError
from llorch.formats.source import open_source
from llorch.kernels import paths
from llorch.open_model import OpenModel
from llorch.progress import Progress, ignore_progress
from llorch.receipts.canonical import sha256_of
from llorch.receipts.issue import described_model, text_sha256
from llorch.receipts.outcome import Outcome
from llorch.receipts.replay import Replay, follow, generate_again, is_repeatable_end, open_for_replay
from llorch.receipts.schema import ARITHMETIC, N_RUNNING_DIGITS, Receipt, printable
from llorch.settings import Settings

Against: TypeAlias = Callable[[Receipt, Replay], tuple[bool, str, dict[str, Any]]]
"""Compares a receipt, computed again, with another program: whether that agrees, why not, and figures."""


def verify(
    receipt: Receipt,
    is_intact: bool,
    path: Path,
    settings: Settings,
    *,
    against: Against | None = None,
    progress: Progress = ignore_progress,
) -> Outcome:
    """Check a receipt, and compute it again where that can be done.

    Args:
        receipt: what to check.
        is_intact: whether its own hash holds.
        path: the model's file.
        settings: threads and residence of the weights.
        against: another program to compare with.
        progress: told about kernels, compiling and loading.

    Raises:
        InputError: the model cannot be used.
    """
    outcome = Outcome(is_compared=against is not None)
    _check_hashes(outcome, receipt, is_intact)
    if not outcome.has_fault():
        _check_place(outcome, receipt, path)
    if outcome.has_fault():
        return outcome
    with open_for_replay(path, receipt, settings, progress) as loaded:
        _check_vocabulary(outcome, receipt, loaded)
        if outcome.has_fault():
            return outcome
        if not receipt.chosen_ids:
            outcome.leave_open("token_ids", "nothing was generated")
            return outcome
        replayed = _compute_again(outcome, receipt, loaded, settings)
    if against is not None and replayed is not None:
        try:
            holds, note, outcome.llama_server = against(receipt, replayed)
            outcome.check("llama_server", holds, note)
        except InputError:
            raise
        except LlorchError as error:
            outcome.leave_open("llama_server", str(error))
    return outcome


def _check_hashes(outcome: Outcome, receipt: Receipt, is_intact: bool) -> None:
    """What a receipt says about itself."""
    outcome.check("receipt", is_intact, "it was altered: its own sha256 does not hold")
    prompt, settings = receipt.prompt, receipt.settings.without_defaults()
    holds = sha256_of(prompt.token_ids) == prompt.sha256
    outcome.check("prompt", holds, "its sha256 is not that of its token ids")
    holds = sha256_of(settings) == receipt.settings_sha256
    outcome.check("settings", holds, "settings_sha256 is not that of the settings")
    logits, n = receipt.logits, len(receipt.chosen_ids)
    start = None if logits.sha256 is None else logits.sha256[:N_RUNNING_DIGITS]
    last = logits.running[-1] if logits.running else None
    holds = logits.n_rows == n == len(logits.running) and start == last
    outcome.check("counts", holds, f"{n} tokens take as many rows of logits, and as many hashes of them")


def _check_place(outcome: Outcome, receipt: Receipt, path: Path) -> None:
    """Whether it can be computed again with this file and this program."""
    source = open_source(path)
    try:
        ours = described_model(source)
    finally:
        source.close()
    theirs = receipt.model.model_dump()
    found = (
        f"{printable(path.name)} has sha256 {ours['sha256'][:16]}…, the receipt is of {theirs['sha256'][:16]}…; -m "
        "names another file"
    )
    outcome.check("model", ours["sha256"] == theirs["sha256"], found)
    if outcome.checks["model"]:
        names = [name for name in ("bytes", "tensors", "quantization") if ours[name] != theirs[name]]
        outcome.check("model_description", not names, f"the file has other {', '.join(names)}")
    place, faults = receipt.arithmetic, []
    if place.revision != ARITHMETIC:
        of = f"revision {place.revision} of the arithmetic (llorch {printable(receipt.llorch)})"
        faults.append(f"{of}; here it is {ARITHMETIC}")
    if place.sums != paths.sums():
        orders = f"floats were added in the order of {place.sums}, here in that of {paths.sums()}"
        faults.append(f"{orders}: run with LLORCH_SUMS={place.sums}")
    outcome.check("arithmetic", not faults, "; ".join(faults))


def _check_vocabulary(outcome: Outcome, receipt: Receipt, loaded: OpenModel) -> None:
    """Whether its numbers are of this model's vocabulary."""
    n_vocab = loaded.config.n_vocab
    known_ids = (*receipt.prompt.token_ids, *receipt.chosen_ids)
    holds = receipt.logits.n_vocab == n_vocab and max(known_ids) < n_vocab
    outcome.check("counts", holds, f"the model has {n_vocab} tokens, the receipt other ones")
    holds = loaded.tokenizer.vocab.eog_ids == set(receipt.settings.end_ids)
    outcome.check("settings", holds, "end_ids are not the tokens that end a text of this model")


def _compute_again(
    outcome: Outcome, receipt: Receipt, loaded: OpenModel, settings: Settings
) -> Replay | None:
    """Check tokens and logits; what came out along the tokens of the receipt."""
    free = None
    if receipt.settings.is_constrained:
        why = "a grammar limited the choice, and the receipt does not hold it; its logits were computed again"
        outcome.leave_open("token_ids", why)
    else:
        try:
            free = generate_again(receipt, loaded, settings)
        except RequestError as error:
            outcome.check("settings", False, f"no request may have them: {error}")
            return None
        except NumericalError as error:
            outcome.check("token_ids", False, f"none can be chosen: {error}")
    if free is not None:
        _check_choice(outcome, receipt, free)
    is_same = free is not None and free.token_ids == receipt.chosen_ids
    along = free if free is not None and is_same else follow(receipt, loaded, settings)
    n, theirs = len(receipt.chosen_ids), receipt.logits
    first = _first_difference([digest[:N_RUNNING_DIGITS] for digest in along.digests], theirs.running)
    holds = first is None and along.digests[-1] == theirs.sha256
    first = n - 1 if first is None else first
    outcome.check("logits", holds, f"those of token {first} are the first to differ (0 to {n - 1})")
    if not holds:
        outcome.first_difference = min(
            first, n if outcome.first_difference is None else outcome.first_difference
        )
    return along


def _check_choice(outcome: Outcome, receipt: Receipt, free: Replay) -> None:
    """Whether the same tokens were chosen, and made the same text."""
    chosen = receipt.chosen_ids
    outcome.first_difference = _first_difference(free.token_ids, chosen)
    where = f"another one is chosen at {outcome.first_difference} (0 to {len(chosen) - 1})"
    outcome.check("token_ids", outcome.first_difference is None, where)
    if outcome.first_difference is not None:
        return
    if not is_repeatable_end(receipt):
        outcome.leave_open("finish", "a deadline or the client ended it, which cannot be repeated")
        return
    end, answer = free.end, receipt.answer
    holds = text_sha256(end.text) == answer.text_sha256
    outcome.check("text", holds, "text_sha256 is not that of what the tokens say")
    holds = (end.finish_reason, end.matched_stop) == (answer.finish_reason, answer.matched_stop)
    outcome.check("finish", holds, "the text ends otherwise")


def _first_difference(ours: list[int] | list[str], theirs: list[int] | list[str]) -> int | None:
    """Index of the first item that differs, or that only one list has."""
    pairs = enumerate(zip(ours, theirs, strict=False))
    found = next((i for i, (one, other) in pairs if one != other), min(len(ours), len(theirs)))
    return None if found == len(ours) == len(theirs) else found
