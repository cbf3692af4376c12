"""The part of `llorch inspect` about the graph of an ONNX model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llorch.cli import console


def print_graph(graph: Mapping[str, Any]) -> None:
    """Print the inventory of a graph for people."""
    print("\ngraph")
    opsets = ", ".join(f"{domain} {version}" for domain, version in graph["opsets"].items())
    rows: list[tuple[str, ...]] = [
        ("IR version", str(graph["ir_version"])),
        ("opsets", console.one_line(opsets)),
    ]
    rows += [(name, console.one_line(graph[name])) for name in ("producer", "name") if graph[name]]
    rows += [(console.one_line(key), console.one_line(value)) for key, value in graph["metadata"].items()]
    console.print_rows(rows)
    print(f"\noperations ({graph['n_nodes']})")
    console.print_rows(
        [
            (console.one_line(row["op_type"]), console.one_line(row["domain"]), str(row["count"]))
            for row in graph["operations"]
        ]
    )
    for title in ("inputs", "outputs"):
        print(f"\n{title} ({len(graph[title])})")
        console.print_rows([_value(row) for row in graph[title]])
    tensors = graph["initializers"]
    print(f"\ninitializers ({sum(row['count'] for row in tensors)})")
    console.print_rows(
        [(row["dtype"], str(row["count"]), console.human_bytes(row["bytes"])) for row in tensors]
    )
    if sparse := graph["sparse_initializers"]:
        console.print_rows([("sparse", console.one_line(name)) for name in sparse])
    if files := graph["files"]:
        print(f"\nexternal files ({len(files)})")
        console.print_rows([_file(row) for row in files])


def _value(row: Mapping[str, Any]) -> tuple[str, ...]:
    shape = row["shape"]
    dims = "unknown shape" if shape is None else " x ".join("?" if dim is None else str(dim) for dim in shape)
    return console.one_line(row["name"]), row["type"] or "unknown type", console.one_line(dims)


def _file(row: Mapping[str, Any]) -> tuple[str, ...]:
    checksum = f"SHA-1 {row['checksum']}" if row["checksum"] else ""
    return console.one_line(row["location"]), console.human_bytes(row["bytes"]), checksum
