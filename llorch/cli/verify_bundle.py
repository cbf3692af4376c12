"""`llorch validate --verify`: a proof bundle re-checked and its signature checked or made, and how that is printed."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from llorch.cli import console
from llorch.cli.bundle_list import LIST, list_bundles, refuse_folder_of_bundles
from llorch.errors import InputError
from llorch.formats.printed import printable
from llorch.validation.bundle import Bundle
from llorch.validation.checkpoints import Verdict
from llorch.validation.signing import signer
from llorch.validation.sums import SIGNATURE
from llorch.validation.verify import verify

_COLOURS: dict[Verdict, str] = {"pass": "32", "fail": "31;1", "skipped": "33"}
N_PROBLEMS_SHOWN = 20
_SIGNATURES = {
    "absent": "not signed",
    "not checked": "signed; the signature was not checked (--verify-key PUBLIC_KEY)",
    "valid": "the signature holds for every file",
}


def add_seals(parser: argparse.ArgumentParser) -> None:
    """The flags that check a bundle and sign it."""
    parser.add_argument(
        "--verify",
        type=Path,
        nargs="?",
        const=LIST,
        metavar="BUNDLE",
        help="re-check a proof bundle, run no model; without BUNDLE: list those in the folder of --proof-dir",
    )
    parser.add_argument(
        "--verify-key",
        type=Path,
        metavar="PUBLIC_KEY",
        help="with --verify: also check the signature, with an elliptic-curve key (PEM)",
    )
    parser.add_argument(
        "--sign",
        type=Path,
        metavar="PRIVATE_KEY",
        help="sign the bundle (OpenSSF model signing; elliptic-curve key, PEM); with --verify: one that holds",
    )


def verify_bundle(args: argparse.Namespace) -> int:
    """Re-check a bundle; 0 when it holds and did not record a failure, 1 when not. Without one, list them."""
    if args.verify is LIST:
        return list_bundles(args)
    refuse_folder_of_bundles(args.verify)
    sign = signer(args.sign) if args.sign else None
    if sign is not None and (args.verify / SIGNATURE).exists():
        raise InputError(f"{printable(args.verify)} is signed already; remove {SIGNATURE} to sign it anew")
    bundle = verify(args.verify, args.verify_key)
    if sign is not None and not bundle.problems:
        sign(args.verify)
        bundle.signature = "not checked"
    passed = bundle.index.passed
    if args.json:
        console.print_json(
            {
                "bundle": str(args.verify),
                "kind": bundle.index.kind,
                "is_intact": not bundle.problems,
                "passed": passed,
                "problems": bundle.problems,
                "n_recomputed": bundle.n_recomputed,
                "missing": bundle.missing,
                "is_signed": bundle.signature != "absent",
                "signature_holds": {"valid": True, "invalid": False}.get(bundle.signature),
            }
        )
    else:
        _print_verified(bundle)
    return 0 if not bundle.problems and passed is not False else 1


def _print_verified(bundle: Bundle) -> None:
    index = bundle.index
    print(_line(f"{bundle.folder}: {index.kind} bundle of {index.created}, {len(index.files)} files"))
    for problem in bundle.problems[:N_PROBLEMS_SHOWN]:
        print(f"  {_line(problem)}")
    if len(bundle.problems) > N_PROBLEMS_SHOWN:
        print(f"  and {len(bundle.problems) - N_PROBLEMS_SHOWN} more")
    if bundle.problems:
        print(coloured("fail", "it does not hold"))
        return
    from_rows = f" ({bundle.n_from_rows} from their deciding rows)" if bundle.n_from_rows else ""
    what = "figures" if index.kind == "performance" else "verdicts"
    print(f"hashes hold, {bundle.n_recomputed} {what} recomputed{from_rows}")
    if bundle.missing:
        print(f"an older form of bundle: there is no {' and no '.join(bundle.missing)}")
    print(_SIGNATURES[bundle.signature])
    if index.kind == "performance":
        print(coloured("pass", "it holds"))
    elif index.passed is False:
        print(coloured("fail", "FAILED"))
    else:
        print(coloured("pass", "passed"))


def _line(text: str) -> str:
    """Text that repeats what stands in a bundle, on one line and without codes that a terminal obeys."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def coloured(verdict: Verdict, text: str) -> str:
    """`text` in the verdict's colour, on a terminal that wants colours."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"\x1b[{_COLOURS[verdict]}m{text}\x1b[0m"
