"""`llorch validate`: does llorch compute what its reference computed? Writes a proof bundle, or re-checks one."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from llorch.cli import console
from llorch.cli.options import add_field, add_json, settings_from
from llorch.cli.verify_bundle import add_seals, coloured, verify_bundle
from llorch.environment import reproducible_command
from llorch.errors import InputError, ReferenceDumpError
from llorch.formats.printed import printable
from llorch.kernels import paths
from llorch.model_files import DEMO, resolve_model_path
from llorch.settings import Settings
from llorch.validation.bundle_writer import BundleWriter
from llorch.validation.checkpoint_bundle import write_checkpoint_bundle
from llorch.validation.checkpoint_summary import failure_lines
from llorch.validation.checkpoints import TableRow, ValidationResult, labelled, validate
from llorch.validation.dumps import MANIFEST, Reference
from llorch.validation.signing import signer
from llorch.validation.subject import open_subject

STORED_REFERENCES = Path(__file__).parents[1] / "assets" / "reference"
"""References of the demo model, one folder per profile."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command."""
    parser.add_argument(
        "--reference",
        type=Path,
        action="append",
        metavar="DIR",
        help="what tools/reference/extract_checkpoints*.py wrote, or a folder of such (`demo` has stored ones)",
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
    add_seals(parser)
    add_field(parser, "weights")
    add_field(parser, "threads")
    add_field(parser, "override_pre")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Validate or verify; 0 when everything holds, 1 when not."""
    if args.verify:
        return verify_bundle(args)
    if args.verify_key:
        raise InputError("--verify-key checks the signature of a bundle: name it with --verify BUNDLE")
    settings = settings_from(args)
    references = _references(args, settings)
    writer = BundleWriter("checkpoint", args.proof_dir, sign=signer(args.sign) if args.sign else None)
    command = reproducible_command(["llorch", *args.words])
    results = labelled(_validate(args, settings, references))
    folder = write_checkpoint_bundle(writer, results, command)
    passed = all(result.passed for result in results.values())
    if args.json:
        checkpoints = [
            {"profile": label, **row.model_dump(mode="json")}
            for label, result in results.items()
            for row in result.rows
        ]
        console.print_json({"passed": passed, "bundle": str(folder), "checkpoints": checkpoints})
    else:
        _print(results, folder)
    return 0 if passed else 1


def _references(args: argparse.Namespace, settings: Settings) -> list[Reference]:
    """The references to hold the model against, refused where they cannot be meant."""
    folders: list[Path] = args.reference or []
    if not folders:
        if settings.model != DEMO:
            raise InputError(
                "--reference DIR is missing; in the clone, `python -m tools.reference.extract_checkpoints -m FILE -p "
                "TEXT -o DIR` makes one of a GGUF file with llama.cpp, extract_checkpoints_hf of a directory with "
                "transformers, extract_checkpoints_onnx of a graph (docs/validation.md)"
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
        prompt = reference.manifest.prompt.text
        if args.prompt is not None and args.prompt != prompt:
            raise ReferenceDumpError(
                f"{printable(reference.directory)} was made from the prompt {prompt!r}, not from {args.prompt!r}"
            )
    return sorted(chosen, key=lambda reference: reference.profile, reverse=True)


def _expand(folder: Path) -> Sequence[Path]:
    """`folder` itself when it is a reference, else the references in it."""
    if (folder / MANIFEST).exists():
        return [folder]
    inner = sorted(path.parent for path in folder.glob(f"*/{MANIFEST}"))
    if not inner:
        raise ReferenceDumpError(f"{printable(folder)} holds no {MANIFEST}, and no folder in it does")
    return inner


def _validate(
    args: argparse.Namespace, settings: Settings, references: list[Reference]
) -> list[ValidationResult]:
    path = resolve_model_path(settings.model)
    results = []
    with console.Progress() as progress:
        for reference in references:
            subject = open_subject(
                path,
                reference,
                n_threads=settings.threads,
                residence=settings.weights,
                override_pre=settings.override_pre,
                progress=progress,
            )
            with subject.model:
                results.append(validate(subject, reference, goes_on=args.all, progress=progress))
            if not results[-1].passed and not args.all:
                break
    return results


def _print(results: Mapping[str, ValidationResult], folder: Path) -> None:
    order = ", floats added in llama.cpp's order" if paths.sums() == "llama.cpp" else ""
    for label, result in results.items():
        manifest = result.reference.manifest
        print(
            f"{manifest.model.file}, profile {label}, against {result.reference.made_by}: "
            f"{len(manifest.prompt.token_ids)} prompt tokens, {manifest.n_decode} decode steps, "
            f"{len(result.findings.results)} comparisons{order}"
        )
        _print_table(result)
        if failure := result.findings.first_failure:
            print("", *failure_lines(failure), sep="\n  ")
        print()
    passed = all(result.passed for result in results.values())
    print(f"{coloured('pass' if passed else 'fail', 'passed' if passed else 'FAILED')}: {printable(folder)}")


def _print_table(result: ValidationResult) -> None:
    """One line per checkpoint: both ways, and where the worst difference is."""
    title_width = max(len(title) for _, title, _ in result.lines())
    print(f"   #  {'checkpoint':{title_width}}  {'stage by stage':30}  end to end")
    for number, title, (local, own) in result.lines():
        print(f"{number:>4}  {title:{title_width}}  {_cell(local, 30)}  {_cell(own, 0)}".rstrip())


def _cell(row: TableRow | None, width: int) -> str:
    if row is None:
        return " " * width
    if row.worst is None:
        detail = row.reason.split(":")[0]
    else:
        detail = str(row.worst) if row.verdict == "fail" else row.worst.difference
    verdict = f"{row.verdict:4}"
    return f"{coloured(row.verdict, verdict)} {detail:{max(0, width - len(verdict) - 1)}}"
