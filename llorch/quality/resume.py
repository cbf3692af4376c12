"""What is kept of an unfinished measurement, so that another process can go on with it.

The file lies in the user's cache folder under a hash of everything the figures depend on: weights, tokens, context,
KV type, kernels, version. It is replaced whole, so it is never half a state.
"""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llorch.kernels import object_cache, paths
from llorch.machine.user_folders import make_own_folder
from llorch.open_model import OpenModel
from llorch.quality.chunks import Chunks

logger = logging.getLogger(__name__)

INTERVAL_S = 2.0
"""Least time between two states that are kept as the work goes on; at its end there is always one."""
_SCHEMA = "llorch-perplexity-state/1"


def state_path(model: OpenModel, chunks: Chunks, *settings: object) -> Path | None:
    """Where the state of a measurement is kept; None where there is no folder for it.

    Args:
        model: all its weights are read, to hash them.
        chunks: what it reads.
        settings: whatever else the figures depend on.
    """
    root = object_cache.cache_root()
    if root is None or make_own_folder(folder := root / "perplexity"):
        return None
    kernels = object_cache.cache_key(), paths.sums()
    about = _SCHEMA, kernels, chunks.token_ids.shape, chunks.bos_id, settings
    digest = hashlib.sha256(repr((about, model.config)).encode())
    digest.update(chunks.token_ids.tobytes())
    for name, tensor in sorted(model.source.tensors.items()):
        digest.update(repr((name, tensor.type.name, tensor.shape)).encode())
        tensor.hash_into(digest)
    return folder / f"{digest.hexdigest()}.npz"


class KeptState:
    """The state of one measurement.

    Attributes:
        n_known: chunks that an earlier process had judged.
    """

    def __init__(self, path: Path | None, arrays: Mapping[str, NDArray[Any]], n_counted: int) -> None:
        """Begin without any.

        Args:
            path: of the file; None keeps nothing.
            arrays: by name, a value for each prediction; filled as chunks are judged.
            n_counted: predictions of a chunk.
        """
        self.n_known = 0
        self._path = path
        self._arrays = arrays
        self._n_counted = n_counted
        self._n_done = self._n_kept = 0
        self._kept_s = time.monotonic()

    def load(self) -> None:
        """Put what is kept into the arrays, if it can be used."""
        found = {} if self._path is None else _read(self._path, self._arrays)
        n = min((len(values) for values in found.values()), default=0)
        if n % self._n_counted or any(len(values) != n for values in found.values()):
            return
        for name, values in found.items():
            self._arrays[name][:n] = values
        self.n_known = self._n_done = self._n_kept = n // self._n_counted

    def saw(self, n_done: int) -> None:
        """Take note that so many chunks are judged, and keep that every other second."""
        self._n_done = n_done
        if time.monotonic() - self._kept_s >= INTERVAL_S:
            self.save()

    def save(self) -> None:
        """Keep what is known. Where that is impossible, a warning says so, and nothing is kept from then on."""
        if self._path is None or self._n_done == self._n_kept:
            return
        n = self._n_done * self._n_counted
        beside = self._path.with_name(f"{self._path.stem}-{secrets.token_hex(8)}.part")
        try:
            with beside.open("xb") as file:
                np.savez(file, **{name: values[:n] for name, values in self._arrays.items()})  # type: ignore[arg-type]
            os.replace(beside, self._path)
        except OSError as error:
            logger.warning(
                "%s: %s; --resume will not find this measurement", self._path, error.strerror or error
            )
            self._path = None
        finally:
            beside.unlink(missing_ok=True)
        self._n_kept, self._kept_s = self._n_done, time.monotonic()

    def remove(self) -> None:
        """Keep nothing any more."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)


@contextmanager
def kept_state(state: KeptState) -> Iterator[KeptState]:
    """Keep the state when the body fails or is interrupted, and remove it when it ends."""
    try:
        yield state
    except BaseException:
        state.save()
        raise
    state.remove()


def _read(path: Path, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The arrays of a file, by the names and of the types of `arrays` and no longer; nothing if they are others."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            found = {name: kept[name] for name in arrays}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return {}
    fits = all(
        found[name].dtype == values.dtype and found[name].ndim == 1 and len(found[name]) <= len(values)
        for name, values in arrays.items()
    )
    return found if fits else {}
