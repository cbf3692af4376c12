"""Recorded runs, a prompt pass and greedy decode steps, with every wanted stage kept; and those of llama.cpp."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tools.reference.ggml_tensor import GgmlTensor, ReferenceToolError
from tools.reference.llama_cpp_eval import LlamaCppModel
from tools.reference.make_f32_twin import tensor_names
from tools.reference.reference_nodes import GLOBAL_STAGES, LAYER_STAGES, NodeReader, Sizes, Stage

DECODE_KV_STAGES = ("Kcur_rope", "Vcur", "result_output")

Arrays = dict[str, NDArray[Any]]


class StageArrays:
    """Keeps the wanted stages of each pass of a model.

    Attributes:
        arrays: everything recorded so far, by array key.
        stages: where each stage was found, by canonical name.
    """

    def __init__(self) -> None:
        self.arrays: Arrays = {}
        self.stages: dict[str, Stage] = {}
        self._prefix = ""
        self._wanted: frozenset[str] = frozenset()
        self._n = self._n_kv = 0

    def start(self, prefix: str, wanted: list[str], n: int, position: int) -> None:
        """Begin the pass `prefix` with `n` tokens from `position` on; keep the stages in `wanted`."""
        self._prefix, self._wanted, self._n, self._n_kv = prefix, frozenset(wanted), n, position + n

    def wants(self, name: str) -> bool:
        """Whether a stage of this pass is to be kept."""
        return name in self._wanted

    def keep(self, stage: Stage, read: Callable[[int, int], NDArray[np.float32]]) -> None:
        """Keep a stage of this pass; `read` gives its values from the number of tokens of the pass and of the cache."""
        key = f"{self._prefix}/{stage.name}"
        if key in self.arrays:
            raise ReferenceToolError(f"two nodes answer for {key}; is the pass split?")
        if self.stages.setdefault(stage.name, stage) != stage:
            raise ReferenceToolError(
                f"{key} is another node ({stage}) than before ({self.stages[stage.name]})"
            )
        self.arrays[key] = read(self._n, self._n_kv)

    def finish(self, logits: NDArray[np.float32]) -> None:
        """Check that no stage of the pass is missing and that its values are consistent.

        Args:
            logits: float32 [n, n_vocab], as the model's interface returned them.
        """
        missing = sorted(name for name in self._wanted if f"{self._prefix}/{name}" not in self.arrays)
        if missing:
            raise ReferenceToolError(f"{self._prefix}: no node was found for {', '.join(missing)}")
        if not np.array_equal(self.arrays[f"{self._prefix}/result_output"], logits):
            raise ReferenceToolError(f"{self._prefix}: result_output is not what was returned as logits")
        for name in self._wanted:
            if name.startswith("kq_soft_max-"):
                worst = float(np.abs(self.arrays[f"{self._prefix}/{name}"].sum(-1) - 1.0).max())
                if worst > 1e-4:
                    raise ReferenceToolError(
                        f"{self._prefix}/{name}: a row's sum is off by {worst}; other cells?"
                    )


class GraphRecording(StageArrays):
    """Watches llama.cpp's graph."""

    def __init__(self) -> None:
        super().__init__()
        self.reader: NodeReader | None = None

    def watch(self, tensor: GgmlTensor, ask: bool) -> bool:
        """llama.cpp's callback, see `NodeWatcher`."""
        if self.reader is None:  # llama.cpp runs a trial graph while it makes a context
            return False
        stage, reader = self.reader.recognise(tensor), self.reader
        if stage is None or not self.wants(stage.name):
            return False
        if not ask:
            self.keep(stage, lambda n, n_kv: reader.read(tensor, stage.name, n, n_kv))
        return True


def model_sizes(model: LlamaCppModel) -> Sizes:
    """Sizes from the file's metadata.

    Raises:
        ReferenceToolError: another architecture than `llama`, or a size is missing.
    """
    architecture = model.metadata("general.architecture")
    if architecture != "llama":
        raise ReferenceToolError(f"{model.path.name} has architecture {architecture!r}, expected 'llama'")

    def size(key: str, default: int | None = None) -> int:
        text = model.metadata(f"llama.{key}")
        if text is not None and text.isdigit() and int(text) > 0:
            return int(text)
        if text is None and default is not None:
            return default
        raise ReferenceToolError(f"{model.path.name}: llama.{key} is {text!r}, expected one positive number")

    n_embd, n_head = size("embedding_length"), size("attention.head_count")
    return Sizes(
        n_layer=size("block_count"),
        n_embd=n_embd,
        n_head=n_head,
        n_head_kv=size("attention.head_count_kv", n_head),
        head_dim=size("attention.key_length", n_embd // n_head),
        n_ff=size("feed_forward_length"),
        n_vocab=model.n_vocab,
    )


def wanted_stages(layers: list[int], n_layer: int, names: tuple[str, ...]) -> list[str]:
    """Canonical names for the chosen layers; `l_out` of all layers when `names` has it."""
    chosen = [f"{name}-{layer}" for layer in layers for name in LAYER_STAGES if name in names]
    every = [f"l_out-{layer}" for layer in range(n_layer)] if "l_out" in names else []
    return [*dict.fromkeys([*chosen, *every]), *(name for name in GLOBAL_STAGES if name in names)]


def chosen_layers(layers: list[int] | None, n_layer: int) -> list[int]:
    """Layers to keep in full, in order; None for all.

    Raises:
        ReferenceToolError: the model has no such layer.
    """
    chosen = list(range(n_layer)) if layers is None else sorted(set(layers))
    if not chosen or chosen[0] < 0 or chosen[-1] >= n_layer:
        raise ReferenceToolError(f"--layers {layers}: the model has layers 0 to {n_layer - 1}")
    return chosen


def record_passes(
    recording: StageArrays,
    decode: Callable[[list[int], int], NDArray[np.float32]],
    prompt_ids: list[int],
    layers: list[int],
    *,
    n_layer: int,
    n_decode: int,
    decode_stages: str,
) -> dict[str, Any]:
    """Record the prompt and greedy decode steps; returns `token_ids` and `margins` of `Run.greedy`.

    `decode` computes tokens from a position on, and returns the logits of each: float32 [n, n_vocab].
    """
    stages = wanted_stages(layers, n_layer, LAYER_STAGES + GLOBAL_STAGES)
    kept = DECODE_KV_STAGES if decode_stages == "kv" else LAYER_STAGES + GLOBAL_STAGES
    step_stages = wanted_stages(layers, n_layer, kept)
    recording.start("prefill", stages, len(prompt_ids), 0)
    logits = decode(prompt_ids, 0)
    recording.finish(logits)
    greedy: list[int] = []
    margins: list[float] = []
    for step in range(n_decode + 1):
        second, best = np.partition(logits[-1], -2)[-2:]
        greedy.append(int(np.argmax(logits[-1])))
        margins.append(float(f"{float(best) - float(second):.4g}"))
        if step < n_decode:
            position = len(prompt_ids) + step
            recording.start(f"decode/{step}", step_stages, 1, position)
            logits = decode(greedy[-1:], position)
            recording.finish(logits)
    return {"token_ids": greedy, "margins": margins}


@dataclass(frozen=True)
class Run:
    """The result of one recorded run.

    Attributes:
        recording: the arrays, and where they were found.
        sizes: sizes of the model.
        model_name: `general.name` of the file.
        layers: layers kept in full.
        prompt_token_ids: the prompt, BOS included.
        greedy: `token_ids` (one from the prompt pass, one per decode step), the `margins` between the best
            and the second-best logit, and where a token would have ended the generation.
        settings: those of the program that ran.
        identity: its version and build.
    """

    recording: StageArrays
    sizes: Sizes
    model_name: str | None
    layers: list[int]
    prompt_token_ids: list[int]
    greedy: dict[str, Any]
    settings: dict[str, Any]
    identity: dict[str, Any]


def record(
    path: Path,
    prompt: str,
    *,
    layers: list[int] | None = None,
    n_decode: int = 10,
    decode_stages: str = "all",
    build_flags: str | None = None,
) -> Run:
    """Run and record the prompt and the greedy decode steps.

    Args:
        path: GGUF file to run.
        prompt: text; the vocabulary's BOS is added.
        layers: layers to keep in full, None for all.
        n_decode: number of decode steps.
        decode_stages: ``"all"`` stages of the steps, or ``"kv"``: rotated K, V and logits only.
        build_flags: how the library was built, recorded as given.

    Raises:
        ReferenceToolError: llama.cpp cannot run it, or a stage is missing or looks wrong.
    """
    recording = GraphRecording()
    n_tokens_at_most = len(prompt.encode()) + 2 + n_decode
    with LlamaCppModel(path, n_tokens_at_most, recording.watch) as model:
        sizes = model_sizes(model)
        layers = chosen_layers(layers, sizes.n_layer)
        prompt_ids = model.tokenize(prompt)
        recording.reader = NodeReader(model.ggml, sizes, tensor_names(path))
        greedy = record_passes(
            recording,
            lambda token_ids, position: model.decode(token_ids, position, all_rows=True),
            prompt_ids,
            layers,
            n_layer=sizes.n_layer,
            n_decode=n_decode,
            decode_stages=decode_stages,
        )
        ends = [i for i, token_id in enumerate(greedy["token_ids"]) if model.is_end(token_id)]
        return Run(
            recording=recording,
            sizes=sizes,
            model_name=model.metadata("general.name"),
            layers=layers,
            prompt_token_ids=prompt_ids,
            greedy={**greedy, "end_of_sequence_at": ends},
            settings=model.settings(),
            identity=model.identity(build_flags),
        )
