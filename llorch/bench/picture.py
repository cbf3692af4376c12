"""The picture of `llorch bench --plot FILE`: tokens per second over threads, sequences and context, and their limit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TypeAlias

from llorch.bench.plots import HOW_TO_GET, Panel, speeds
from llorch.bench.tests import BenchResult
from llorch.convert.written_beside import check_place, written_beside
from llorch.errors import InputError
from llorch.formats.printed import printable
from llorch.version import __version__

Of: TypeAlias = Callable[[BenchResult], int]

DEPTH = "tokens in the context before"
_AXES: dict[str, Of] = {
    "threads": lambda result: result.n_threads,
    "sequences": lambda result: result.n_sequences,
    DEPTH: lambda result: result.depth,
}


def check_picture(path: Path) -> None:
    """Refuse, before anything is measured, a picture that could not be drawn or written.

    Raises:
        InputError: matplotlib is absent, the name does not end in .png, or no file can appear there.
    """
    if find_spec("matplotlib") is None:
        raise InputError(f"--plot: {HOW_TO_GET}")
    if path.suffix.lower() != ".png":
        raise InputError(f"--plot: expected a name that ends in .png, got {printable(Path(path.name))}")
    try:
        check_place(path, ())
    except InputError as error:
        raise InputError(f"--plot: {error}") from None


def draw(results: Sequence[BenchResult], path: Path) -> None:
    """Draw what was measured into the PNG file `path`: a panel for each of threads, sequences and context that varies.

    Raises:
        InputError: the file cannot be written.
    """
    first = results[0]
    varied = [name for name, of in _AXES.items() if len({of(result) for result in results}) > 1]
    panels = [_panel(name, varied, results) for name in varied or ["threads"]]
    title = f"{first.model}: {first.kernels} kernels, {first.weights} weights, {first.kv_type} KV cache"
    png = speeds(title, "tokens per second", panels, f"llorch {__version__} bench")
    write(png, path)


def write(png: bytes | None, path: Path) -> None:
    """Write a picture, or say why there is none.

    Raises:
        InputError: it was not drawn, or the file cannot be written.
    """
    if png is None:
        raise InputError(f"--plot: {HOW_TO_GET}")
    with written_beside(path, len(png), lambda _: None) as file:
        file.write(0, png)


def _panel(name: str, varied: Sequence[str], results: Sequence[BenchResult]) -> Panel:
    """Results over what `name` counts: a line for prompts, and for the fewest and the most sequences.

    What else varies stays at one value: all threads, and the shortest context.
    """
    of = _AXES[name]
    counts = {result.n_sequences for result in results}
    lines: defaultdict[str, list[BenchResult]] = defaultdict(list)
    for result in results:
        if (
            (name == "threads" or result.n_threads == max(r.n_threads for r in results))
            and (name == DEPTH or result.depth == min(r.depth for r in results))
            and (name == "sequences" or result.n_sequences in (min(counts), max(counts)))
        ):
            lines[_line_name(result, name)].append(result)
    if name in varied:
        lines = defaultdict(list, {n: line for n, line in lines.items() if len({of(r) for r in line}) > 1})
    return Panel(
        name,
        {n: [(of(r), r.tokens_per_s, r.stddev) for r in line] for n, line in lines.items()},
        {n: [(of(r), r.limit_tokens_per_s) for r in line] for n, line in lines.items()},
    )


def _line_name(result: BenchResult, axis: str) -> str:
    """The test without what the axis counts."""
    test, *together = result.test.split(" @ ")[0].split("@")
    return test if axis == "sequences" or not together else f"{test}@{together[0]}"
