"""What a reference says about the slices of a timeline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llorch.report.producers import stages_of
from llorch.report.truth import PROMPT_PASS, Truth, brief
from llorch.trace.records import StepRecord
from llorch.validation.findings import WAYS, StageResult
from llorch.validation.tolerances import stage_key

_WAYS = {way: name.replace(" ", "_") for way, name in WAYS.items()}
"""Keys for queries."""


class SliceTruth:
    """Arguments of operation slices: statistics of the tensors that each produced, and their differences.

    Args:
        truth: of the model that was traced, on the prompt that was traced.
        labels: of the program that was traced, as `Llama.labels`.
        token_ids: what was generated in the trace; decode steps count as the reference's as long as both agree.
    """

    def __init__(self, truth: Truth, labels: Sequence[tuple[str, int]], token_ids: Sequence[int]) -> None:
        self._truth = truth
        self._stages = [
            {stage: stage_key(stage, layer) for stage in stages}
            for stages, (_, layer) in zip(stages_of(labels), labels, strict=True)
        ]
        self._results: dict[tuple[str, str], list[StageResult]] = {}
        for result in truth.validation.findings.results:
            key = result.run, stage_key(result.stage, result.layer)
            self._results.setdefault(key, []).append(result)
        manifest = truth.validation.reference.manifest
        self._n_prompt = len(manifest.prompt.token_ids)
        pairs = zip(token_ids, manifest.greedy.token_ids, strict=False)
        same = next((i for i, (ours, theirs) in enumerate(pairs) if ours != theirs), len(token_ids))
        self._n_same_steps = min(same, manifest.n_decode)

    def pass_of(self, step: StepRecord) -> str | None:
        """The reference's pass that computed the same rows, or those of the prompt together; None without such.

        Values of a prompt that is computed in several steps are those of the whole prompt.
        """
        chunk = step.chunks[0]
        if chunk.is_prompt:
            return PROMPT_PASS
        number = chunk.first_position - self._n_prompt
        return f"decode/{number}" if chunk.n_tokens == 1 and number < self._n_same_steps else None

    def arguments(self, step: StepRecord, index: int) -> dict[str, Any]:
        """What the slice of an instruction carries beside its times, by stage: `tensor` and `difference`, if any."""
        run = self.pass_of(step)
        if run is None:
            return {}
        statistics = self._truth.statistics.get(run, {})
        keys = self._stages[index].items()
        tensor = {stage: statistics[key].model_dump(mode="json") for stage, key in keys if key in statistics}
        difference = {
            stage: {_WAYS[result.way]: brief(result) for result in found}
            for stage, key in keys
            if (found := self._results.get((run, key)))
        }
        return {name: values for name, values in (("tensor", tensor), ("difference", difference)) if values}
