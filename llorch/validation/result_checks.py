"""Checkpoints 9 to 12: the logits that the engine hands out, and the tokens that follow from them.

They run the engine as it serves: steps fused, one row of logits. The stages before were watched one by one;
that both ways give the same bits is part of checkpoint 9.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llorch.conversation import Conversation
from llorch.engine.sampling import Candidates, scale_temperature, softmax
from llorch.validation.dumps import Reference
from llorch.validation.findings import Findings, Place
from llorch.validation.stage_checks import BY_NUMBER, Tell
from llorch.validation.subject import Subject
from llorch.validation.tolerances import (
    N_GREEDY_TOKENS,
    N_IDENTICAL_RUNS,
    N_TOP_TOKENS,
    SOFTMAX_TEMPERATURE,
    TIE_MARGIN,
    TIE_SPREAD,
)

Logits = Mapping[str, NDArray[np.float32]]


def check_last_row(subject: Subject, reference: Reference, findings: Findings, own: Logits) -> None:
    """Checkpoint 9: the last row alone, and fed token by token, has the bits of the watched pass."""
    ids = reference.prompt_token_ids
    alone = Conversation(subject.llama, len(ids)).feed(ids, 0)
    talk = Conversation(subject.llama, len(ids))
    for position, token_id in enumerate(ids):
        fed = talk.feed((token_id,), position)
    for name, row, note in (
        ("last row", alone, "one row of a pass with fused steps against the watched pass"),
        ("token by token", fed, "the prompt fed one token at a time against the watched pass"),
    ):
        if not findings.is_stopped:
            place = Place("end_to_end", "prefill", name)
            findings.compare(BY_NUMBER["9"], place, row[0], own["prefill"][-1], note=note)


def tie_margins(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> list[float]:
    """How close two of the reference's logits must be to count as a tie, for each row of float32 (n, n_vocab)."""
    spread = np.sqrt(np.square(ours.astype(np.float64) - theirs).mean(-1))
    return [max(TIE_MARGIN, TIE_SPREAD * float(value)) for value in spread]


def most_likely_data(rows: Iterable[tuple[NDArray[np.float32], NDArray[np.float32]]]) -> dict[str, list[Any]]:
    """What checkpoint 10 is decided on, from our and the reference's logits of every pass."""
    data: dict[str, list[Any]] = {"ours": [], "theirs": [], "behind_best": [], "tie_margins": []}
    for ours, theirs in rows:
        best = ours.argmax(-1)
        behind = theirs.max(-1) - np.take_along_axis(theirs, best[:, None], -1)[:, 0]
        data["ours"] += best.tolist()
        data["theirs"] += theirs.argmax(-1).tolist()
        data["behind_best"] += behind.tolist()
        data["tie_margins"] += tie_margins(ours, theirs)
    return data


def check_most_likely(reference: Reference, findings: Findings, own: Logits) -> None:
    """Checkpoint 10: the most likely token at every position of the prompt and after every decode step."""
    data = most_likely_data(
        (own[run.name], reference.array(run, "result_output")) for run in reference.passes()
    )
    passed, n_ties = judge_most_likely(data)
    note = f"{len(data['ours'])} positions" + (f", {n_ties} of them ties of the reference" if n_ties else "")
    findings.state(BY_NUMBER["10"], Place("end_to_end", "all", "most likely"), passed, note, data)


def judge_most_likely(data: Mapping[str, Any]) -> tuple[bool, int]:
    """Verdict on checkpoint 10, and how many different tokens are ties.

    Args:
        data: `ours` and `theirs` (ids), `behind_best` (how far the reference's logit of our id is behind its
            best one), `tie_margins`.
    """
    rows = zip(data["ours"], data["theirs"], data["behind_best"], data["tie_margins"], strict=True)
    ties = [behind <= margin for mine, best, behind, margin in rows if mine != best]
    return all(ties), len(ties)


def check_softmax(reference: Reference, findings: Findings, own: Logits) -> None:
    """Checkpoint 11: our softmax of the reference's logits, and the best tokens of our own."""
    run = next(reference.passes())
    theirs = reference.array(run, "result_output")[-1]
    scaled = scale_temperature(Candidates.from_logits(theirs), SOFTMAX_TEMPERATURE).logits
    exact = np.exp((theirs.astype(np.float64) - theirs.max()) / SOFTMAX_TEMPERATURE)
    probabilities = softmax(scaled)
    findings.compare(
        BY_NUMBER["11"],
        Place("local", "prefill", "softmax"),
        probabilities,
        exact / exact.sum(),
        note="our softmax of the reference's logits against float64",
    )
    if findings.is_stopped:
        return
    ours = own["prefill"][-1]
    order = np.argsort(-theirs, kind="stable")
    best = np.argsort(-ours, kind="stable")[:N_TOP_TOKENS]
    data = {
        "ours": best.tolist(),
        "theirs": order[:N_TOP_TOKENS].tolist(),
        "behind_best": (theirs[order[: len(best)]] - theirs[best]).tolist(),
        "tie_margin": tie_margins(ours[None], theirs[None])[0],
        "sum": float(
            softmax(scale_temperature(Candidates.from_logits(ours), SOFTMAX_TEMPERATURE).logits).sum()
        ),
    }
    place = Place("end_to_end", "prefill", "best tokens")
    note = f"{N_TOP_TOKENS} best ids of our own logits; probabilities sum to {data['sum']:.7f}"
    findings.state(BY_NUMBER["11"], place, judge_best_tokens(data), note, data)


def judge_best_tokens(data: Mapping[str, Any]) -> bool:
    """Verdict on the second half of checkpoint 11; a token may stand elsewhere when the reference has a tie."""
    rows = zip(data["ours"], data["theirs"], data["behind_best"], strict=True)
    return abs(data["sum"] - 1.0) <= 1e-6 and all(
        mine == best or abs(margin) <= data["tie_margin"] for mine, best, margin in rows
    )


def check_greedy(
    subject: Subject, reference: Reference, findings: Findings, own: Logits, tell: Tell
) -> list[dict[str, Any]]:
    """Checkpoint 12: greedy tokens of our own, in identical runs; returns ids and hashes of the runs."""
    n = min(N_GREEDY_TOKENS, reference.n_decode + 1)
    runs: list[dict[str, Any]] = []
    for number in range(N_IDENTICAL_RUNS):
        tell(f"{reference.profile}: greedy run {number + 1}", number, N_IDENTICAL_RUNS)
        runs.append(_greedy_run(subject, reference.prompt_token_ids, n))
    data = {
        "runs": runs,
        "theirs": list(reference.greedy_token_ids[:n]),
        "margins": list(reference.greedy_margins[:n]),
        "tie_margins": [
            tie_margins(own[run.name][-1:], reference.array(run, "result_output")[-1:])[0]
            for run in itertools.islice(reference.passes(), n)
        ],
    }
    passed, note = judge_greedy(data)
    if n < N_GREEDY_TOKENS:
        note += f" (the reference has no more than {n})"
    findings.state(BY_NUMBER["12"], Place("end_to_end", "greedy", "greedy tokens"), passed, note, data)
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


def judge_greedy(data: Mapping[str, Any]) -> tuple[bool, str]:
    """Verdict on checkpoint 12 with a note; ids may part where the reference has a tie."""
    runs = data["runs"]
    if any(run != runs[0] for run in runs):
        return False, f"the {len(runs)} runs differ among themselves"
    ours = runs[0]["token_ids"]
    rows = zip(ours, data["theirs"], data["margins"], data["tie_margins"], strict=True)
    for i, (mine, best, margin, allowed) in enumerate(rows):
        if mine != best:
            is_tie = margin <= allowed
            what = "a tie there" if is_tie else f"{margin:g} ahead there"
            return is_tie, f"token {i} is {mine}, the reference's {best} is {what}"
    return True, f"{len(ours)} tokens equal; {len(runs)} runs with the same bits"
