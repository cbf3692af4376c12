"""One recorded run of onnxruntime: a prompt pass and greedy decode steps, intermediate values as further outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from llorch.formats.onnx.model import OnnxModel
from llorch.formats.onnx.open_graph import OpenGraph, read_graph
from llorch.formats.onnx.recognise import find_in
from llorch.formats.onnx.symbolic.evaluation import Evaluation, Probe
from llorch.model.config import ModelConfig
from tools.onnx_exports.onnxruntime_logits import feed_of
from tools.reference.checkpoint_recording import Run, StageArrays, chosen_layers, record_passes
from tools.reference.ggml_tensor import ReferenceToolError
from tools.reference.onnx_stages import Values, stages_of
from tools.reference.reference_nodes import Sizes, Stage


def with_outputs(path: Path, names: set[str]) -> onnxruntime.InferenceSession:
    """A session of a graph that also gives the named values; no operations are fused."""
    model = onnx.load(path)
    there = {output.name for output in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(names - there))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def model_sizes(path: Path) -> Sizes:
    """Sizes of the model in the graph."""
    with OnnxModel(path) as model:
        config = ModelConfig.from_metadata(model.metadata)
    return Sizes(
        n_layer=config.n_layer,
        n_embd=config.n_embd,
        n_head=config.n_head,
        n_head_kv=config.n_head_kv,
        head_dim=config.head_dim,
        n_ff=config.n_ff,
        n_vocab=config.n_vocab,
    )


class GraphRun:
    """Runs the graph on all tokens so far, from position 0 on, and keeps the stages of the last ones."""

    def __init__(self, path: Path, opened: OpenGraph, width: int) -> None:
        self.kept = StageArrays()
        self._opened, self._width = opened, width
        self._so_far: list[int] = []
        run = Evaluation(opened.graph, Probe(np.array([[3, 2, 1]])))
        find_in(run, None)
        self._session = with_outputs(path, {t.value for t in run.space.terms if t.value and t.op != "Past"})

    def decode(self, token_ids: list[int], position: int) -> NDArray[np.float32]:
        """Logits of the tokens: float32 (tokens, n_vocab)."""
        assert position == len(self._so_far)
        self._so_far += token_ids
        n = len(token_ids)
        run = Evaluation(self._opened.graph, Probe(np.array([self._so_far])))
        stages = stages_of(run.space, find_in(run, None))
        names = [output.name for output in self._session.get_outputs()]
        numbers = self._session.run(names, feed_of(self._session, self._so_far, width=self._width))
        values = Values(run.space, dict(zip(names, numbers, strict=True)))
        for name, form in stages.items():
            if self.kept.wants(name):
                array = values.of(form)
                last = array[:, -n:] if name.startswith("kq") and not name.startswith("kqv") else array[-n:]
                term = run.space.term_of(int(form.index.ravel()[0]))
                stage = Stage(
                    name, term.node.name, term.node.op_type, term.value or "inside of the node", "f32"
                )
                self.kept.keep(stage, lambda _n, _n_kv, last=last: np.ascontiguousarray(last))  # type: ignore[misc]
        return values.of(stages["result_output"])[-n:]


def record(
    path: Path,
    prompt_ids: list[int],
    *,
    layers: list[int] | None = None,
    n_decode: int = 10,
    decode_stages: str = "all",
) -> Run:
    """Run and record the prompt and the greedy decode steps, as `checkpoint_recording.record` does with llama.cpp.

    Args:
        path: a graph with weights in float32.
        prompt_ids: the prompt, BOS included; at least two tokens.
        layers: layers to keep in full, None for all.
        n_decode: number of decode steps.
        decode_stages: ``"all"`` stages of the steps, or ``"kv"``: rotated K, V and logits only.

    Raises:
        ReferenceToolError: a stage is missing or looks wrong.
    """
    if len(prompt_ids) < 2:
        raise ReferenceToolError("the prompt must have at least two tokens")
    sizes = model_sizes(path)
    layers = chosen_layers(layers, sizes.n_layer)
    opened = read_graph(path)
    try:
        run = GraphRun(path, opened, sizes.head_dim)
        greedy: dict[str, Any] = record_passes(
            run.kept,
            run.decode,
            prompt_ids,
            layers,
            n_layer=sizes.n_layer,
            n_decode=n_decode,
            decode_stages=decode_stages,
        )
    finally:
        opened.close()
    return Run(
        recording=run.kept,
        sizes=sizes,
        model_name=path.parent.resolve().name,
        layers=layers,
        prompt_token_ids=prompt_ids,
        greedy={**greedy, "end_of_sequence_at": []},
        settings={"graph_optimization_level": "disabled", "n_threads": 1},
        identity={"program": "onnxruntime", "version": onnxruntime.__version__},
    )
