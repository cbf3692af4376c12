#!/usr/bin/env python3
"""Record the ratios that the guards of the kernels' speed compare with, for this design of CPU.

    python -m tools.performance.record_guards

Run it alone on a machine, after a change of the kernels that is meant to change their speed. It measures all guards on
each kernel path of this CPU a few times in turns, prints what changed, and rewrites this CPU's entry of
`tests/perf/guards.json`. Two minutes at most.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

from tools.performance.guards import records, runs

N_ROUNDS = 4
"""Processes for each path; the second best counts, as in the test."""


def table(path: str, values: Mapping[str, Sequence[float]], before: Mapping[str, float]) -> str:
    """The ratios of a path as Markdown: what is recorded, how far the others lie from it, the change."""
    lines = [f"| {path} | ratio | spread | was |", "|---|---|---|---|"]
    for name, found in values.items():
        best = records.second_best(found)
        spread = f"{min(found) / best - 1:+.1%} {max(found) / best - 1:+.1%}"
        was = f"{before[name]:.3g} ({best / before[name] - 1:+.0%})" if name in before else "–"
        lines.append(f"| {name} | {best:.3g} | {spread} | {was} |")
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--path", action="append", help="only this kernel path (may be repeated)")
    parser.add_argument(
        "-r", "--rounds", type=int, default=N_ROUNDS, metavar="N", help="(default: %(default)s)"
    )
    parser.add_argument("--dry-run", action="store_true", help="measure and print, but write nothing")
    args = parser.parse_args(argv)
    paths = runs.runnable_paths()
    if unknown := set(args.path or ()) - set(paths):
        parser.error(f"this CPU cannot run {', '.join(sorted(unknown))}: expected one of {', '.join(paths)}")
    values: dict[str, dict[str, list[float]]] = {path: {} for path in paths if path in (args.path or paths)}
    for _ in range(args.rounds):
        for path, of_path in values.items():
            for name, found in runs.measure(path).items():
                of_path.setdefault(name, []).extend(found)
    before = records.read(records.this_cpu()) if records.TABLE.exists() else {}
    print(f"{records.this_cpu()}\n")
    for path, of_path in values.items():
        print(table(path, of_path, before.get(path, {})))
    if not args.dry_run:
        best = {
            path: {name: records.second_best(found) for name, found in of_path.items()}
            for path, of_path in values.items()
        }
        records.write(records.this_cpu(), best)
        print(records.TABLE)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
