"""Where compute threads run: anywhere, on a NUMA node, or each on a core of its own."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from llorch.errors import SettingsError
from llorch.machine.numa import NODES, cpus_of_nodes
from llorch.machine.threads import CPUS, allowed_cpus, core_of

logger = logging.getLogger(__name__)

CAN_BIND = hasattr(os, "sched_setaffinity")
"""Whether this system lets a thread choose its CPUs."""


@dataclass(frozen=True, slots=True)
class Places:
    """CPUs for the threads of a team.

    Attributes:
        cpus: for each thread those that it may use; none: any that the process may.
        nodes: for each thread the number of its node, ascending from 0; equal neighbours share memory.
        cpus_of_nodes: the CPUs of each of these nodes; empty where they do not matter.
    """

    cpus: tuple[tuple[int, ...], ...]
    nodes: tuple[int, ...]
    cpus_of_nodes: tuple[tuple[int, ...], ...] = ()

    @property
    def n_nodes(self) -> int:
        """Nodes that threads are on; 1 where they do not matter."""
        return max(1, len(self.cpus_of_nodes))

    def __str__(self) -> str:
        """In words, for people: ``"any CPU"``, ``"CPU 0, 1, 4, one each"``, or how many are on which node."""
        if not any(self.cpus):
            return "any CPU"
        if all(len(cpus) == 1 for cpus in self.cpus):
            return f"CPU {', '.join(str(cpus[0]) for cpus in self.cpus)}, one each"
        counts = [self.nodes.count(node) for node in range(self.n_nodes)]
        return ", ".join(
            f"{n} on the {len(cpus)} CPUs of a node"
            for n, cpus in zip(counts, self.cpus_of_nodes, strict=True)
        )


def node_groups(
    numa: str, *, allowed: Iterable[int] | None = None, current: int | None = None, folder: Path = NODES
) -> tuple[tuple[int, ...], ...]:
    """CPUs of the nodes that the setting `numa` chooses; nothing where nodes do not matter.

    Args:
        numa: ``"distribute"``: all nodes; ``"isolate"``: the one on which this thread runs now; ``"numactl"`` and
            ``"off"``: those CPUs that the process was given, without a look at nodes.
        allowed: CPUs that the process may use; default: what the system says.
        current: the CPU on which this thread runs; default: what the system says.
        folder: the system's folder of nodes.
    """
    if numa in ("off", "numactl"):
        return ()
    nodes = cpus_of_nodes(set(allowed_cpus() if allowed is None else allowed), folder)
    if len(nodes) == 1:
        return ()
    if numa == "isolate":
        here = _current_cpu() if current is None else current
        nodes = [node for node in nodes if here in node] or nodes[:1]
    return tuple(nodes)


def places_for(
    n_threads: int,
    groups: tuple[tuple[int, ...], ...],
    *,
    pin: bool,
    allowed: Iterable[int] | None = None,
    cpu_folder: Path = CPUS,
) -> Places:
    """Where `n_threads` threads run: neighbours on the same node, as many on each.

    Args:
        n_threads: threads.
        groups: from `node_groups`.
        pin: whether each gets a CPU of its own, on a physical core of its own as long as there are any.
        allowed: CPUs that the process may use; default: what the system says.
        cpu_folder: the system's folder of CPUs.

    Raises:
        SettingsError: there are more threads to pin than CPUs, or this system cannot bind threads.
    """
    if not groups and not pin:
        return Places(((),) * n_threads, (0,) * n_threads)
    if not CAN_BIND:
        raise SettingsError("pin_threads, numa: this system does not let threads choose their CPUs")
    everywhere = tuple(sorted(allowed_cpus() if allowed is None else allowed))
    shared = groups or (everywhere,)
    nodes = tuple(i * len(shared) // n_threads for i in range(n_threads))
    if not pin:
        return Places(tuple(shared[node] for node in nodes), nodes, groups)
    cpus: list[tuple[int, ...]] = []
    for node, group in enumerate(shared):
        wanted = nodes.count(node)
        if wanted > len(group):
            where = f"node {node} has" if len(shared) > 1 else "this process may use"
            raise SettingsError(
                f"pin_threads: {wanted} threads want a CPU each, and {where} {len(group)}: choose fewer threads"
            )
        cpus += [(cpu,) for cpu in _cores_first(group, cpu_folder)[:wanted]]
    return Places(tuple(cpus), nodes, groups)


def _cores_first(cpus: Iterable[int], folder: Path) -> list[int]:
    """One CPU of each physical core, then the second of each, and so on."""
    turns: dict[str, int] = {}
    ranked = []
    for cpu in sorted(cpus):
        core = core_of(cpu, folder) or str(cpu)
        turns[core] = turns.get(core, -1) + 1
        ranked.append((turns[core], cpu))
    return [cpu for _, cpu in sorted(ranked)]


def _current_cpu() -> int:
    """The CPU on which this thread runs; -1 where the system does not say."""
    try:
        # The name of the program, in parentheses, may hold anything; the CPU is the 39th field, 37 behind it.
        return int(Path("/proc/thread-self/stat").read_text().rpartition(")")[2].split()[36])
    except (OSError, ValueError, IndexError):
        return -1


def bind(cpus: tuple[int, ...]) -> None:
    """Let this thread run on `cpus` only; nothing where there are none, a warning where the system forbids it."""
    if not cpus:
        return
    try:
        os.sched_setaffinity(0, cpus)
    except OSError as error:
        logger.warning(
            "a compute thread cannot be bound to CPU %s: %s", ", ".join(map(str, cpus)), error.strerror
        )


@contextmanager
def bound(cpus: tuple[int, ...]) -> Iterator[None]:
    """Let this thread run on `cpus` only for a while: it is the caller's, which may have other things to do."""
    if not cpus:
        yield
        return
    before = os.sched_getaffinity(0)
    bind(cpus)
    try:
        yield
    finally:
        bind(tuple(before))
