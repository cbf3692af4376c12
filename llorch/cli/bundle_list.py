"""`llorch validate --verify` without a bundle: the proof bundles there are."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from llorch.cli import console
from llorch.errors import InputError, ReferenceDumpError
from llorch.formats.printed import printable
from llorch.validation.bundle import INDEX, Bundle, proof_folder

LIST: Final = Path()
"""What `--verify` is, this very object, where no bundle is named."""
_SAYS = {True: "says passed", False: "says FAILED", None: "judges nothing"}


def list_bundles(args: argparse.Namespace) -> int:
    """Print the bundles in the folder of `--proof-dir`, the newest last, and what each says of itself.

    Raises:
        InputError: there are none, or a flag asks for more than a list.
    """
    for name in ("verify_key", "sign"):
        if getattr(args, name):
            raise InputError(f"--{name.replace('_', '-')} is about one bundle: name it with --verify BUNDLE")
    root = proof_folder(args.proof_dir)
    found = bundles_in(root)
    if not found:
        raise InputError(
            f"there are no proof bundles in {printable(root)}; llorch validate writes one, --proof-dir names "
            "another folder"
        )
    if args.json:
        console.print_json(
            [
                {"bundle": str(b.folder), **b.index.model_dump(include={"kind", "created", "passed"})}
                for b in found
            ]
        )
        return 0
    rows = [(b.index.kind, b.index.created or "", _SAYS[b.index.passed], str(b.folder)) for b in found]
    console.print_rows([[console.one_line(cell) for cell in row] for row in rows], indent="")
    print("nothing was checked; llorch validate --verify BUNDLE checks one")
    return 0


def bundles_in(root: Path) -> list[Bundle]:
    """The bundles in `root` and in its folders, by kind and time; what cannot be read as one is left out."""
    found = []
    for path in sorted({*root.glob(f"*/{INDEX}"), *root.glob(f"*/*/{INDEX}")}):
        try:
            found.append(Bundle.open(path.parent))
        except ReferenceDumpError:
            continue
    return sorted(found, key=lambda bundle: (bundle.index.kind, bundle.index.created or "", bundle.folder))


def refuse_folder_of_bundles(folder: Path) -> None:
    """Say what to do where somebody names the folder that holds bundles.

    Raises:
        InputError: `folder` is none itself, and holds some.
    """
    if not (folder / INDEX).exists() and (found := bundles_in(folder)):
        raise InputError(
            f"{printable(folder)} is no bundle, but holds {len(found)}: llorch validate --verify --proof-dir "
            f"{printable(folder)} lists them"
        )
