"""Simulated steps in a file of timelines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llorch.trace.perfetto import Timeline
from llorch.trace.records import ChunkRecord, EngineState, StepRecord
from llorch.trace.simulate.handover import Handover
from llorch.trace.simulate.measured_step import MeasuredOperation, MeasuredStep
from llorch.trace.simulate.simulation import Costs, Outcome, simulate
from llorch.trace.simulate.timelines import add_outcomes

OPERATIONS = (
    MeasuredOperation("attn_q", 0, 8e-6, 400, 4),
    MeasuredOperation("attn_k", 0, 4e-6, 200, 2),
    MeasuredOperation("rope_store", 0, 2e-6, 0, 1),
    MeasuredOperation("attend", 0, 2e-6, 3200, 2),
)
BYTES_PER_S = 400e6
"""attend waits for its bytes, the others do not."""


def step() -> MeasuredStep:
    stamps = np.zeros((4, 1, 2), np.int64)
    shown = StepRecord(
        0, (0, 1), 1, (ChunkRecord("a", 0, 1, 4, False, 1),), 1, stamps, EngineState(1, 0, 1, 0, 0, 0)
    )
    return MeasuredStep(1, 1, 1, 1, 1, 0.0, OPERATIONS, 16e-6, 0.0, shown)


@pytest.fixture(scope="module")
def outcomes() -> list[Outcome]:
    costs = Costs(BYTES_PER_S, {1: Handover(0.0, 0.0), 2: Handover(0.5e-6, 1e-6)})
    return simulate(step(), 2, [1, 2], costs)


@pytest.fixture(scope="module")
def events(
    outcomes: list[Outcome], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[dict[str, Any]]]:
    """Events by process."""
    path = tmp_path_factory.mktemp("trace") / "t.json"
    timeline = Timeline(1000)
    add_outcomes(timeline, outcomes, 4000)
    timeline.write(path, {})
    document = json.loads(Path(path).read_bytes())["traceEvents"]
    names = {e["pid"]: e["args"]["name"] for e in document if e["name"] == "process_name"}
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names.values()}
    for event in document:
        if event["ph"] != "M":
            found[names[event["pid"]]].append(event)
    return found


def slices(events: list[dict[str, Any]]) -> list[tuple[str, float, float]]:
    return [(e["name"], e["ts"], e["dur"]) for e in events if e["ph"] == "X"]


def test_an_operation_that_waits_for_memory_shows_the_wait_inside(
    events: dict[str, list[dict[str, Any]]],
) -> None:
    assert slices(events["simulated: 1 engine, none"]) == [
        ("attn_q", 3, 8),
        ("attn_k", 11, 4),
        ("rope_store", 15, 2),
        ("attend", 17, 8),
        ("waits for memory", 19, 6),
    ]


def test_a_counter_shows_how_many_transfers_are_under_way(events: dict[str, list[dict[str, Any]]]) -> None:
    counted = [(e["ts"], e["args"]["value"]) for e in events["simulated: 1 engine, none"] if e["ph"] == "C"]
    assert counted == [(3, 1), (4, 0), (11, 1), (11.5, 0), (17, 1), (25, 0)]


def test_pieces_of_a_shared_operation_are_one_slice_on_each_engine(
    events: dict[str, list[dict[str, Any]]], outcomes: list[Outcome]
) -> None:
    shared = [e for e in events["simulated: 2 engines, shared"] if e["ph"] == "X"]
    assert sorted(e["name"] for e in shared if e["name"] != "waits for memory") == [
        "attend", "attend", "attn_k", "attn_k", "attn_q", "attn_q", "rope_store",
    ]  # fmt: skip
    first = [e for e in shared if e["name"] == "attn_q"]
    assert [(e["ts"], e["dur"]) for e in first] == [(4, 4), (4, 4)], (
        "a microsecond later: threads have to begin"
    )
    assert sum(e["args"]["bytes"] for e in shared if "bytes" in e["args"]) == sum(
        o.n_bytes for o in OPERATIONS
    )
    assert len([node for node in outcomes[-1].nodes if node.label == "attn_q"]) == 4


def test_slices_say_which_heads_they_are_and_whether_they_are_critical(
    events: dict[str, list[dict[str, Any]]],
) -> None:
    heads = [e for e in events["simulated: 2 engines, heads"] if e["ph"] == "X" and e["name"] == "attend"]
    assert {e["args"]["part"] for e in heads} == {"heads 1/2", "heads 2/2"}
    alone = [e for e in events["simulated: 1 engine, none"] if e["ph"] == "X" and e["args"]]
    assert all(e["args"]["critical"] for e in alone)
    operations = [e for e in events["simulated: 2 engines, operations"] if e["ph"] == "X" and e["args"]]
    assert {e["name"]: e["args"]["critical"] for e in operations} == {
        "attn_q": True, "attn_k": False, "rope_store": True, "attend": True,
    }  # fmt: skip


def test_what_a_prompt_has_in_flight_are_steps() -> None:
    prompt = MeasuredStep(8, 1, 1, 1, 1, 0.0, OPERATIONS, 16e-6, 0.0, step().shown)
    costs = Costs(BYTES_PER_S, {1: Handover(0.0, 0.0)})
    policies = [outcome.policy for outcome in simulate(prompt, 2, [4], costs)]
    assert policies == ["operations", "heads", "2 steps", "4 steps", "shared"]
    policies = [outcome.policy for outcome in simulate(prompt, 2, [64], costs)]
    assert policies == ["operations", "heads", "2 steps", "8 steps", "shared"]
