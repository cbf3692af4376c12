#!/usr/bin/env python3
"""Give stored bundles of the first form the attestation and the sums that newer ones are written with.

    python -m tools.proof.seal_bundles proof_bundle/*/*

Both follow from what a bundle holds; nothing in it is changed, and nothing is added that it does not hold. A bundle
that does not verify is left as it is, and so is one that is signed: its signature is over the files that it has.
"""

from __future__ import annotations

import argparse
import secrets
import sys
from pathlib import Path

from llorch.errors import InputError
from llorch.validation.attestation import ATTESTATION, statement_bytes, statement_of
from llorch.validation.bundle import INDEX
from llorch.validation.sums import SIGNATURE, SUMS, sums_of_folder
from llorch.validation.verify import verify


def seal(folder: Path) -> str:
    """Seal one bundle; what was done with it.

    Raises:
        InputError: it is no bundle, or does not hold, or is signed.
    """
    bundle = verify(folder)
    if bundle.problems:
        raise InputError(f"{folder} does not hold: {bundle.problems[0]}")
    if not bundle.missing_seals:
        return "is sealed already"
    if bundle.signature != "absent":
        raise InputError(f"{folder} has a {SIGNATURE}, which would not cover what is added")
    if ATTESTATION in bundle.missing_seals:
        statement = statement_of((folder / INDEX).read_bytes(), lambda name: bundle.path(name).read_bytes())
        _place(folder, ATTESTATION, statement_bytes(statement))
    _place(folder, SUMS, sums_of_folder(folder))
    return "was sealed"


def _place(folder: Path, name: str, content: bytes) -> None:
    """Write a file beside the folder and move it in whole."""
    partial = folder.with_name(f".{folder.name}.{name}-{secrets.token_hex(8)}")
    try:
        partial.write_bytes(content)
        partial.rename(folder / name)
    finally:
        partial.unlink(missing_ok=True)


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code: 0 all are sealed, 1 one cannot be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundles", type=Path, nargs="+", metavar="BUNDLE")
    failed = False
    for folder in parser.parse_args(argv).bundles:
        try:
            print(f"{folder} {seal(folder)}")
        except (InputError, OSError) as error:
            failed = True
            print(f"seal_bundles: {error}", file=sys.stderr)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
