"""A cursor over the bytes of an untrusted file: every read is checked against what remains."""

from __future__ import annotations

import mmap
import struct

from llorch.errors import GGUFError
from llorch.formats.printed import quote

Buffer = mmap.mmap | bytes

U32 = struct.Struct("<I")
U64 = struct.Struct("<Q")


class HeaderReader:
    """Reads little-endian values one after the other.

    Each method takes `what`, the thing being read, for its error message. Sizes are Python integers: they
    neither wrap nor allocate.

    Attributes:
        buffer: the whole file.
        n_bytes: its size.
        offset: where the next read starts; never beyond `n_bytes`.
    """

    def __init__(self, buffer: Buffer, label: str) -> None:
        self.buffer = buffer
        self.n_bytes = len(buffer)
        self.offset = 0
        self._label = label

    @property
    def n_remaining(self) -> int:
        """Bytes after the cursor."""
        return self.n_bytes - self.offset

    def error(self, message: str) -> GGUFError:
        """An exception for this file, to be raised by the caller."""
        return GGUFError(f"{self._label}: {message}")

    def require(self, n_bytes: int, what: str) -> None:
        """Fail unless `n_bytes` more bytes are there."""
        if n_bytes > self.n_remaining:
            raise self.error(
                f"the file ends inside {what}: {n_bytes} bytes needed at offset {self.offset}, "
                f"{self.n_remaining} remain"
            )

    def unpack(self, layout: struct.Struct, what: str) -> int | float | bool:
        """One number of the given layout."""
        self.require(layout.size, what)
        (value,) = layout.unpack_from(self.buffer, self.offset)
        self.offset += layout.size
        return value  # type: ignore[no-any-return]

    def u32(self, what: str) -> int:
        """An unsigned 32-bit integer."""
        return int(self.unpack(U32, what))

    def u64(self, what: str) -> int:
        """An unsigned 64-bit integer."""
        return int(self.unpack(U64, what))

    def count(self, what: str, item_bytes: int, limit: int) -> int:
        """A 64-bit count of items of at least `item_bytes` each: at most `limit`, and they fit the rest of the file."""
        n = self.u64(what)
        if n * item_bytes > self.n_remaining:
            raise self.error(
                f"{what} is {n}, which needs at least {n * item_bytes} bytes; {self.n_remaining} remain"
            )
        if n > limit:
            raise self.error(f"{what} is {n}; at most {limit} are accepted")
        return n

    def text(self, what: str, limit: int) -> str:
        """A length-prefixed string of at most `limit` bytes that must be UTF-8."""
        n = self.count(f"the length of {what}", 1, limit)
        raw = self.buffer[self.offset : self.offset + n]
        self.offset += n
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.error(f"{what} is not valid UTF-8: {quote(raw)} (byte {error.start})") from error

    def name(self, what: str, limit: int) -> str:
        """A `text` that is not empty and has no NUL characters."""
        name = self.text(what, limit)
        if not name:
            raise self.error(f"{what} is empty")
        if "\0" in name:
            raise self.error(f"{what} contains a NUL character: {quote(name)}")
        return name
