"""Checkpoints 9 to 12: the logits that the engine hands out, and the tokens that follow from them.

They run the engine as it serves: steps fused, one row of logits. The stages before were watched one by one;
that both ways give the same bits is part of checkpoint 9.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llorch.conversation import Conversation
from llorch.engine.narrowing import Candidates, scale_temperature, softmax
from llorch.progress import Progress
from llorch.validation.dumps import Reference
from llorch.validation.findings import Findings, Location
from llorch.validation.subject import Subject
from llorch.validation.tolerances import (
    N_GREEDY_TOKENS,
    N_IDENTICAL_RUNS,
    N_TOP_TOKENS,
    SOFTMAX_TEMPERATURE,
    TIE_MARGIN,
    TIE_SPREAD,
)

Array = NDArray[np.float32]
Data = Mapping[str, Any]


def check_results(
    subject: Subject,
    reference: Reference,
    findings: Findings,
    own: Mapping[str, Array],
    progress: Progress,
) -> list[dict[str, Any]]:
    """Checkpoints 9 to 12, until a failure stops it.

    Args:
        own: our logits of all rows by pass, float32 (n_tokens, n_vocab), from the watched passes.

    Returns:
        Ids and hash of each greedy run.
    """
    theirs = {run.name: reference.array(run, "result_output") for run in reference.passes()}
    last = own["prefill"][-1], theirs["prefill"][-1]
    runs: list[dict[str, Any]] = []

    def judge(checkpoint: str, run: str, stage: str, data: Data) -> None:
        passed, note = JUDGES[stage](data)
        location = Location(checkpoint=checkpoint, way="end_to_end", run=run, stage=stage)
        findings.state(location, passed, note, data)

    steps: tuple[Callable[[], object], ...] = (
        lambda: _check_last_row(subject, reference, findings, last[0]),
        lambda: judge(
            "10", "all", "most likely", most_likely_data((own[run], theirs[run]) for run in theirs)
        ),
        lambda: _check_softmax(findings, last[1]),
        lambda: judge("11", "prefill", "best tokens", _best_tokens(*last)),
        lambda: runs.extend(_greedy_runs(subject, reference, progress)),
        lambda: judge("12", "greedy", "greedy tokens", _greedy_data(reference, runs, own, theirs)),
    )
    for step in steps:
        if not findings.is_stopped:
            step()
    return runs


def _check_last_row(subject: Subject, reference: Reference, findings: Findings, watched: Array) -> None:
    """The last row alone, and fed token by token, has the bits of the watched pass."""
    ids = reference.manifest.prompt.token_ids
    talk = Conversation(subject.llama, len(ids))
    fed = [talk.feed((token_id,), position) for position, token_id in enumerate(ids)]
    for stage, logits, what in (
        ("last row", Conversation(subject.llama, len(ids)).feed(ids), "one row of a pass with fused steps"),
        ("token by token", fed[-1], "the prompt fed one token at a time"),
    ):
        if not findings.is_stopped:
            location = Location(checkpoint="9", way="end_to_end", run="prefill", stage=stage)
            findings.compare(location, logits[0], watched, note=f"{what} against the watched pass")


def most_likely_data(rows: Iterable[tuple[Array, Array]]) -> dict[str, list[Any]]:
    """What checkpoint 10 is decided on, from our and the reference's logits of every pass."""
    data: dict[str, list[Any]] = {"ours": [], "theirs": [], "behind_best": [], "tie_margins": []}
    for ours, theirs in rows:
        best = ours.argmax(-1)
        behind = theirs.max(-1) - np.take_along_axis(theirs, best[:, None], -1)[:, 0]
        data["ours"] += best.tolist()
        data["theirs"] += theirs.argmax(-1).tolist()
        data["behind_best"] += behind.tolist()
        data["tie_margins"] += _tie_margins(ours, theirs)
    return data


def _tie_margins(ours: Array, theirs: Array) -> list[float]:
    """How close two of the reference's logits must be to count as a tie, for each row of float32 (n, n_vocab)."""
    spread = np.sqrt(np.square(ours.astype(np.float64) - theirs).mean(-1))
    return [max(TIE_MARGIN, TIE_SPREAD * float(value)) for value in spread]


def _judge_most_likely(data: Data) -> tuple[bool, str]:
    """Ids may differ where the reference's logit of our id is behind its best one by no more than a tie."""
    rows = zip(data["ours"], data["theirs"], data["behind_best"], data["tie_margins"], strict=True)
    ties = [behind <= margin for mine, best, behind, margin in rows if mine != best]
    note = f"{len(data['ours'])} positions" + (f", {len(ties)} of them ties of the reference" if ties else "")
    return all(ties), note


def _probabilities(logits: Array) -> Array:
    return softmax(scale_temperature(Candidates.from_logits(logits), SOFTMAX_TEMPERATURE).logits)


def _check_softmax(findings: Findings, theirs: Array) -> None:
    exact = np.exp((theirs.astype(np.float64) - theirs.max()) / SOFTMAX_TEMPERATURE)
    location = Location(checkpoint="11", way="local", run="prefill", stage="softmax")
    note = "our softmax of the reference's logits against float64"
    findings.compare(location, _probabilities(theirs), exact / exact.sum(), note=note)


def _best_tokens(ours: Array, theirs: Array) -> Data:
    """The best ids of our own logits of the last position, and the reference's."""
    best, order = (np.argsort(-logits, kind="stable")[:N_TOP_TOKENS] for logits in (ours, theirs))
    return {
        "ours": best.tolist(),
        "theirs": order.tolist(),
        "behind_best": (theirs[order] - theirs[best]).tolist(),
        "tie_margin": _tie_margins(ours[None], theirs[None])[0],
        "sum": float(_probabilities(ours).sum()),
    }


def _judge_best_tokens(data: Data) -> tuple[bool, str]:
    """A token may stand elsewhere when the reference has a tie."""
    rows = zip(data["ours"], data["theirs"], data["behind_best"], strict=True)
    holds = all(mine == best or abs(margin) <= data["tie_margin"] for mine, best, margin in rows)
    note = f"{N_TOP_TOKENS} best ids of our own logits; probabilities sum to {data['sum']:.7f}"
    return holds and abs(data["sum"] - 1.0) <= 1e-6, note


def _greedy_runs(subject: Subject, reference: Reference, progress: Progress) -> Iterator[dict[str, Any]]:
    """The same greedy tokens several times: ids and the hash of all logits of each run."""
    prompt = reference.manifest.prompt.token_ids
    n = min(N_GREEDY_TOKENS, len(reference.manifest.greedy.token_ids))
    for number in range(N_IDENTICAL_RUNS):
        progress(f"{reference.profile}: greedy run {number + 1}", number, N_IDENTICAL_RUNS)
        talk, digest, fed, position = (
            Conversation(subject.llama, len(prompt) + n),
            hashlib.sha256(),
            prompt,
            0,
        )
        token_ids: list[int] = []
        while len(token_ids) < n:
            logits = talk.feed(fed, position)
            digest.update(logits.tobytes())
            position, fed = position + len(fed), (int(logits[-1].argmax()),)
            token_ids += fed
        yield {"token_ids": token_ids, "logits_sha256": digest.hexdigest()}


def _greedy_data(
    reference: Reference, runs: list[dict[str, Any]], own: Mapping[str, Array], theirs: Mapping[str, Array]
) -> Data:
    greedy, n = reference.manifest.greedy, len(runs[0]["token_ids"])
    return {
        "runs": runs,
        "theirs": list(greedy.token_ids[:n]),
        "margins": list(greedy.margins[:n]),
        "tie_margins": [_tie_margins(own[run][-1:], theirs[run][-1:])[0] for run in [*theirs][:n]],
    }


def _judge_greedy(data: Data) -> tuple[bool, str]:
    """All runs are equal; ids may part from the reference's where it has a tie."""
    runs, n = data["runs"], len(data["theirs"])
    few = f" (the reference has no more than {n})" if n < N_GREEDY_TOKENS else ""
    if any(run != runs[0] for run in runs):
        return False, f"the {len(runs)} runs differ among themselves{few}"
    rows = zip(runs[0]["token_ids"], data["theirs"], data["margins"], data["tie_margins"], strict=True)
    for i, (mine, best, margin, allowed) in enumerate(rows):
        if mine != best:
            what = "a tie there" if margin <= allowed else f"{margin:g} ahead there"
            return margin <= allowed, f"token {i} is {mine}, the reference's {best} is {what}{few}"
    return True, f"{n} tokens equal; {len(runs)} runs with the same bits{few}"


JUDGES: Mapping[str, Callable[[Data], tuple[bool, str]]] = {
    "most likely": _judge_most_likely,
    "best tokens": _judge_best_tokens,
    "greedy tokens": _judge_greedy,
}
"""Verdict and note by stage, for what is decided on data and not on a comparison of arrays."""
