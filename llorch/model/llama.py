"""`Llama`: runs the forward pass on a batch and a KV cache."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llorch.kernels import step as st
from llorch.kernels.batch_rows import check_rows
from llorch.kernels.candidates import CANDIDATE_UNITS
from llorch.kernels.jit import Unit, load_units
from llorch.kernels.kv_types import KV_TYPES
from llorch.kernels.layout import FLOAT_LANES, round_up
from llorch.kernels.ops import attend_queries, rope
from llorch.kernels.ops import scores as scores_op
from llorch.kernels.program import Program, Tap
from llorch.kernels.team import TEAM_UNITS, Team, check_threads
from llorch.machine.places import node_groups, places_for
from llorch.machine.process import OwningProcess
from llorch.machine.threads import default_threads
from llorch.model.batch import Batch
from llorch.model.config import ModelConfig
from llorch.model.forward_pass import WRITTEN_OUT, RunState, write_program
from llorch.model.kv_cache import KVCache
from llorch.model.residence import Residence, choose_residence
from llorch.model.rope_table import RopeTable
from llorch.model.row_cost import RowCost
from llorch.model.step_inputs import StepInputs
from llorch.model.thread_choice import ThreadChoice
from llorch.model.weights import Weights
from llorch.observe.probe import Probe
from llorch.observe.stamps import Stamps
from llorch.progress import Progress, ignore_progress


@dataclass(frozen=True, slots=True)
class _Written:
    """The forward pass for one type of cache: the program, its records, counters for each instruction."""

    program: Program
    records: NDArray[np.int64]
    counters: NDArray[np.int64]


_SCORES = (st.SCORES_RAW, st.SCORES_WEIGHTS, st.SCORES_STATES)
"""What the observed program writes out of attention."""


class Llama:
    """A model ready to compute.

    Args:
        config: sizes.
        weights: checked weights; their file must stay open while the model lives.
        n_threads: most compute threads, 0 for the CPU's default; small steps take fewer if that is faster.
        n_batch: most rows of one forward pass.
        residence: ``"auto"``, ``"packed"`` or ``"mapped"``.
        kv_type: number type of the caches to come; another one costs compiling its kernels later.
        numa: ``"off"``, ``"distribute"``, ``"isolate"`` or ``"numactl"`` (`machine.places.node_groups`).
        pin_threads: whether every thread is bound to a core.
        progress: told about ``"kernels"`` that these weights need and that the cache has, ``"compiling"`` others, and
            ``"loading"`` the weights.

    Attributes:
        places: where the threads run.
        residence: where the weights live (`Residence`).
        residence_reason: why.
        row_cost: what rows cost, about.
        states: float32 (n_batch, n_embd); its first rows are what left the last layer for those of the latest batch.

    Raises:
        ModelError: a block scale is NaN or infinite.
        SettingsError: there cannot be so many threads, or not in such places.
    """

    def __init__(
        self,
        config: ModelConfig,
        weights: Weights,
        *,
        n_threads: int = 0,
        n_batch: int = 512,
        residence: str = "auto",
        kv_type: str = "f16",
        numa: str = "off",
        pin_threads: bool = False,
        progress: Progress = ignore_progress,
    ) -> None:
        self.config = config
        self.weights = weights
        self.n_batch = n_batch
        groups = node_groups(numa)
        self.n_threads = n_threads or default_threads([cpu for group in groups for cpu in group])[0]
        check_threads(self.n_threads)
        self.places = places_for(self.n_threads, groups, pin=pin_threads)
        kind, self.residence_reason = choose_residence(weights, residence)
        self.residence = Residence(weights, kind, self.places.n_nodes)
        self._rope = RopeTable(config, weights.rope_freqs)
        self._state = RunState.empty(config, self.residence.weights, n_batch)
        self.states = self._state.x.view(n_batch)
        self._logits = self._shown = np.zeros((0, config.n_vocab), np.float32)
        self._step = np.zeros(st.STEP_SIZE, np.int64)
        self._step[st.N_NODES], self._step[st.TEAM_THREADS] = self.places.n_nodes, self.n_threads
        self._inputs = StepInputs(self._step, n_batch, config.n_vocab, config.n_head_kv, self.n_threads)
        self._stamps: Stamps | None = None
        self._lock = threading.Lock()
        self._owner = OwningProcess()
        self._programs: dict[tuple[str, bool], _Written] = {}
        units = _units(self.residence, self._write(kv_type, False))
        load_units(units, lambda what, *share: progress(what if what == "kernels" else "compiling", *share))
        self._kv_type = kv_type
        self._fused = self._written(kv_type, observed=False)
        self.residence.fill(self.places, progress)
        self._choice = ThreadChoice(self.n_threads)
        self.row_cost = RowCost.of(config)
        n_rep = config.n_head // config.n_head_kv
        attention_bytes = attend_queries.scratch_bytes(n_rep, config.head_dim)
        scratch_bytes = max(attention_bytes, self.residence.scratch_bytes())
        self._team = Team(self.n_threads, scratch_bytes, self.places.cpus)

    def _write(self, kv_type: str, observed: bool) -> Program:
        kv = KV_TYPES[kv_type]
        return write_program(self.config, self.residence.weights, self._state, kv, observed=observed)

    def _written(self, kv_type: str, *, observed: bool) -> _Written:
        """The program for a type of cache, written when it is first wanted."""
        key = kv_type, observed
        if key not in self._programs:
            program = self._write(*key)
            counters = np.zeros((len(program), self.places.n_nodes), np.int64)
            self._programs[key] = _Written(program, program.records(), counters)
        return self._programs[key]

    @property
    def labels(self) -> list[tuple[str, int]]:
        """(operation, layer) of every instruction, for timelines; layer -1 outside the layers."""
        return self._fused.program.labels

    def labels_of(self, *, observed: bool) -> list[tuple[str, int]]:
        """`labels` of the observed program, or of the other one."""
        return self._written(self._kv_type, observed=observed).program.labels

    @property
    def thread_idents(self) -> list[int]:
        """Of the compute threads beside the one that calls `forward`."""
        return self._team.thread_idents

    def new_stamps(self, max_bytes: int | None = None, *, observed: bool = False) -> Stamps:
        """Room for `forward`'s time stamps, of the observed program or of the other one; `max_bytes` as `Stamps`'s."""
        n_instructions = len(self.labels_of(observed=observed))
        return Stamps(n_instructions, self.n_threads, max_bytes, is_observed=observed)

    def forward(
        self,
        batch: Batch,
        kv_cache: KVCache,
        probe: Probe | None = None,
        stamps: Stamps | None = None,
    ) -> NDArray[np.float32]:
        """Compute a batch: its keys and values go into the cache, logits of its output rows come back.

        Args:
            batch: at most `n_batch` rows, with positions inside the blocks of their tables.
            kv_cache: cache of this model; changed.
            probe: sees (and may replace) named intermediates; the observed program is then run piece by piece.
            stamps: filled with the CPU's tick counter at begin and end of every instruction. With a probe they must be
                of the observed program.

        Returns:
            float32 (n_outputs, n_vocab), valid until the next call.

        Raises:
            KernelError: the model is closed; `ForkedError` in a forked process.
            ValueError: the batch does not fit, or points outside the vocabulary, the tables or itself.
        """
        self._owner.check()
        with self._lock:
            n_outputs = batch.n_outputs
            self._fill_step(batch, kv_cache, n_outputs)
            if stamps is not self._stamps:
                self._step[st.STAMPS], self._stamps = stamps.address if stamps is not None else 0, stamps
            if probe is not None or (stamps is not None and stamps.is_observed):
                self._run_observed(batch, kv_cache.kv_type, probe, stamps, n_outputs)
            else:
                fused = self._written(kv_cache.kv_type, observed=False)
                last = len(fused.program) if n_outputs else fused.program.n_without_outputs
                work = 0.0
                if n_outputs < batch.n_rows:  # rows of prompts are among them
                    work = self.row_cost.price(batch.n_rows, int(batch.positions.sum()))
                n_active = self._choice.choose(batch.n_rows, work)
                begun_s = time.perf_counter()
                self._team.run(fused.records, 0, last, self._step, fused.counters, n_active)
                self._choice.record(time.perf_counter() - begun_s)
            if n_outputs != len(self._shown):  # to cut it out of the others takes a while in cold caches
                self._shown = self._logits[:n_outputs, : self.config.n_vocab]
            return self._shown

    def _fill_step(self, batch: Batch, cache: KVCache, n_outputs: int) -> None:
        """Write down what a step reads; `cache` must stay alive while it runs."""
        if not 0 < batch.n_rows <= self.n_batch:
            raise ValueError(f"a batch has 1 to {self.n_batch} rows, got {batch.n_rows}")
        step = self._step
        if n_outputs > len(self._logits):
            width = round_up(self.config.n_vocab, FLOAT_LANES)
            self._logits = np.zeros((n_outputs, width), np.float32)
            step[st.LOGITS], step[st.LOGITS_STRIDE] = self._logits.ctypes.data, self._logits.strides[0]
        self._rope.ensure(self._inputs.fill(batch) + 1)
        step[st.KEYS : st.BLOCK_VALUE_BYTES + 1] = cache.places
        step[st.ROPE_TABLE] = self._rope.address

    def _run_observed(
        self, batch: Batch, kv_type: str, probe: Probe | None, stamps: Stamps | None, n_outputs: int
    ) -> None:
        """Run the observed program, piece by piece where the probe wants to see what is between the pieces."""
        if stamps is not None and not stamps.is_observed:
            raise ValueError("stamps: expected those of the observed program, since there is a probe")
        observed = self._written(kv_type, observed=True)
        program, n_rows = observed.program, batch.n_rows
        last = len(program) if n_outputs or probe is not None else program.n_without_outputs
        keep = self._room_for_scores(batch) if stamps is not None else {}
        begun = 0

        def run(last: int) -> None:
            nonlocal begun
            self._team.run(observed.records, begun, last, self._step, observed.counters)
            begun = last

        for i, (label, layer) in enumerate(program.labels if probe is not None else ()):
            assert probe is not None
            if label == scores_op.LABEL:
                run(i)
                names = [name for name in ("kq", "kq_soft_max") if probe.wants(name, layer)]
                if names:
                    keep = keep or self._room_for_scores(batch)
                    run(i + WRITTEN_OUT)
                    for name in names:
                        probe.tap(name, layer, keep[name])
                elif stamps is None:
                    begun = i + WRITTEN_OUT
            wanted = [t for t in program.taps.get(i, []) if probe.wants(t.name, t.layer)]
            if wanted:
                run(i + 1)
            for tap in wanted:
                _show(probe, tap, n_outputs if tap.is_output else n_rows)
        run(last)
        if probe is not None and probe.wants("result_output", -1):
            probe.tap("result_output", -1, self._logits[:n_outputs, : self.config.n_vocab])

    def _room_for_scores(self, batch: Batch) -> dict[str, NDArray[np.float32]]:
        """Buffers for what attention writes out, by the names of the probe."""
        shape = (self.config.n_head, batch.n_rows, int(batch.positions.max()) + 1)
        buffers = {"kq": np.zeros(shape, np.float32), "kq_soft_max": np.zeros(shape, np.float32)}
        buffers["states"] = np.zeros((batch.n_rows, self.config.n_head, 2), np.float32)
        for index, buffer in zip(_SCORES, buffers.values(), strict=True):
            self._step[index] = buffer.ctypes.data
        self._step[st.SCORES_HEAD_STRIDE], self._step[st.SCORES_ROW_STRIDE] = buffers["kq"].strides[:2]
        return buffers

    def close(self) -> None:
        """Stop the thread team; the model cannot compute any more."""
        self._team.close()


def required_units(config: ModelConfig, weights: Weights, residence: str, kv_type: str) -> list[Unit]:
    """The kernels that a model with these weights needs; arguments as `Llama`'s."""
    placed = Residence(weights, choose_residence(weights, residence)[0])
    state = RunState.empty(config, placed.weights, 1)
    return _units(placed, write_program(config, placed.weights, state, KV_TYPES[kv_type], observed=False))


def _units(residence: Residence, program: Program) -> list[Unit]:
    return [
        *TEAM_UNITS,
        check_rows,
        *CANDIDATE_UNITS,
        rope.fill_rope_table,
        *residence.units(),
        *program.units(),
    ]


def _show(probe: Probe, tap: Tap, n_rows: int) -> None:
    """Hand a buffer to the probe; what it writes into the view replaces the value."""
    view = tap.rows.view(n_rows)
    shaped = view.reshape(n_rows, *tap.shape)
    probe.tap(tap.name, tap.layer, shaped)
    if not np.shares_memory(shaped, view):
        view[:] = shaped.reshape(view.shape)
