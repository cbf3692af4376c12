"""Which programs of peers a command line names, one by one or all under one folder."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from tools.performance.openvino_peer import OpenVino
from tools.performance.peer_runs import LLORCH, PeerError
from tools.performance.peers import DasLlama, IkLlamaCpp, LlamaCpp, Peer

PLACES = {
    "llama_bench": "build/bin/llama-bench",
    "llama_batched_bench": "build/bin/llama-batched-bench",
    "ik_llama": "ik/build/bin",
    "dasllama": "das/bin/dasllama-bench",
    "openvino": "ov/bin/python",
}
"""Where `--peers FOLDER` looks, by the name of the argument that it stands for."""


def add_peer_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags that name peers."""
    parser.add_argument(
        "--peers",
        type=Path,
        metavar="FOLDER",
        help=f"takes every peer that is there: {', '.join(PLACES.values())}",
    )
    parser.add_argument("--llama-bench", type=Path, metavar="PROGRAM", help="llama.cpp's llama-bench")
    parser.add_argument(
        "--llama-batched-bench", type=Path, metavar="PROGRAM", help="llama.cpp's llama-batched-bench"
    )
    parser.add_argument(
        "--peer-name", default="llama.cpp", metavar="NAME", help="of that build (default: llama.cpp)"
    )
    parser.add_argument("--peer-args", default="", metavar="'ARGS'", help="more arguments of that build")
    parser.add_argument("--ik-llama", type=Path, metavar="FOLDER", help="ik_llama.cpp's build/bin")
    parser.add_argument("--dasllama", type=Path, metavar="PROGRAM", help="dasLLAMA's dasllama-bench")
    parser.add_argument(
        "--openvino",
        type=Path,
        metavar="PYTHON",
        help="interpreter of an environment that has openvino-genai",
    )
    parser.add_argument(
        "--openvino-args",
        default="",
        metavar="'KEY=VALUE ...'",
        help="properties of its CPU plugin (default: its own)",
    )


def peers_given(args: argparse.Namespace, scratch: Path) -> list[Peer]:
    """The peers whose programs were given; dasLLAMA works in `scratch`.

    Raises:
        PeerError: a program is missing or does not run, or two peers have one name.
    """
    if args.peers and not any((args.peers / place).exists() for place in PLACES.values()):
        raise PeerError(f"{args.peers} holds none of {', '.join(PLACES.values())}")
    places = {name: getattr(args, name) or _found(args.peers, place) for name, place in PLACES.items()}
    ik = places.pop("ik_llama")
    places["ik_bench"], places["ik_batched"] = (
        ik and ik / name for name in ("llama-bench", "llama-batched-bench")
    )
    for program in filter(None, places.values()):
        if not os.access(program, os.X_OK):
            raise PeerError(f"{program} is not a program")
    programs = {name: program and program.absolute() for name, program in places.items()}
    peers: list[Peer] = []
    if programs["llama_bench"] or programs["llama_batched_bench"]:
        extra = tuple(args.peer_args.split())
        peers.append(
            LlamaCpp(args.peer_name, programs["llama_bench"], programs["llama_batched_bench"], extra)
        )
    if programs["ik_bench"]:
        peers.append(IkLlamaCpp("ik_llama.cpp", programs["ik_bench"], programs["ik_batched"]))
    if programs["dasllama"]:
        peers.append(DasLlama(programs["dasllama"], scratch))
    if programs["openvino"]:
        peers.append(OpenVino(programs["openvino"], tuple(args.openvino_args.split())))
    names = [LLORCH, *(peer.name for peer in peers)]
    if len(set(names)) < len(names):
        raise PeerError(f"--peer-name {args.peer_name}: the peer needs a name of its own")
    for peer in peers:
        peer.version()  # fails now rather than after hours
    return peers


def _found(folder: Path | None, place: str) -> Path | None:
    return folder / place if folder and (folder / place).exists() else None
