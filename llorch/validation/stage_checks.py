"""Checkpoints 1 to 8 and 3b: every named intermediate against the reference's, in both ways.

Stage by stage (`local`), the reference's value replaces ours as soon as the two were compared, so that every
stage starts from the reference's input and a fault shows where it is. End to end nothing is replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from llorch.conversation import Conversation
from llorch.validation.compare import causal
from llorch.validation.dumps import Pass, Reference
from llorch.validation.findings import Findings, Place
from llorch.validation.subject import Subject
from llorch.validation.tolerances import CHECKPOINTS, WHOLE_LAYER, Checkpoint, checkpoint_of

BY_NUMBER: Mapping[str, Checkpoint] = {checkpoint.number: checkpoint for checkpoint in CHECKPOINTS}
_SHOWN_ONLY = ("kq", "kq_soft_max")
"""Scores are computed for the probe alone: attention goes from Q and the cache to its output in one step."""

_CACHED = {"Kcur_rope": "cache_k", "Vcur": "cache_v"}
_CACHE_TRIGGER = "kq"
"""When this is shown, the layer's new rows have been written to the cache."""

Tell = Callable[[str, int, int], None]


class CacheWatch:
    """Checkpoint 3b: what stood at the taps of rotated K and plain V must be in the cache, bit for bit."""

    def __init__(self, findings: Findings, talk: Conversation) -> None:
        self._findings = findings
        self._talk = talk
        self._fed: dict[tuple[str, int], list[NDArray[np.float32]]] = {}

    def feed(self, stage: str, layer: int, value: NDArray[np.float32]) -> None:
        """Remember what goes into the cache next."""
        if stage in _CACHED:
            self._fed.setdefault((stage, layer), []).append(value.copy())

    def check(self, place_of: Callable[[str, int], Place], layers: Iterable[int]) -> None:
        """Compare the cache of some layers with everything that was fed so far."""
        for layer in layers:
            for stage, name in _CACHED.items():
                if self._findings.is_stopped or (stage, layer) not in self._fed:
                    continue
                expected = np.concatenate(self._fed[stage, layer])
                read = self._talk.keys if stage == "Kcur_rope" else self._talk.values
                self._findings.compare(
                    BY_NUMBER["3b"],
                    place_of(name, layer),
                    read(layer, len(expected)),
                    expected,
                    note=f"all {len(expected)} rows of the cache against our own {stage}",
                )


class StageProbe:
    """Compares every intermediate of one pass, and puts the reference's in its place when it works locally."""

    def __init__(
        self, reference: Reference, run: Pass, is_local: bool, findings: Findings, cache: CacheWatch
    ) -> None:
        self._reference = reference
        self._run = run
        self._is_local = is_local
        self._findings = findings
        self._cache = cache
        self._in_full = frozenset(reference.layers)
        self._dumped = frozenset(reference.stages(run))
        # Where the reference holds no input for the stages of this pass, only its cache rows are checked.
        self._has_inputs = run.name == "prefill" or reference.has_all_decode_stages

    def wants(self, name: str, layer: int) -> bool:
        """Everything the reference holds, and what checkpoint 3b needs, until a failure stops it."""
        if self._findings.is_stopped:
            return False
        return (name, layer) in self._dumped or (
            layer in self._in_full and (name in _CACHED or name == _CACHE_TRIGGER)
        )

    def tap(self, name: str, layer: int, value: NDArray[np.float32]) -> None:
        """Compare and, when local, replace."""
        is_compared = (name, layer) in self._dumped and (self._has_inputs or not self._is_local)
        if name == _CACHE_TRIGGER and self._is_local:
            self._cache.check(self._place, [layer])
        if is_compared and not self._findings.is_stopped:
            theirs = self._reference.array(self._run, name, layer)
            self._compare(name, layer, value, theirs)
            if self._is_local and name not in _SHOWN_ONLY and value.shape == theirs.shape:
                value[...] = theirs
        self._cache.feed(name, layer, value)

    def _place(self, stage: str, layer: int) -> Place:
        return Place("local" if self._is_local else "end_to_end", self._run.name, stage, layer)

    def _compare(self, name: str, layer: int, ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> None:
        checkpoint = checkpoint_of(name)
        is_whole_layer = self._is_local and layer >= 0 and layer not in self._in_full
        profile = self._reference.profile
        tolerance = checkpoint.tolerance if self._is_local else checkpoint.drift[profile]
        is_raw_score = name == "kq"
        n, position = len(self._run.token_ids), self._run.position
        self._findings.compare(
            checkpoint,
            self._place(name, layer),
            ours,
            theirs,
            tolerance=WHOLE_LAYER[profile] if is_whole_layer else tolerance,
            where=causal(n, position, self._run.n_kv) if is_raw_score else None,
            causal_position=position if is_raw_score else None,
            note="the whole layer from the reference's input" if is_whole_layer else "",
        )


def check_locally(subject: Subject, reference: Reference, findings: Findings, tell: Tell) -> None:
    """Every dumped stage from the reference's own input; the cache after the prompt and after decode steps."""
    talk = Conversation(subject.llama, _n_positions(reference))
    cache = CacheWatch(findings, talk)
    runs = [run for run in reference.passes() if _is_checked_locally(run, reference)]
    for number, run in enumerate(runs):
        if findings.is_stopped:
            return
        tell(f"{reference.profile}: {run.name}, stage by stage", number, len(runs))
        talk.feed(
            run.token_ids,
            run.position,
            all_rows=True,
            probe=StageProbe(reference, run, True, findings, cache),
        )


def _is_checked_locally(run: Pass, reference: Reference) -> bool:
    return run.name in ("prefill", "decode/0") or reference.has_all_decode_stages


def check_end_to_end(
    subject: Subject, reference: Reference, findings: Findings, tell: Tell
) -> dict[str, NDArray[np.float32]]:
    """Our own values all the way, through the prompt and the reference's decode steps.

    Returns:
        Logits of all rows by pass, float32 (n_tokens, n_vocab); fewer passes when a failure stopped it.
    """
    talk = Conversation(subject.llama, _n_positions(reference))
    cache = CacheWatch(findings, talk)
    logits = {}
    runs = list(reference.passes())
    for number, run in enumerate(runs):
        if findings.is_stopped:
            break
        tell(f"{reference.profile}: {run.name}, end to end", number, len(runs))
        probe = StageProbe(reference, run, False, findings, cache)
        logits[run.name] = talk.feed(run.token_ids, run.position, all_rows=True, probe=probe)
        if run.name in ("prefill", "decode/0"):
            cache.check(lambda s, i, run=run: Place("end_to_end", run.name, s, i), reference.layers)  # type: ignore[misc]
    return logits


def _n_positions(reference: Reference) -> int:
    return len(reference.prompt_token_ids) + reference.n_decode
