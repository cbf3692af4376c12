"""Files of KV blocks in a folder: written whole or not at all, checked when read, the least recently used removed.

A file is a header, then keys and values of the block in all layers. The header names what the block was computed with
(the *identity*) and its key, and has a hash of everything; what does not agree counts as absent.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from llorch.engine.prefix_keys import KEY_BYTES

_MAGIC = b"llorchKV"
_SUFFIX = ".kv"
_DIGEST_BYTES = 32
_UNFINISHED_S = 3600.0
"""No process takes so long to write a file."""


class BlockFiles:
    """The files below one folder: a folder for each identity, a file for each block.

    One thread writes; `holds` and `read` may be called from another.
    """

    def __init__(self, root: Path, identity: bytes, block_bytes: int, max_bytes: int) -> None:
        """Look at what is there.

        Args:
            root: may have folders of other identities; they count for `max_bytes`.
            identity: what the blocks are computed with, `KEY_BYTES` bytes.
            block_bytes: size of a block.
            max_bytes: most that all files below `root` may take together.

        Raises:
            OSError: the folder cannot be made or read.
        """
        self._identity = identity
        self._block_bytes = block_bytes
        self._max_bytes = max_bytes
        self._folder = root / identity.hex()[:32]
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._sizes = _files_below(root)  # least recently used first
        self._n_bytes = sum(self._sizes.values())
        self._keys = {bytes.fromhex(path.stem) for path in self._sizes if path.parent == self._folder}

    @property
    def n_bytes(self) -> int:
        """Size of all files below the root."""
        return self._n_bytes

    def holds(self, key: bytes) -> bool:
        """Whether a file of this key was there when last seen."""
        return key in self._keys

    def read(self, key: bytes) -> bytes | None:
        """The block of this key; None if there is no file that can be trusted."""
        content = self._content(self._path(key))
        head = self._head(key)
        if content is not None and content.startswith(head):
            begin = len(head) + _DIGEST_BYTES
            block = content[begin:]
            if content[len(head) : begin] == _digest(head, block):
                return block
        self._keys.discard(key)
        return None

    def write(self, key: bytes, block: bytes) -> None:
        """Keep `block`; removes others where the files take more than they may.

        Raises:
            OSError: it cannot be written.
        """
        if key in self._keys:
            return
        path, head = self._path(key), self._head(key)
        descriptor, temporary = tempfile.mkstemp(dir=self._folder, prefix="unfinished-")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.writelines((head, _digest(head, block), block))
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        self._n_bytes -= self._sizes.pop(path, 0)  # a damaged one of this key
        self._sizes[path] = self._file_bytes
        self._n_bytes += self._file_bytes
        self._keys.add(key)
        while self._n_bytes > self._max_bytes:
            self._remove(next(iter(self._sizes)))

    def note_use(self, keys: Iterable[bytes]) -> None:
        """These were used now, the last of them most recently."""
        for key in keys:
            path = self._path(key)
            if path in self._sizes:
                self._sizes[path] = self._sizes.pop(path)
                with contextlib.suppress(OSError):
                    os.utime(path)

    def drop(self, keys: Iterable[bytes]) -> None:
        """Remove the files of these."""
        for key in keys:
            if (path := self._path(key)) in self._sizes:
                self._remove(path)

    @property
    def _file_bytes(self) -> int:
        return len(_MAGIC) + 2 * KEY_BYTES + _DIGEST_BYTES + self._block_bytes

    def _path(self, key: bytes) -> Path:
        return self._folder / (key.hex() + _SUFFIX)

    def _head(self, key: bytes) -> bytes:
        return _MAGIC + self._identity + key

    def _content(self, path: Path) -> bytes | None:
        """What is in a file, if that is as long as it should be."""
        try:
            # Not to wait for a pipe that somebody has put there.
            descriptor = os.open(
                path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
            )
            with os.fdopen(descriptor, "rb") as file:
                if os.fstat(descriptor).st_size != self._file_bytes:
                    return None
                return file.read(self._file_bytes)
        except OSError:
            return None

    def _remove(self, path: Path) -> None:
        self._n_bytes -= self._sizes.pop(path)
        if path.parent == self._folder:
            self._keys.discard(bytes.fromhex(path.stem))
        with contextlib.suppress(OSError):
            path.unlink()


def _digest(head: bytes, block: bytes) -> bytes:
    digest = hashlib.blake2b(head, digest_size=_DIGEST_BYTES)
    digest.update(block)
    return digest.digest()


def _files_below(root: Path) -> dict[Path, int]:
    """Sizes of the files of all identities, the least recently used first; unfinished ones are removed."""
    found: list[tuple[float, Path, int]] = []
    for folder in root.iterdir():
        if not _is_hex(folder.name, 16) or folder.is_symlink() or not folder.is_dir():
            continue
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):  # another server may remove it just now
                    path = Path(entry.path)
                    info = entry.stat(follow_symlinks=False)
                    if path.suffix == _SUFFIX and _is_hex(path.stem, KEY_BYTES):
                        found.append((info.st_mtime, path, info.st_size))
                    elif entry.name.startswith("unfinished-") and info.st_mtime < time.time() - _UNFINISHED_S:
                        path.unlink()
    return {path: size for _, path, size in sorted(found)}


def _is_hex(text: str, n_bytes: int) -> bool:
    return len(text) == 2 * n_bytes and not set(text) - set("0123456789abcdef")
