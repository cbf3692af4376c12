"""Where compute threads run: on nodes, on cores of their own, or anywhere."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path

import pytest

from llorch.errors import SettingsError
from llorch.machine import places
from llorch.machine.places import Places, bind, bound, node_groups, places_for
from llorch.machine.threads import allowed_cpus

EVERYTHING = range(8)


@pytest.fixture
def nodes(tmp_path: Path) -> Path:
    """Two nodes of four CPUs."""
    for number, text in enumerate(["0-1,4-5", "2-3,6-7"]):
        (tmp_path / f"node{number}").mkdir()
        (tmp_path / f"node{number}" / "cpulist").write_text(text)
    return tmp_path


@pytest.fixture
def cores(tmp_path: Path) -> Path:
    """Four cores with two CPUs each: 0 and 4, 1 and 5, ..."""
    for cpu in EVERYTHING:
        folder = tmp_path / f"cpu{cpu}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{cpu % 4},{cpu % 4 + 4}\n")
    return tmp_path


def test_distribute_takes_all_nodes_and_isolate_the_one_it_runs_on(nodes: Path) -> None:
    assert node_groups("distribute", allowed=EVERYTHING, folder=nodes) == ((0, 1, 4, 5), (2, 3, 6, 7))
    assert node_groups("isolate", allowed=EVERYTHING, current=6, folder=nodes) == ((2, 3, 6, 7),)
    assert node_groups("isolate", allowed=EVERYTHING, current=-1, folder=nodes) == ((0, 1, 4, 5),)


@pytest.mark.parametrize("numa", ["off", "numactl"])
def test_without_a_wish_nodes_do_not_matter(numa: str, nodes: Path) -> None:
    assert node_groups(numa, allowed=EVERYTHING, folder=nodes) == ()


@pytest.mark.parametrize("numa", ["off", "distribute", "isolate", "numactl"])
def test_on_one_node_nothing_changes(numa: str, nodes: Path) -> None:
    groups = node_groups(numa, allowed={0, 1}, current=0, folder=nodes)
    assert places_for(2, groups, pin=False) == Places(((), ()), (0, 0))


def test_neighbours_are_on_the_same_node(nodes: Path) -> None:
    groups = node_groups("distribute", allowed=EVERYTHING, folder=nodes)
    shared = places_for(5, groups, pin=False)
    assert shared.nodes == (0, 0, 0, 1, 1)
    assert shared.cpus == (groups[0],) * 3 + (groups[1],) * 2
    assert shared.n_nodes == 2


def test_pinned_threads_take_whole_cores_first(nodes: Path, cores: Path) -> None:
    groups = node_groups("distribute", allowed=EVERYTHING, folder=nodes)
    assert places_for(4, groups, pin=True, cpu_folder=cores).cpus == ((0,), (1,), (2,), (3,))
    assert places_for(6, groups, pin=True, cpu_folder=cores).cpus == ((0,), (1,), (4,), (2,), (3,), (6,))
    alone = places_for(3, (), pin=True, allowed={1, 5, 2, 7}, cpu_folder=cores)
    assert alone == Places(((1,), (2,), (7,)), (0, 0, 0))


def test_more_pinned_threads_than_cpus_are_refused(cores: Path) -> None:
    with pytest.raises(
        SettingsError, match="pin_threads: 3 threads want a CPU each, and this process may use 2"
    ):
        places_for(3, (), pin=True, allowed={0, 1}, cpu_folder=cores)
    with pytest.raises(SettingsError, match="2 threads want a CPU each, and node 0 has 1"):
        places_for(4, ((0,), (1, 2)), pin=True, cpu_folder=cores)


def test_places_are_told_in_words(nodes: Path, cores: Path) -> None:
    groups = node_groups("distribute", allowed=EVERYTHING, folder=nodes)
    assert str(places_for(2, (), pin=False)) == "any CPU"
    assert str(places_for(3, groups, pin=True, cpu_folder=cores)) == "CPU 0, 1, 2, one each"
    assert str(places_for(3, groups, pin=False)) == "2 on the 4 CPUs of a node, 1 on the 4 CPUs of a node"


def test_a_system_that_cannot_bind_threads_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "CAN_BIND", False)
    assert places_for(2, (), pin=False).n_nodes == 1
    with pytest.raises(SettingsError, match="does not let threads choose"):
        places_for(2, (), pin=True)


def test_a_thread_is_bound_for_a_while_and_no_other_with_it() -> None:
    everything, one = os.sched_getaffinity(0), min(allowed_cpus())
    seen: list[set[int]] = []
    with bound((one,)):
        seen.append(os.sched_getaffinity(0))
        assert places._current_cpu() == one
    assert seen == [{one}]
    assert os.sched_getaffinity(0) == everything

    def work() -> None:
        bind((one,))
        seen.append(os.sched_getaffinity(0))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen[1] == {one}
    assert os.sched_getaffinity(0) == everything


def test_a_cpu_that_cannot_be_had_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    before = os.sched_getaffinity(0)
    with caplog.at_level(logging.WARNING):
        bind((60_000,))
    assert "cannot be bound to CPU 60000" in caplog.text
    assert os.sched_getaffinity(0) == before
