"""Where weights live: what is chosen, what it takes, that progress is told, and that files may change."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from llorch.errors import SettingsError
from llorch.kernels.weights.format import Matrix
from llorch.machine.places import Places
from llorch.machine.threads import allowed_cpus
from llorch.model import residence
from llorch.model.residence import PlacedWeights, choose_residence, packed_bytes
from tests.support.naive import bits
from tests.support.small_models import Run, open_model
from tests.support.tiny_models import write_tiny_llama


def test_the_choice_follows_the_memory_there_is(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_model(tiny) as model:
        need = packed_bytes(model.weights)
        monkeypatch.setattr(residence, "available_memory", lambda: 100 * need)
        assert choose_residence(model.weights, "auto")[0] == "packed"
        assert choose_residence(model.weights, "mapped") == ("mapped", "as set")
        monkeypatch.setattr(residence, "available_memory", lambda: need)
        kind, reason = choose_residence(model.weights, "auto")
        assert kind == "mapped"
        assert "MiB packed" in reason
        with pytest.raises(SettingsError, match="'compressed' is not known"):
            choose_residence(model.weights, "compressed")


def matrices_of(placed: PlacedWeights) -> Iterator[Matrix]:
    """The embedding table, then every matrix in the order of `Weights.matrices`."""
    yield placed.token_embd
    for w in placed.layers:
        yield from w.matrices()
    yield placed.output


@pytest.mark.parametrize("tied", [True, False])
def test_packed_weights_take_the_memory_stated_and_mapped_ones_none(tmp_path: Path, tied: bool) -> None:
    path = tmp_path / "tiny.gguf"
    write_tiny_llama(path, tied=tied)
    with open_model(path, residence="packed") as model:
        place = model.llama.residence
        assert place.kind == "packed"
        assert place.n_bytes == packed_bytes(model.weights)
        assert place._taken <= place.n_bytes
        assert all(matrix.address % 64 == 0 for matrix in matrices_of(place.weights))
    with open_model(path, residence="mapped") as model:
        place = model.llama.residence
        assert place.n_bytes == 0
        tensors = [model.weights.token_embd, *model.weights.matrices()]
        assert [m.address for m in matrices_of(place.weights)] == [t.address for t in tensors]


@pytest.mark.parametrize("kind", ["packed", "mapped"])
def test_progress_is_told_up_to_the_end_and_never_goes_back(tiny: Path, kind: str) -> None:
    told: list[tuple[str, int, int]] = []
    with open_model(tiny, residence=kind, n_threads=2, progress=lambda *told_now: told.append(told_now)):
        pass
    stages = [stage for stage in dict.fromkeys(what for what, _, _ in told) if stage != "compiling"]
    assert stages == ["kernels", "loading"]
    for stage in stages:
        done = [n for what, n, _ in told if what == stage or (stage, what) == ("kernels", "compiling")]
        (total,) = {n for what, _, n in told if what == stage}
        assert done == sorted(done)
        assert done[-1] == total


def test_packed_weights_do_not_care_when_the_file_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    write_tiny_llama(path)
    with open_model(path, residence="packed") as model:
        before = Run(model.llama).prefill([1, 5, 9])
        path.write_bytes(b"gone")
        np.testing.assert_array_equal(bits(Run(model.llama).prefill([1, 5, 9])), bits(before))


def test_pieces_of_large_matrices_are_packed_without_gaps(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_model(tiny) as model:
        whole = Run(model.llama).prefill([1, 5, 9])
    monkeypatch.setattr(residence, "_PIECE_BYTES", 3000)
    for kind in ("packed", "mapped"):
        with open_model(tiny, residence=kind, n_threads=2) as model:
            np.testing.assert_array_equal(bits(Run(model.llama).prefill([1, 5, 9])), bits(whole))


def test_tiles_are_packed_by_threads_of_the_node_that_will_read_them(tiny: Path) -> None:
    cpus = sorted(allowed_cpus())
    places = Places(((cpus[0],), (cpus[-1],)), (0, 1), ((cpus[0],), (cpus[-1],)))
    with open_model(tiny) as model:
        alone, shared = (residence.Residence(model.weights, "packed", n_nodes) for n_nodes in (1, 2))
        assert alone._arena is not None
        assert shared._arena is not None
        for arena in (alone._arena, shared._arena):
            arena[:] = 0  # what lies between matrices is never written
        alone.fill(Places(((),), (0,)))
        seen: list[tuple[int, set[int]]] = []

        def watched(job: residence._Job) -> int:
            seen.append((job.node, os.sched_getaffinity(0)))
            return job.work()

        shared._jobs = [dataclasses.replace(j, work=functools.partial(watched, j)) for j in shared._jobs]
        shared.fill(places)
        assert {node for node, _ in seen} == {0, 1}
        assert all(bound_to == {(cpus[0], cpus[-1])[node]} for node, bound_to in seen)
        np.testing.assert_array_equal(shared._arena, alone._arena)
