"""Checkpoints 1 to 8 and 3b: every named intermediate against the reference's, in both ways.

Stage by stage (`local`), the reference's value replaces ours as soon as the two were compared, so that every
stage starts from the reference's input and a fault shows where it is. End to end nothing is replaced.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np
from numpy.typing import NDArray

from llorch.conversation import Conversation
from llorch.progress import Progress
from llorch.validation.bounds import Tolerance
from llorch.validation.dumps import Pass, Reference
from llorch.validation.findings import WAYS, Findings, Location, Way
from llorch.validation.subject import Subject
from llorch.validation.tolerances import BY_NUMBER, STAGES, WHOLE_LAYER, Profile

_SHOWN_ONLY = ("kq", "kq_soft_max")
"""Scores are computed for the probe alone: attention goes from Q and the cache to its output in one step."""

_CACHED = {"Kcur_rope": "cache_k", "Vcur": "cache_v"}
_CACHE_TRIGGER = "kq"
"""When this is shown, the layer's new rows have been written to the cache."""

_CACHE_PASSES = ("prefill", "decode/0")


def tolerance_of(location: Location, profile: Profile, layers: Collection[int]) -> Tolerance:
    """What is allowed at a location; `layers` are those that the reference holds in full."""
    checkpoint = BY_NUMBER[location.checkpoint]
    if location.stage not in checkpoint.stages:
        return checkpoint.tolerance
    if location.way == "end_to_end":
        return checkpoint.drift[profile]
    is_in_full = location.layer < 0 or location.layer in layers
    return checkpoint.tolerance if is_in_full else WHOLE_LAYER[profile]


class StageProbe:
    """Compares every intermediate of one pass after another, and replaces ours by the reference's when local.

    It also checks the cache (3b): rotated K and plain V, as they were tapped, must be in it, bit for bit.
    """

    def __init__(self, reference: Reference, way: Way, findings: Findings, talk: Conversation) -> None:
        self._reference = reference
        self._way = way
        self._findings = findings
        self._talk = talk
        self._in_full = frozenset(reference.manifest.layers)
        self._cached: dict[tuple[str, int], list[NDArray[np.float32]]] = {}

    def begin(self, run: Pass) -> None:
        """Watch this pass from now on."""
        self._run = run
        self._dumped = frozenset(self._reference.stages(run))
        # Where the reference holds no input for the stages of this pass, only its cache rows are checked.
        has_inputs = run.name == "prefill" or self._reference.has_all_decode_stages
        self._compared = self._dumped if has_inputs or self._way == "end_to_end" else frozenset()

    def wants(self, name: str, layer: int) -> bool:
        """Everything the reference holds, and what checkpoint 3b needs, until a failure stops it."""
        for_cache = layer in self._in_full and (name in _CACHED or name == _CACHE_TRIGGER)
        return not self._findings.is_stopped and (for_cache or (name, layer) in self._dumped)

    def tap(self, name: str, layer: int, value: NDArray[np.float32]) -> None:
        """Compare and, when local, replace."""
        is_local = self._way == "local"
        if name == _CACHE_TRIGGER and is_local:
            self.check_cache([layer])
        if (name, layer) in self._compared and not self._findings.is_stopped:
            theirs = self._reference.array(self._run, name, layer)
            self._compare(name, layer, value, theirs)
            if is_local and name not in _SHOWN_ONLY and value.shape == theirs.shape:
                value[...] = theirs
        if name in _CACHED:
            self._cached.setdefault((name, layer), []).append(value.copy())

    def check_cache(self, layers: Iterable[int]) -> None:
        """Compare the cache of some layers with everything that went into it so far."""
        for layer in layers:
            for (stage, name), read in zip(
                _CACHED.items(), (self._talk.keys, self._talk.values), strict=True
            ):
                if (stage, layer) in self._cached and not self._findings.is_stopped:
                    expected = np.concatenate(self._cached[stage, layer])
                    note = f"all {len(expected)} rows of the cache against our own {stage}"
                    found = read(layer, len(expected))
                    self._findings.compare(self._at("3b", name, layer), found, expected, note=note)

    def _at(self, checkpoint: str, stage: str, layer: int) -> Location:
        return Location(checkpoint=checkpoint, way=self._way, run=self._run.name, stage=stage, layer=layer)

    def _compare(self, name: str, layer: int, ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> None:
        profile, location = self._reference.profile, self._at(STAGES[name].number, name, layer)
        tolerance = tolerance_of(location, profile, self._in_full)
        note = "the whole layer from the reference's input" if tolerance is WHOLE_LAYER[profile] else ""
        position = self._run.position if name == "kq" else None
        self._findings.compare(
            location, ours, theirs, tolerance=tolerance, causal_position=position, note=note
        )


def check_stages(
    subject: Subject, reference: Reference, findings: Findings, way: Way, progress: Progress
) -> dict[str, NDArray[np.float32]]:
    """Compare the stages of the prompt and of the decode steps, in one way.

    Stage by stage, of decode steps without dumped inputs only the cache rows of the first are checked.

    Returns:
        Our logits of all rows by pass, float32 (n_tokens, n_vocab); fewer passes when a failure stopped it.
    """
    manifest = reference.manifest
    talk = Conversation(subject.llama, len(manifest.prompt.token_ids) + manifest.n_decode)
    probe = StageProbe(reference, way, findings, talk)
    takes_all = way == "end_to_end" or reference.has_all_decode_stages
    runs = [run for run in reference.passes() if takes_all or run.name in _CACHE_PASSES]
    logits = {}
    for number, run in enumerate(runs):
        if findings.is_stopped:
            break
        progress(f"{reference.profile}: {run.name}, {WAYS[way]}", number, len(runs))
        probe.begin(run)
        logits[run.name] = talk.feed(run.token_ids, run.position, all_rows=True, probe=probe)
        if way == "end_to_end" and run.name in _CACHE_PASSES:
            probe.check_cache(manifest.layers)
    return logits
