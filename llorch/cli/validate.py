"""`llorch validate`: does llorch compute what llama.cpp computes? Writes a proof bundle, or re-checks one."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llorch.cli import console
from llorch.cli.options import add_field, add_json, settings_from
from llorch.errors import InputError, ReferenceDumpError
from llorch.kernels import paths
from llorch.open_model import DEMO, resolve_model_path
from llorch.settings import Settings
from llorch.validation.bundle import BundleWriter, reproducible_command
from llorch.validation.checkpoint_bundle import labels_of, write_checkpoint_bundle
from llorch.validation.checkpoint_summary import difference_text, failure_lines, place_text
from llorch.validation.checkpoints import Outcome, Row, validate
from llorch.validation.dumps import MANIFEST, Reference
from llorch.validation.findings import Verdict
from llorch.validation.opened_bundle import Bundle
from llorch.validation.subject import open_subject
from llorch.validation.verify import verify

STORED_REFERENCES = Path(__file__).parents[1] / "assets" / "reference"
"""References of the demo model, one folder per profile."""

_COLOURS: dict[Verdict, str] = {"pass": "32", "fail": "31;1", "skipped": "33"}
N_PROBLEMS_SHOWN = 20


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command."""
    parser.add_argument(
        "--reference",
        type=Path,
        action="append",
        metavar="DIR",
        help="what tools/reference/extract_checkpoints.py wrote, or a folder of such (default for `demo`: stored ones)",
    )
    parser.add_argument(
        "--profile",
        choices=("native", "f32", "both"),
        default="both",
        help="take only references of this profile (default: all that are given)",
    )
    parser.add_argument("-p", "--prompt", help="refuse a reference that was made from another prompt")
    parser.add_argument("--all", action="store_true", help="go on after the first divergence")
    parser.add_argument(
        "--proof-dir", type=Path, metavar="DIR", help="folder of proof bundles (default: proof_bundle)"
    )
    parser.add_argument("--verify", type=Path, metavar="BUNDLE", help="re-check a proof bundle, run no model")
    add_field(parser, "weights")
    add_field(parser, "threads")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Validate or verify; 0 when everything holds, 1 when not."""
    if args.verify:
        return _verify(args)
    settings = settings_from(args)
    references = _references(args, settings)
    writer = BundleWriter("checkpoint", args.proof_dir)
    command = reproducible_command(["llorch", *args.words])
    outcomes = _validate(args, settings, references)
    folder = write_checkpoint_bundle(writer, outcomes, command)
    passed = all(outcome.passed for outcome in outcomes)
    if args.json:
        console.print_json({"passed": passed, "bundle": str(folder), "checkpoints": _documents(outcomes)})
    else:
        _print(outcomes, folder)
    return 0 if passed else 1


def _references(args: argparse.Namespace, settings: Settings) -> list[Reference]:
    """The references to hold the model against, refused where they cannot be meant."""
    folders: list[Path] = args.reference or []
    if not folders:
        if settings.model != DEMO:
            raise InputError(
                "--reference DIR is missing; tools/reference/extract_checkpoints.py makes one for this model with "
                "llama.cpp"
            )
        if not STORED_REFERENCES.is_dir():
            raise InputError(
                f"the stored references are missing from this installation ({STORED_REFERENCES})"
            )
        folders = [STORED_REFERENCES]
    found = [Reference.load(path) for folder in folders for path in _expand(folder)]
    chosen = [r for r in found if args.profile in ("both", r.profile)]
    if not chosen:
        raise InputError(f"none of the references has profile {args.profile}")
    for reference in chosen:
        if args.prompt is not None and args.prompt != reference.prompt:
            raise ReferenceDumpError(
                f"{reference.directory} was made from the prompt {reference.prompt!r}, not from {args.prompt!r}"
            )
    return sorted(chosen, key=lambda reference: reference.profile, reverse=True)


def _expand(folder: Path) -> Sequence[Path]:
    """`folder` itself when it is a reference, else the references in it."""
    if (folder / MANIFEST).exists():
        return [folder]
    inner = sorted(path.parent for path in folder.glob(f"*/{MANIFEST}"))
    if not inner:
        raise ReferenceDumpError(f"{folder} holds no {MANIFEST}, and no folder in it does")
    return inner


def _validate(args: argparse.Namespace, settings: Settings, references: list[Reference]) -> list[Outcome]:
    path = resolve_model_path(settings.model)
    outcomes = []
    with console.Progress() as progress:
        for reference in references:
            subject = open_subject(
                path,
                reference,
                n_threads=settings.threads,
                residence=settings.weights,
                progress=progress,
            )
            try:
                outcomes.append(validate(subject, reference, goes_on=args.all, tell=progress))
            finally:
                subject.close()
            if not outcomes[-1].passed and not args.all:
                break
    return outcomes


def _documents(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    return [
        {"profile": label, **row.to_json()}
        for label, outcome in zip(labels_of(outcomes), outcomes, strict=True)
        for row in outcome.rows
    ]


def _print(outcomes: Sequence[Outcome], folder: Path) -> None:
    order = ", floats added in llama.cpp's order" if paths.sums() == "llama.cpp" else ""
    for label, outcome in zip(labels_of(outcomes), outcomes, strict=True):
        reference = outcome.reference
        made_by = " ".join(str(reference.identity.get(key))[:9] for key in ("program", "version", "commit"))
        print(
            f"{reference.model_file}, profile {label}, against {made_by}: "
            f"{len(reference.prompt_token_ids)} prompt tokens, {reference.n_decode} decode steps, "
            f"{len(outcome.findings.checks)} comparisons{order}"
        )
        _print_table(outcome.rows)
        if failure := outcome.findings.first_failure:
            print()
            for line in failure_lines(failure):
                print(f"  {line}")
        print()
    passed = all(outcome.passed for outcome in outcomes)
    print(f"{_coloured('pass' if passed else 'fail', 'passed' if passed else 'FAILED')}: {folder}")


def _print_table(rows: Sequence[Row]) -> None:
    """One line per checkpoint: both ways, and where the worst difference is."""
    title_width = max(len(row.checkpoint.title) for row in rows)
    print(f"   #  {'checkpoint':{title_width}}  {'stage by stage':30}  end to end")
    for number in dict.fromkeys(row.checkpoint.number for row in rows):
        of_number = {row.way: row for row in rows if row.checkpoint.number == number}
        title = next(iter(of_number.values())).checkpoint.title
        local = of_number.get("local")
        cells = [_cell(local, 30) if local else " " * 30, _cell(of_number.get("end_to_end"), 0)]
        print(f"{number:>4}  {title:{title_width}}  {'  '.join(cells)}".rstrip())


def _cell(row: Row | None, width: int) -> str:
    if row is None:
        return ""
    text = row.verdict
    if row.verdict == "skipped":
        detail = row.reason.split(":")[0]
    elif row.verdict == "fail" and row.worst:
        detail = place_text(row.worst)
    else:
        detail = difference_text(row.worst) if row.worst else ""
    return f"{_coloured(row.verdict, f'{text:4}')} {detail}" + " " * (
        width - max(4, len(text)) - 1 - len(detail)
    )


def _coloured(verdict: Verdict, text: str) -> str:
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"\x1b[{_COLOURS[verdict]}m{text}\x1b[0m"


def _verify(args: argparse.Namespace) -> int:
    bundle = verify(args.verify)
    verdict = bundle.index.get("passed")
    holds = not bundle.problems and verdict is not False
    if args.json:
        console.print_json(
            {
                "bundle": str(args.verify),
                "kind": bundle.kind,
                "is_intact": not bundle.problems,
                "passed": verdict,
                "problems": bundle.problems,
                "n_recomputed": bundle.n_recomputed,
            }
        )
    else:
        _print_verified(bundle)
    return 0 if holds else 1


def _print_verified(bundle: Bundle) -> None:
    index = bundle.index
    print(f"{bundle.folder}: {bundle.kind} bundle of {index.get('created')}, {len(index['files'])} files")
    for problem in bundle.problems[:N_PROBLEMS_SHOWN]:
        print(f"  {problem}")
    if len(bundle.problems) > N_PROBLEMS_SHOWN:
        print(f"  and {len(bundle.problems) - N_PROBLEMS_SHOWN} more")
    if bundle.problems:
        print(_coloured("fail", "it does not hold"))
        return
    from_rows = f" ({bundle.n_from_rows} from their deciding rows)" if bundle.n_from_rows else ""
    what = "figures" if bundle.kind == "performance" else "verdicts"
    print(f"hashes hold, {bundle.n_recomputed} {what} recomputed{from_rows}")
    if bundle.kind == "performance":
        print(_coloured("pass", "it holds"))
        return
    verdict: Verdict = "fail" if index.get("passed") is False else "pass"
    print(_coloured(verdict, {True: "passed", False: "FAILED"}[verdict == "pass"]))
