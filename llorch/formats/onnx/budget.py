"""A bound on what is read of a file's messages, so that no file makes the reader slow or large."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from llorch.formats.protobuf import BYTES, Field, Message

MAX_FIELDS = 2_000_000
"""Of all messages together: a graph of 126 layers, each of 200 nodes, has a fifth of them."""

MAX_NODES = 200_000
"""After local functions have taken the place of their calls."""

MAX_DEPTH = 12
"""Of graphs inside nodes."""


class Budget:
    """Counts fields, numbers and nodes while a file is read."""

    def __init__(self) -> None:
        self._fields_left = MAX_FIELDS
        self._nodes_left = MAX_NODES

    def fields(self, message: Message, single: Collection[int] = ()) -> Iterator[Field]:
        """The fields of a message.

        Args:
            message: to be read.
            single: numbers of fields that may stand there once only.

        Raises:
            OnnxError: the message is malformed, or the file has too many fields.
        """
        seen: set[int] = set()
        for field in message.fields():
            self.take(message, 1)
            if field.number in single:
                if field.number in seen:
                    raise message.fault(
                        f"field {field.number} stands twice in the message at {message.begin}"
                    )
                seen.add(field.number)
            yield field

    def numbers(self, message: Message, field: Field, limit: int) -> list[int]:
        """The integers of a repeated field, packed or not; at most `limit` of them."""
        if field.wire_type == BYTES and field.end - field.value > 10 * limit:
            raise message.fault(f"field {field.number} at offset {field.value} has more than {limit} numbers")
        numbers = message.numbers(field)
        self.take(message, len(numbers))
        return numbers

    def take(self, message: Message, n: int) -> None:
        """Count `n` fields.

        Raises:
            OnnxError: the file has too many.
        """
        self._fields_left -= n
        if self._fields_left < 0:
            raise message.fault(f"has more than {MAX_FIELDS} fields; no graph of a Llama model has as many")

    def take_node(self, message: Message) -> None:
        """Count a node.

        Raises:
            OnnxError: the graph has too many.
        """
        self._nodes_left -= 1
        if self._nodes_left < 0:
            raise message.fault(f"has more than {MAX_NODES} nodes; no graph of a Llama model has as many")
