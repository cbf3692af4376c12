"""The engine: one step is schedule, forward, sample, postprocess, for any mix of sequences."""

from __future__ import annotations

import logging
import math
import time
import weakref

from llorch.engine import isolation
from llorch.engine.batches import batch_of
from llorch.engine.block_pool import BlockPool
from llorch.engine.disk_store import open_store
from llorch.engine.drafts import with_drafts
from llorch.engine.events import StartedEvent, StepEvent
from llorch.engine.generations import Generations
from llorch.engine.kv_blocks import KVBlocks
from llorch.engine.kv_plan import plan_kv_cache
from llorch.engine.logits_hash import LogitsHash
from llorch.engine.ngram_drafter import NgramDrafter
from llorch.engine.pace import Pace
from llorch.engine.postprocess import Postprocessor
from llorch.engine.request import Request, duplicate_job, new_seed
from llorch.engine.sampler_factory import SamplerFactory
from llorch.engine.scheduler import Chunk, Scheduler
from llorch.engine.sequence import Sequence
from llorch.engine.snapshot import EngineSnapshot, snapshot_of
from llorch.engine.step_watch import StepWatcher
from llorch.engine.tally import StepTally
from llorch.errors import InputError, KernelError
from llorch.kernels.layout import KV_BLOCK_SIZE
from llorch.model.kv_cache import KVCache
from llorch.open_model import OpenModel, open_model
from llorch.progress import Progress, ignore_progress
from llorch.settings import Settings
from llorch.text.detokenizer import Detokenizer, TextStream

logger = logging.getLogger(__name__)

LOGITS_BYTES = 64 << 20
"""Most memory for logits of prompts whose tokens are judged; they are read in pieces that small."""


class Engine:
    """Runs any number of generations side by side on one model.

    Not thread-safe: its owner calls it from one thread at a time. Only `check` may be called from anywhere.

    Attributes:
        loaded: the model; the engine uses it, its owner closes it.
        n_ctx: most tokens of one sequence, prompt and answer together.
        kv_cache: keys and values of all sequences.
        block_pool: which blocks of the cache are free.
        tally: what its steps have computed.
        watcher: told about every step, if somebody watches; exchange it between two steps.
    """

    watcher: StepWatcher | None = None

    def __init__(self, loaded: OpenModel, settings: Settings) -> None:
        """Set up for `settings.parallel` sequences.

        Raises:
            SettingsError: the KV cache of even one sequence does not fit in memory.
        """
        self.loaded = loaded
        self.tally = StepTally()
        self.n_ctx, n_blocks = plan_kv_cache(
            loaded.config,
            ctx_size=settings.ctx_size,
            n_parallel=settings.parallel,
            kv_type=settings.kv_type,
        )
        self.kv_cache = KVCache(loaded.config, n_blocks, settings.kv_type)
        self.block_pool = BlockPool(n_blocks, KV_BLOCK_SIZE)
        store = open_store(settings, loaded, self.kv_cache)
        self._close = weakref.finalize(self, store.close) if store is not None else None
        self._blocks = KVBlocks(
            self.block_pool,
            settings.parallel,
            self.block_pool.blocks_for(self.n_ctx),
            keeps_prefixes=settings.prefix_cache,
            store=store,
        )
        max_outputs = max(LOGITS_BYTES // (4 * loaded.config.n_vocab), settings.parallel)
        self._scheduler = Scheduler(self._blocks, settings.parallel, max_outputs)
        self._has_drafts = settings.draft == "ngram"
        self._pace = Pace(loaded.llama.n_batch, cost=loaded.llama.row_cost)
        self._generations = Generations(self._scheduler)
        self._postprocessor = Postprocessor(
            loaded.tokenizer, self._generations.emit, self._generations.finish, self._generations.fail
        )
        self._samplers = SamplerFactory(loaded.tokenizer, loaded.config.n_vocab)
        self._shown_name = settings.alias or loaded.name

    def close(self) -> None:
        """Let what is to be kept on disk be written. Idempotent; also done when nobody holds the engine any more."""
        if self._close is not None:
            self._close()

    @property
    def has_work(self) -> bool:
        """Whether `step` has anything to compute or to report."""
        return bool(self._generations)

    def check(self, request: Request) -> None:
        """Refuse a request that could not be generated; touches nothing that changes.

        Raises:
            RequestError: with every fault of the request.
            ContextLengthError: the prompt fills the context.
        """
        if not isinstance(request, Request):
            raise InputError(f"expected a Request, got a value of type {type(request).__name__}")
        request.check(self.loaded.config.n_vocab, self.n_ctx, self.loaded.tokenizer.vocab.eog_ids)

    def prepare(self, request: Request) -> None:
        """Find what the sampler of a checked request needs of the vocabulary. Any thread may ask."""
        self._samplers.prepare(request)

    def add(self, request: Request) -> int:
        """Put a generation into the waiting line; return the seed it uses.

        Raises:
            RequestError: as `check`, or a generation of that name is not finished yet.
        """
        self.check(request)
        if self._generations.find(request.job_id) is not None:
            raise duplicate_job()
        seed = request.params.seed
        if seed is None:
            seed = new_seed()
        sequence = Sequence(
            request=request,
            seed=seed,
            sampler=self._samplers.new(request, seed),
            text_stream=TextStream(
                Detokenizer(self.loaded.tokenizer, request.token_ids, shown_ids=request.shown_ids),
                request.stop,
                request.min_tokens,
            ),
            n_max=min(len(request.token_ids) + request.max_tokens, self.n_ctx),
            submitted_s=time.perf_counter(),
            drafter=NgramDrafter(list(request.token_ids)) if self._has_drafts else None,
            logits_hash=LogitsHash() if request.hashes_logits else None,
        )
        self._scheduler.add(sequence)
        self._generations.add(sequence)
        self._generations.emit(
            sequence, StartedEvent(request.job_id, self._shown_name, sequence.n_prompt, seed)
        )
        return seed

    def abort(self, job_id: str) -> bool:
        """End a generation now, wherever it is; its slot and KV blocks are free when this returns.

        Returns:
            Whether there was one of that name; its `end` event comes with the next `step`.
        """
        sequence = self._generations.find(job_id)
        if sequence is None:
            return False
        self._generations.finish(sequence, "abort")
        return True

    def time_out(self, job_id: str) -> None:
        """End a generation whose deadline has passed, if it is unfinished, as `abort` does."""
        sequence = self._generations.find(job_id)
        if sequence is not None:
            self._generations.time_out(sequence)

    def abort_all(self) -> None:
        """End every generation now."""
        for sequence in self._generations.all():
            self._generations.finish(sequence, "abort")

    def holds(self, request: Request) -> bool:
        """Whether `request` is unfinished: it, and not a later one of the same name."""
        sequence = self._generations.find(request.job_id)
        return sequence is not None and sequence.request is request

    def snapshot(self) -> EngineSnapshot:
        """What the engine is doing. Any thread may ask; while a step runs, numbers may be of its begin or its end."""
        return snapshot_of(self._scheduler, self.block_pool, self.n_ctx, self.kv_cache.n_bytes)

    def step(self) -> list[StepEvent]:
        """Compute one batch and return what happened, in order for each generation.

        An exception ends the generation at fault with an `ErrorEvent`, or, where it is nobody's, those of the batch;
        all others go on as if it had not happened.

        Raises:
            KernelError: the model cannot compute any more.
        """
        begun_s = time.perf_counter()
        if self._scheduler.waiting:
            self._admit()
        chunks = [] if self._has_drafts else self._scheduler.steady()
        is_steady = bool(chunks)
        if not is_steady:
            chunks = self._schedule()
        if chunks:
            if self._has_drafts:
                chunks = with_drafts(chunks, self.loaded.llama.n_batch, self._blocks)
            self._compute(chunks, begun_s, is_steady=is_steady)
            n_rows = len(chunks) if is_steady else sum(c.n_tokens + len(c.draft) for c in chunks)
            self.tally.add_step(n_rows, time.perf_counter() - begun_s)
        return self._generations.take_events()

    def _schedule(self) -> list[Chunk]:
        """The chunks of a step that is not like the one before."""
        n_decoding = self._scheduler.n_decoding
        reading = self._scheduler.reading
        n_before = reading.n_computed if reading is not None else 0
        n_rows = self._pace.n_rows(n_decoding, n_burst=self._scheduler.n_burst, n_before=n_before)
        chunks, failures = isolation.schedule(self._scheduler, n_rows)
        for sequence, error in failures:
            self._generations.fail(sequence, error)
        return chunks

    def _admit(self) -> None:
        """Give places to waiting sequences."""
        for sequence, error in isolation.admit(self._scheduler):
            self._generations.fail(sequence, error)
        for sequence in self._scheduler.running:
            if math.isnan(sequence.admitted_s):
                sequence.admitted_s = time.perf_counter()
                logger.debug("%s begins", sequence.request.job_id, extra=sequence.request.log_fields)

    def _compute(self, chunks: list[Chunk], begun_s: float, *, is_steady: bool = False) -> None:
        """Compute a batch; if that raises, its sequences one by one, with the same bits, and fail those that raise.

        The step began at `begun_s`; in a steady one, nothing of a prompt is among the chunks.
        """
        watcher = self.watcher
        if watcher is not None and chunks is not watcher.chunks:
            watcher.begin_pass(chunks)
        try:
            batch = batch_of(chunks, self._blocks.tables)
            stamps = watcher.stamps if watcher is not None else None
            forward_s = time.perf_counter()
            logits = self.loaded.llama.forward(batch, self.kv_cache, stamps=stamps)
            duration_s = time.perf_counter() - forward_s
            n_prompt = n_looks = 0
            if not is_steady:  # the rows of prompts are the last
                n_prompt = sum(chunk.n_tokens for chunk in chunks if chunk.sequence.n_pending > 1)
                n_looks = int(batch.positions[batch.n_rows - n_prompt :].sum())
            self._pace.record(batch.n_rows - n_prompt, n_prompt, duration_s, n_looks=n_looks)
        except KernelError:
            raise
        except Exception as error:
            if watcher is not None:
                watcher.fail_pass(begun_s)
            if len(chunks) == 1:
                self._generations.fail(chunks[0].sequence, error)
                return
            logger.warning("a step failed (%s); each of its generations goes on alone", type(error).__name__)
            for chunk in chunks:
                self._compute([chunk], time.perf_counter())
        else:
            if not is_steady:
                self.tally.add_prompts(chunks)
                self._generations.report_progress(chunks)
            self._postprocessor.advance(chunks, logits, self.loaded.llama.states)
            if watcher is not None:
                times = begun_s, forward_s, duration_s, time.perf_counter()
                watcher.end_pass(times, self._scheduler, self.block_pool)


def open_configured(
    settings: Settings, progress: Progress = ignore_progress, *, with_chat_template: bool = True
) -> OpenModel:
    """Open the model of `settings`, with their threads, batch size and residence of weights.

    Raises:
        InputError: the file cannot be used.
    """
    return open_model(
        settings.model,
        n_threads=settings.threads,
        numa=settings.numa,
        pin_threads=settings.pin_threads,
        n_batch=settings.batch_size,
        weights=settings.weights,
        kv_type=settings.kv_type,
        override_pre=settings.override_pre,
        with_chat_template=with_chat_template,
        chat_template=settings.chat_template,
        progress=progress,
    )
