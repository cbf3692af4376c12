"""The graphs that policies make of a step."""

from __future__ import annotations

import pytest

from llorch.trace.simulate.dependencies import flows
from llorch.trace.simulate.graph import Machine, Node
from llorch.trace.simulate.measured_step import MeasuredOperation
from llorch.trace.simulate.policies import BARRIER, START, operation_graph, shared_graph
from llorch.trace.simulate.schedule import schedule

FUSED = (
    "embed", "norm", "attn_q", "attn_k", "attn_v", "rope_store", "attend", "prepare", "attn_output", "norm",
    "ffn_gate", "ffn_up", "swiglu", "ffn_down", "select", "norm", "output",
)  # fmt: skip
ATTENTION_OBSERVED = (
    "attn_q", "attn_k", "attn_v", "rope", "store", "scores", "softmax_maximum", "softmax_exponential",
    "softmax_normalise", "values", "prepare", "attn_output",
)  # fmt: skip


def step(labels: tuple[str, ...] = FUSED, n_pieces: int = 10, work_s: float = 6.0) -> list[MeasuredOperation]:
    outside = ("embed", "select", "output")
    return [MeasuredOperation(x, -1 if x in outside else 0, work_s, 12, n_pieces) for x in labels]


def waits(nodes: list[Node]) -> list[tuple[str, tuple[str, ...]]]:
    """Every node with the names of what it waits for."""

    def name(node: Node) -> str:
        return f"{node.label} {node.part}".strip()

    return [(name(node), tuple(name(nodes[i]) for i in node.after)) for node in nodes]


def test_operations_wait_for_what_they_read() -> None:
    assert waits(operation_graph(step())) == [
        ("embed", ()),
        ("norm", ("embed",)),
        ("attn_q", ("norm",)),
        ("attn_k", ("norm",)),
        ("attn_v", ("norm",)),
        ("rope_store", ("attn_q", "attn_k", "attn_v")),
        ("attend", ("rope_store",)),
        ("prepare", ("attend",)),
        ("attn_output", ("embed", "prepare")),
        ("norm", ("attn_output",)),
        ("ffn_gate", ("norm",)),
        ("ffn_up", ("norm",)),
        ("swiglu", ("ffn_gate", "ffn_up")),
        ("ffn_down", ("attn_output", "swiglu")),
        ("select", ("ffn_down",)),
        ("norm", ("select",)),
        ("output", ("norm",)),
    ]


def test_heads_wait_for_their_own_and_the_projection_for_all_of_them() -> None:
    nodes = operation_graph(step(ATTENTION_OBSERVED), n_groups=2)
    found = dict(waits(nodes))
    for i in (1, 2):
        own = f"heads {i}/2"
        assert found[f"rope {own}"] == (f"attn_q {own}", f"attn_k {own}")
        assert found[f"store {own}"] == (f"attn_v {own}", f"rope {own}")
        assert found[f"scores {own}"] == (f"rope {own}", f"store {own}")
        assert found[f"softmax_maximum {own}"] == (f"scores {own}",)
        assert found[f"softmax_exponential {own}"] == (f"softmax_maximum {own}",)
        assert found[f"softmax_normalise {own}"] == (f"softmax_exponential {own}",)
        assert found[f"values {own}"] == (f"store {own}", f"softmax_normalise {own}")
    assert found["prepare"] == ("values heads 1/2", "values heads 2/2")
    assert sum(node.work_s for node in nodes) == 6 * len(ATTENTION_OBSERVED)
    assert sum(node.n_bytes for node in nodes) == 12 * len(ATTENTION_OBSERVED)


def test_a_bias_waits_for_its_product_head_by_head() -> None:
    found = dict(waits(operation_graph(step(("norm", "attn_q", "bias", "attn_k")), n_groups=2)))
    assert found["bias heads 1/2"] == ("attn_q heads 1/2",)


def test_an_unknown_operation_waits_for_the_one_before_it() -> None:
    assert [flow.reads for flow in flows(["ffn_gate", "new", "newer"])][1:] == [("gate",), ("gate",)]
    assert waits(operation_graph(step(("new",)))) == [("new", ())]


def test_a_token_attends_to_what_the_one_before_it_has_stored() -> None:
    found = dict(waits(operation_graph(step(), n_in_flight=2)))
    assert found["embed token 2"] == ()
    assert found["attend token 2"] == ("rope_store token 1", "rope_store token 2")
    assert found["attn_q token 2"] == ("norm token 2",)
    found = dict(waits(operation_graph(step(), n_in_flight=3)))
    assert found["attend token 3"] == ("rope_store token 1", "rope_store token 2", "rope_store token 3")


def test_engines_that_share_every_operation_meet_where_the_next_one_needs_its_result() -> None:
    nodes = shared_graph(step(), 2, barrier_s=1, start_s=3)
    labels = [node.label for node in nodes]
    assert labels[:12] == [START, *["embed"] * 10, BARRIER]
    products = [label for label in dict.fromkeys(labels) if label.startswith("attn_")][:3]
    first = labels.index("attn_q")
    assert labels[first : first + 31] == [*(label for label in products for _ in range(10)), BARRIER]
    assert labels.count(BARRIER) == len(FUSED) - 3, "none behind q, k and gate"
    run = schedule(nodes, Machine(2, 1e30), in_program_order=True)
    assert run.makespan_s == pytest.approx(3 + 6 * len(FUSED) / 2 + (len(FUSED) - 4)), (
        "nobody waits behind the last"
    )


def test_the_observed_program_meets_after_every_operation() -> None:
    nodes = shared_graph(step(), 2, barrier_s=1, start_s=0, meets_always=True)
    assert [node.label for node in nodes].count(BARRIER) == len(FUSED)


def test_pieces_that_do_not_come_out_even_keep_an_engine_waiting() -> None:
    nodes = shared_graph(step(("swiglu",), n_pieces=3), 2, barrier_s=0, start_s=0)
    assert schedule(nodes, Machine(2, 1e30), in_program_order=True).makespan_s == 4
    alone = shared_graph(step(("norm",), n_pieces=1), 4, barrier_s=0, start_s=0)
    assert schedule(alone, Machine(4, 1e30), in_program_order=True).makespan_s == 6
