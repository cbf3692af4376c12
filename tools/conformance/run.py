"""Run other people's clients against a live server; each is a program of its own.

    python -m tools.conformance.run                      all clients, against `llorch serve`
    python -m tools.conformance.run openai litellm       those alone
    python -m tools.conformance.run --url http://HOST:PORT --key KEY --name MODEL openai
                                                         against a server that runs already
    python -m tools.conformance.run --llama-server BUILD/bin/llama-server --model FILE benchy
                                                         against llama.cpp's

The clients are installed into an environment of their own first (see `environment`). Exit codes: 0 all checks hold,
1 some do not, 2 bad usage or nothing to run with, 3 the clients are not installed and no package index is reachable.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from llorch.pulled.names import wheel_path
from tools.conformance.environment import ENVIRONMENT
from tools.conformance.served import KEY, ServerError, llama_server_command, llorch_command, serving
from tools.setup.own_environment import ROOT, InstallError

CLIENTS: dict[str, tuple[str, ...]] = {
    "openai": (
        "openai_session",
        "openai_completions",
        "openai_structure",
        "openai_responses",
        "openai_embeddings",
    ),
    "agents": ("agents_session",),
    "litellm": ("litellm_session",),
    "langchain": ("langchain_session",),
    "llm": ("llm_session",),
    "anthropic": ("anthropic_session",),
    "ollama": ("ollama_session",),
    "lm_eval": ("lm_eval_session",),
    "benchy": ("benchy_session",),
    "schemathesis": ("schemathesis_session",),
}
"""Programs of `tools.conformance.clients`, by the client's name."""
SMALL = ("demo", ("-c", "128", "--admin-key", KEY))
"""Model and flags for a client that sends many odd requests to every path: what they generate costs nothing there."""
OWN_SERVERS: dict[str, tuple[str, tuple[str, ...]]] = {"schemathesis": SMALL}
N_PARALLEL = 8
CLIENT_S = 280.0
"""Most seconds of one program."""
OFFLINE = 3
OFFLINE_VARIABLES = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LMEVAL_LOG_LEVEL": "ERROR",
}
"""No client asks anybody but the server."""


def run_client(python: Path, module: str, url: str, key: str, name: str, model: str) -> int:
    """Run one program; its exit code, 1 if it takes too long."""
    words = ["--url", url, "--model", name, "--key", key, "--model-path", model]
    paths = {"PYTHONPATH": str(ROOT), "PYTHON_WITH_LLORCH": sys.executable}
    try:
        with tempfile.TemporaryDirectory() as home:
            return subprocess.run(
                [str(python), "-m", f"tools.conformance.clients.{module}", *words],
                env=os.environ | paths | OFFLINE_VARIABLES | {"HOME": home, "HF_HOME": home},
                stdin=subprocess.DEVNULL,
                timeout=CLIENT_S,
            ).returncode
    except subprocess.TimeoutExpired:
        print(f"  DIFFERENT  {module} took more than {CLIENT_S:.0f} s", flush=True)
        return 1


def run_clients(args: argparse.Namespace, python: Path) -> list[str]:
    """Run the programs of the clients that were asked for; those of which a check does not hold."""
    failed = []
    with contextlib.ExitStack() as servers:
        shared: str | None = args.url
        for client in args.clients:
            model, flags = OWN_SERVERS.get(client, (args.model, ()))
            with contextlib.ExitStack() as own:
                if args.url is None and client in OWN_SERVERS:
                    url, _ = own.enter_context(serving(llorch_command(model, N_PARALLEL, *flags)))
                else:
                    shared = shared or servers.enter_context(serving(_command(args)))[0]
                    url = shared
                for module in CLIENTS[client]:
                    print(f"{module}:", flush=True)
                    began_s = time.monotonic()
                    if run_client(python, module, url, args.key, args.name, model):
                        failed.append(module)
                    print(f"  {time.monotonic() - began_s:.0f} s", flush=True)
    return failed


def _command(args: argparse.Namespace) -> list[str]:
    """Of the server that most clients share."""
    if args.llama_server:
        n_ctx = str(N_PARALLEL * 8192)
        return llama_server_command(args.llama_server, args.model, N_PARALLEL, "-c", n_ctx, "--jinja")
    return llorch_command(args.model, N_PARALLEL)


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "clients", nargs="*", metavar="CLIENT", help=f"of {', '.join(CLIENTS)} (default: all)"
    )
    parser.add_argument(
        "-m", "--model", help="what is served (default: smollm2 if it has been pulled, else demo)"
    )
    parser.add_argument("--url", help="a server that runs already")
    parser.add_argument("--key", default=KEY, help="an API key of that server")
    parser.add_argument("--name", default="served", help="its name of the model")
    parser.add_argument("--llama-server", type=Path, metavar="PROGRAM", help="start this one, not llorch")
    args = parser.parse_args(argv)
    if unknown := set(args.clients) - set(CLIENTS):
        parser.error(f"no such client: {', '.join(sorted(unknown))}; there are {', '.join(CLIENTS)}")
    if args.model is None:
        args.model = str(path) if (path := wheel_path("smollm2")).is_file() else "demo"
    args.clients = args.clients or list(CLIENTS)
    return args


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    args = _arguments(argv)
    try:
        python = ENVIRONMENT.ensure()
        failed = run_clients(args, python)
    except InstallError as error:
        print(f"conformance: the clients could not be installed:\n{error}", file=sys.stderr)
        return OFFLINE if error.is_offline else 2
    except ServerError as error:
        print(f"conformance: {error}", file=sys.stderr)
        return 2
    print(f"differences: {', '.join(failed)}" if failed else "no difference", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
