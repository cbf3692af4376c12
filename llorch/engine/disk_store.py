"""KV blocks kept on disk, so that prefixes are found after a restart too: written behind, read at once.

Nothing that goes wrong here fails a request: what cannot be read is computed, what cannot be written is left out.
"""

from __future__ import annotations

import hashlib
import logging
import queue
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from llorch.engine.block_files import BlockFiles
from llorch.engine.prefix_keys import KEY_BYTES
from llorch.kernels.layout import ATTENTION_PART, KV_BLOCK_SIZE
from llorch.machine.user_folders import make_own_folder
from llorch.model.kv_cache import KVCache
from llorch.open_model import OpenModel
from llorch.settings import Settings
from llorch.version import __version__

logger = logging.getLogger(__name__)

MAX_QUEUED = 64
"""Blocks that may wait to be written; further ones are not kept."""

CLOSE_S = 10.0
"""How long to wait at the end for what is still to be written."""

_FORMAT = 1


class DiskStore:
    """A `BlockStore` in a folder. A thread of its own writes."""

    def __init__(self, files: BlockFiles, kv_cache: KVCache) -> None:
        """Set up.

        Args:
            files: where the blocks are kept.
            kv_cache: the blocks' numbers are of this cache.
        """
        self._files = files
        self._arrays = (kv_cache.keys, kv_cache.values)
        self._writer = _Writer()

    def holds(self, key: bytes) -> bool:
        """Whether a copy of the block of this key is probably there."""
        return self._files.holds(key)

    def load(self, key: bytes, block: int) -> bool:
        """Fill `block` from its copy; False if that is gone or damaged."""
        content = self._files.read(key)
        if content is None:
            return False
        begin = 0
        for array in self._arrays:
            place = array[:, block]
            place[...] = np.frombuffer(content, array.dtype, place.size, begin).reshape(place.shape)
            begin += place.nbytes
        return True

    def save(self, key: bytes, block: int) -> None:
        """Begin to keep a copy of `block`, unless too many wait to be written."""
        if self._files.holds(key) or self._writer.n_queued >= MAX_QUEUED or self._writer.has_failed:
            return
        try:
            content = b"".join(array[:, block].tobytes() for array in self._arrays)
        except MemoryError:
            return
        self._writer.put(lambda: self._files.write(key, content))

    def note_use(self, keys: Sequence[bytes]) -> None:
        """The blocks of a text, the first first, were used now; the end of a text is needed least."""
        if keys and self._writer.n_queued < MAX_QUEUED:
            last_first = list(reversed(keys))
            self._writer.put(lambda: self._files.note_use(last_first))

    def drop(self, keys: Iterable[bytes]) -> None:
        """Keep the copies of these no longer."""
        listed = list(keys)
        if listed:
            self._writer.put(lambda: self._files.drop(listed))

    def close(self) -> None:
        """Wait until everything is written, but not for ever. Idempotent."""
        self._writer.close()


class _Writer:
    """Does one thing after another on a thread that belongs to no engine, so that a dropped one can go.

    Attributes:
        has_failed: whether something could not be written; nothing more is tried then.
    """

    def __init__(self) -> None:
        self.has_failed = False
        self._tasks: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="llorch-block-writer", daemon=True)
        self._thread.start()

    @property
    def n_queued(self) -> int:
        return self._tasks.qsize()

    def put(self, task: Callable[[], None]) -> None:
        self._tasks.put(task)

    def close(self) -> None:
        self._tasks.put(None)
        self._thread.join(CLOSE_S)

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            if self.has_failed:
                continue
            try:
                task()
            except OSError as error:
                self.has_failed = True
                reason = error.strerror or error
                logger.warning(
                    "prefix cache on disk: cannot be written (%s); nothing more is kept there", reason
                )
            except Exception as error:
                self.has_failed = True
                logger.error("prefix cache on disk: %s", type(error).__name__, exc_info=error)


def open_store(settings: Settings, loaded: OpenModel, kv_cache: KVCache) -> DiskStore | None:
    """The store of the settings; None if they want none, or, with a warning, if its folder cannot be used."""
    if settings.prefix_cache_dir is None or not settings.prefix_cache:
        return None
    root = Path(settings.prefix_cache_dir)
    fault = make_own_folder(root)
    if not fault:
        block_bytes = KVCache.bytes_per_block(loaded.config, kv_cache.kv_type)
        max_bytes = settings.prefix_cache_dir_mib << 20
        try:
            files = BlockFiles(root := root.absolute(), identity_of(loaded, kv_cache), block_bytes, max_bytes)
            logger.info("prefixes are kept in %s too (%d MiB now)", root, files.n_bytes >> 20)
            return DiskStore(files, kv_cache)
        except OSError as error:
            fault = str(error.strerror or error)
    logger.warning("prefix_cache_dir: %s cannot be used (%s); prefixes are kept in memory only", root, fault)
    return None


def identity_of(loaded: OpenModel, kv_cache: KVCache) -> bytes:
    """A hash of all that decides the bits of keys and values: the weights, the sizes, the type of the cache, llorch.

    Not which kernels compute them, nor how many threads: these give the same bits.
    """
    sums = (KV_BLOCK_SIZE, ATTENTION_PART)  # in which pieces attention adds
    kind = (_FORMAT, __version__, kv_cache.kv_type, *sums, sys.byteorder, repr(loaded.config))
    digest = hashlib.sha256(repr(kind).encode())
    for name, tensor in sorted(loaded.source.tensors.items()):
        digest.update(f"{name} {tensor.type.name} {tensor.shape} ".encode())
        tensor.hash_into(digest)
    if loaded.llama.residence.kind == "packed":
        loaded.source.forget_pages()
    return digest.digest()[:KEY_BYTES]
