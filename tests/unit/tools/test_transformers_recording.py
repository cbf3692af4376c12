"""What both programs that dump intermediates share, and how transformers' heads become GGUF's; without either."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tools.reference.checkpoint_recording import StageArrays, chosen_layers, record_passes, wanted_stages
from tools.reference.ggml_tensor import ReferenceToolError
from tools.reference.reference_nodes import GLOBAL_STAGES, LAYER_STAGES, Stage
from tools.reference.transformers_recording import neighbouring_pairs


def test_partners_of_rope_stand_side_by_side_in_every_head() -> None:
    heads = np.arange(2 * 8, dtype=np.float32).reshape(1, 2, 8)
    expected = [[0, 4, 1, 5, 2, 6, 3, 7], [8, 12, 9, 13, 10, 14, 11, 15]]
    assert neighbouring_pairs(heads)[0].tolist() == expected


def stage(name: str, where: str = "here") -> Stage:
    return Stage(name, where, "output", "weight", "f32")


def kept(recording: StageArrays, name: str, values: object, where: str = "here") -> None:
    recording.keep(stage(name, where), lambda n, n_kv: np.array(values, np.float32))


def test_a_pass_without_one_of_its_stages_is_refused() -> None:
    recording = StageArrays()
    recording.start("prefill", ["l_out-0", "result_output"], 1, 0)
    kept(recording, "result_output", [[1, 2]])
    with pytest.raises(ReferenceToolError, match="no node was found for l_out-0"):
        recording.finish(np.array([[1, 2]], np.float32))


def test_a_stage_that_two_places_answer_for_is_refused() -> None:
    recording = StageArrays()
    recording.start("prefill", ["l_out-0"], 1, 0)
    kept(recording, "l_out-0", [[1]])
    with pytest.raises(ReferenceToolError, match="two nodes answer for prefill/l_out-0"):
        kept(recording, "l_out-0", [[1]])
    recording.start("decode/0", ["l_out-0"], 1, 1)
    with pytest.raises(ReferenceToolError, match="another node"):
        kept(recording, "l_out-0", [[1]], "there")


def test_softmax_rows_that_do_not_add_up_and_other_logits_are_refused() -> None:
    recording = StageArrays()
    recording.start("prefill", ["kq_soft_max-0", "result_output"], 1, 0)
    kept(recording, "kq_soft_max-0", [[[0.5, 0.4]]])
    kept(recording, "result_output", [[1, 2]])
    with pytest.raises(ReferenceToolError, match="result_output is not what was returned"):
        recording.finish(np.array([[1, 3]], np.float32))
    with pytest.raises(ReferenceToolError, match=r"a row.s sum is off by 0\.1"):
        recording.finish(np.array([[1, 2]], np.float32))


def test_greedy_steps_feed_the_best_token_at_the_next_position() -> None:
    recording = StageArrays()
    fed: list[tuple[list[int], int]] = []

    def decode(token_ids: list[int], position: int) -> NDArray[np.float32]:
        fed.append((token_ids, position))
        logits = np.eye(8, dtype=np.float32)[[(token_id + 1) % 8 for token_id in token_ids]] * 2
        for name in wanted_stages([0], 1, LAYER_STAGES + GLOBAL_STAGES):
            if recording.wants(name):
                kept(recording, name, [[1]] if name.startswith("kq_soft_max") else logits)
        return logits

    greedy = record_passes(recording, decode, [3, 4], [0], n_layer=1, n_decode=2, decode_stages="kv")
    assert greedy == {"token_ids": [5, 6, 7], "margins": [2.0, 2.0, 2.0]}
    assert fed == [([3, 4], 0), ([5], 2), ([6], 3)]
    assert {key for key in recording.arrays if key.startswith("decode/1")} == {
        "decode/1/Kcur_rope-0", "decode/1/Vcur-0", "decode/1/result_output",
    }  # fmt: skip


def test_layers_that_the_model_lacks_are_refused() -> None:
    assert chosen_layers(None, 3) == [0, 1, 2]
    assert chosen_layers([2, 0, 2], 3) == [0, 2]
    for layers in ([3], [-1], []):
        with pytest.raises(ReferenceToolError, match="the model has layers 0 to 2"):
            chosen_layers(layers, 3)
