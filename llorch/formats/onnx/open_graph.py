"""An ONNX file and the files of its external data, mapped, with the graph that they hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from llorch.errors import OnnxError
from llorch.formats.mapped_file import MappedFile
from llorch.formats.onnx.external import ExternalFiles
from llorch.formats.onnx.graph import Graph
from llorch.formats.onnx.proto import read_model
from llorch.formats.printed import printable
from llorch.formats.protobuf import Message


@dataclass(frozen=True, slots=True, eq=False)
class OpenGraph:
    """A graph whose files are open.

    Attributes:
        path: of the graph.
        graph: its tensors are views on the files.
        file: the graph's own.
        external: the others.
    """

    path: Path
    graph: Graph
    file: MappedFile
    external: ExternalFiles

    def files(self) -> Iterator[MappedFile]:
        """The graph's own file, then the external ones in the order of their names."""
        yield self.file
        yield from self.external

    @property
    def sizes(self) -> Mapping[str, int]:
        """Bytes of the external files by their location."""
        return {location: len(file.bytes) for location, file in self.external.files.items()}

    @property
    def n_bytes(self) -> int:
        """Size of all files together."""
        return sum(len(file.bytes) for file in self.files())

    def close(self) -> None:
        """Close all files; views stay valid. A second call does nothing."""
        for file in self.files():
            file.close()


def read_graph(path: Path) -> OpenGraph:
    """Map a graph and the files it names, and check everything in it but the values of its tensors.

    Raises:
        OnnxError: a file is missing, malformed or of a version that is not supported.
    """
    file = MappedFile(path, "an ONNX model", OnnxError)
    external = ExternalFiles(path)
    try:
        message = Message(file.bytes, 0, len(file.bytes), printable(path), OnnxError)
        return OpenGraph(path, read_model(message, external), file, external)
    except BaseException:
        file.close()
        external.close()
        raise
