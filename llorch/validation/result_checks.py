"""Checkpoints 9 to 12: the logits that the engine hands out, and the tokens that follow from them.

They run the engine as it serves: steps fused, one row of logits. The stages before were watched one by one;
that both ways give the same bits is part of checkpoint 9.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llorch.conversation import Conversation
from llorch.engine.sampling import Candidates, scale_temperature, softmax
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
Logits = Mapping[str, Array]
Data = Mapping[str, Any]


def _location(checkpoint: str, run: str, stage: str) -> Location:
    return Location(checkpoint=checkpoint, way="end_to_end", run=run, stage=stage, layer=-1)


def _state(findings: Findings, location: Location, data: Data) -> None:
    passed, note = JUDGES[location.stage](data)
    findings.state(location, passed, note, data)


def check_last_row(subject: Subject, reference: Reference, findings: Findings, own: Logits) -> None:
    """Checkpoint 9: the last row alone, and fed token by token, has the bits of the watched pass."""
    ids = reference.manifest.prompt.token_ids
    alone = Conversation(subject.llama, len(ids)).feed(ids, 0)
    talk = Conversation(subject.llama, len(ids))
    for position, token_id in enumerate(ids):
        fed = talk.feed((token_id,), position)
    for name, row, what in (
        ("last row", alone, "one row of a pass with fused steps"),
        ("token by token", fed, "the prompt fed one token at a time"),
    ):
        if not findings.is_stopped:
            location = _location("9", "prefill", name)
            findings.compare(location, row[0], own["prefill"][-1], note=f"{what} against the watched pass")


def check_most_likely(reference: Reference, findings: Findings, own: Logits) -> None:
    """Checkpoint 10: the most likely token at every position of the prompt and after every decode step."""
    rows = ((own[run.name], reference.array(run, "result_output")) for run in reference.passes())
    _state(findings, _location("10", "all", "most likely"), most_likely_data(rows))


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


def check_softmax(reference: Reference, findings: Findings, own: Logits) -> None:
    """Checkpoint 11: our softmax of the reference's logits, and the best tokens of our own."""
    theirs = reference.array(next(reference.passes()), "result_output")[-1]
    exact = np.exp((theirs.astype(np.float64) - theirs.max()) / SOFTMAX_TEMPERATURE)
    location = Location(checkpoint="11", way="local", run="prefill", stage="softmax", layer=-1)
    note = "our softmax of the reference's logits against float64"
    findings.compare(location, _probabilities(theirs), exact / exact.sum(), note=note)
    if findings.is_stopped:
        return
    ours = own["prefill"][-1]
    order = np.argsort(-theirs, kind="stable")
    best = np.argsort(-ours, kind="stable")[:N_TOP_TOKENS]
    data = {
        "ours": best.tolist(),
        "theirs": order[:N_TOP_TOKENS].tolist(),
        "behind_best": (theirs[order[: len(best)]] - theirs[best]).tolist(),
        "tie_margin": _tie_margins(ours[None], theirs[None])[0],
        "sum": float(_probabilities(ours).sum()),
    }
    _state(findings, _location("11", "prefill", "best tokens"), data)


def _judge_best_tokens(data: Data) -> tuple[bool, str]:
    """A token may stand elsewhere when the reference has a tie."""
    rows = zip(data["ours"], data["theirs"], data["behind_best"], strict=True)
    passed = abs(data["sum"] - 1.0) <= 1e-6 and all(
        mine == best or abs(margin) <= data["tie_margin"] for mine, best, margin in rows
    )
    return passed, f"{N_TOP_TOKENS} best ids of our own logits; probabilities sum to {data['sum']:.7f}"


def check_greedy(
    subject: Subject, reference: Reference, findings: Findings, own: Logits, progress: Progress
) -> list[dict[str, Any]]:
    """Checkpoint 12: greedy tokens of our own, in identical runs; returns ids and hashes of the runs."""
    greedy = reference.manifest.greedy
    n = min(N_GREEDY_TOKENS, len(greedy.token_ids))
    runs: list[dict[str, Any]] = []
    for number in range(N_IDENTICAL_RUNS):
        progress(f"{reference.profile}: greedy run {number + 1}", number, N_IDENTICAL_RUNS)
        runs.append(_greedy_run(subject, reference.manifest.prompt.token_ids, n))
    data = {
        "runs": runs,
        "theirs": list(greedy.token_ids[:n]),
        "margins": list(greedy.margins[:n]),
        "tie_margins": [
            _tie_margins(own[run.name][-1:], reference.array(run, "result_output")[-1:])[0]
            for run in itertools.islice(reference.passes(), n)
        ],
    }
    _state(findings, _location("12", "greedy", "greedy tokens"), data)
    return runs


def _greedy_run(subject: Subject, prompt: tuple[int, ...], n: int) -> dict[str, Any]:
    talk = Conversation(subject.llama, len(prompt) + n)
    digest = hashlib.sha256()
    token_ids: list[int] = []
    logits = talk.feed(prompt, 0)
    for step in range(n):
        digest.update(np.ascontiguousarray(logits).tobytes())
        token_ids.append(int(logits[-1].argmax()))
        if step + 1 < n:
            logits = talk.feed((token_ids[-1],), len(prompt) + step)
    return {"token_ids": token_ids, "logits_sha256": digest.hexdigest()}


def _judge_greedy(data: Data) -> tuple[bool, str]:
    """All runs are equal; ids may part from the reference's where it has a tie."""
    runs, n = data["runs"], len(data["theirs"])
    few = f" (the reference has no more than {n})" if n < N_GREEDY_TOKENS else ""
    if any(run != runs[0] for run in runs):
        return False, f"the {len(runs)} runs differ among themselves{few}"
    ours = runs[0]["token_ids"]
    rows = zip(ours, data["theirs"], data["margins"], data["tie_margins"], strict=True)
    for i, (mine, best, margin, allowed) in enumerate(rows):
        if mine != best:
            is_tie = margin <= allowed
            what = "a tie there" if is_tie else f"{margin:g} ahead there"
            return is_tie, f"token {i} is {mine}, the reference's {best} is {what}{few}"
    return True, f"{len(ours)} tokens equal; {len(runs)} runs with the same bits{few}"


JUDGES: Mapping[str, Callable[[Data], tuple[bool, str]]] = {
    "most likely": _judge_most_likely,
    "best tokens": _judge_best_tokens,
    "greedy tokens": _judge_greedy,
}
"""Verdict and note by stage, for what is decided on data and not on a comparison of arrays."""
