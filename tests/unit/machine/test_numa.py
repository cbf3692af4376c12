"""NUMA nodes as Linux lists them, read from a folder made for the test; odd lists are never trusted."""

from __future__ import annotations

from pathlib import Path

import pytest

from llorch.machine.numa import MOST_NODES, NODES, cpus_of_list, cpus_of_nodes
from llorch.machine.threads import allowed_cpus


def machine(folder: Path, *lists: str) -> Path:
    """A folder with a node for each list of CPUs."""
    for number, text in enumerate(lists):
        (folder / f"node{number}").mkdir()
        (folder / f"node{number}" / "cpulist").write_text(text)
    return folder


@pytest.mark.parametrize(
    ("text", "cpus"), [("0\n", {0}), ("0-3,8,10-11\n", {0, 1, 2, 3, 8, 10, 11}), (" 5 , 7-7", {5, 7})]
)
def test_lists_of_cpus_are_read(text: str, cpus: set[int]) -> None:
    assert cpus_of_list(text) == cpus


@pytest.mark.parametrize(
    "text", ["", "\n", "a", "3-1", "-1", "0-", "0,,1", "0-99999999999", "0-65536", "0-3:1/2", "²"]
)
def test_what_is_no_list_of_cpus_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no range of CPUs"):
        cpus_of_list(text)


def test_each_node_has_its_cpus(tmp_path: Path) -> None:
    folder = machine(tmp_path, "0-3,8-11\n", "4-7,12-15\n")
    assert cpus_of_nodes(set(range(16)), folder) == [(0, 1, 2, 3, 8, 9, 10, 11), (4, 5, 6, 7, 12, 13, 14, 15)]


def test_only_allowed_cpus_count_and_nodes_without_any_are_left_out(tmp_path: Path) -> None:
    folder = machine(tmp_path, "0-3", "4-7", "", "8-11")
    assert cpus_of_nodes({1, 2, 9}, folder) == [(1, 2), (9,)]


@pytest.mark.parametrize("lists", [[], ["nonsense"], ["0-1"], ["0-1", "x"]])
def test_a_machine_that_does_not_say_is_one_node(lists: list[str], tmp_path: Path) -> None:
    assert cpus_of_nodes({0, 1, 2}, machine(tmp_path, *lists)) == [(0, 1, 2)]


def test_a_cpu_that_two_nodes_claim_is_the_first_ones(tmp_path: Path) -> None:
    assert cpus_of_nodes({0, 1, 2}, machine(tmp_path, "0-1", "1-2")) == [(0, 1), (2,)]


def test_no_more_nodes_are_looked_at_than_the_limit(tmp_path: Path) -> None:
    folder = machine(tmp_path, *(str(i) for i in range(MOST_NODES + 1)))
    assert cpus_of_nodes(set(range(MOST_NODES + 1)), folder) == [tuple(range(MOST_NODES + 1))]


def test_this_machines_nodes_hold_its_cpus() -> None:
    nodes = cpus_of_nodes(allowed_cpus(), NODES)
    assert sorted(cpu for node in nodes for cpu in node) == sorted(allowed_cpus())
