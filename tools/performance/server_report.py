"""Reports of servers under load: medians over rounds, ratios, Markdown, the bundle."""

from __future__ import annotations

import argparse
import statistics
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llorch.environment import environment, reproducible_command
from llorch.validation.bundle_writer import BundleWriter, markdown_table
from llorch.validation.performance_checks import RUNS_FILE, SERVERS_FILE
from tools.performance.fingerprints import llorch_packages, model_facts, program_facts
from tools.performance.peer_runs import LLORCH
from tools.performance.performance_report import FINGERPRINTS
from tools.performance.speed_table import speed

LLAMA_SERVER, BENCH = "llama-server", "llorch bench"


def medians(runs: Sequence[dict[str, Any]]) -> dict[tuple[str, str], dict[str, dict[str, float]]]:
    """Medians over rounds: by model and load, then by server, then by figure."""
    samples: dict[tuple[str, str], dict[str, dict[str, list[float]]]] = {}
    for run in runs:
        servers = samples.setdefault((run["model"], run["load"]), {})
        for name, value in run["figures"].items():
            servers.setdefault(run["server"], {}).setdefault(name, []).append(value)
    return {
        key: {
            server: {name: statistics.median(values) for name, values in figures.items()}
            for server, figures in servers.items()
        }
        for key, servers in samples.items()
    }


def _ratio(name: str, servers: dict[str, dict[str, float]]) -> str:
    """How llorch stands to another: speeds as a multiple; for decoding, too, what HTTP costs of the bare speed."""
    own = servers[LLORCH][name]
    words = []
    for other in (LLAMA_SERVER, BENCH):
        value = servers.get(other, {}).get(name)
        if not value or not own:
            continue
        if other == BENCH:
            words.append(f"HTTP costs {100 * (1 - own / value):.1f} %")
        elif name == "tokens_per_s":
            words.append(f"**{own / value:.2f}×**")
        elif name.endswith("_ms"):
            words.append(f"{own / value:.2f} of the time")
    return ", ".join(words)


def table(runs: Sequence[dict[str, Any]]) -> str:
    """One line per model, load and figure."""
    servers = [name for name in (LLORCH, LLAMA_SERVER, BENCH) if any(run["server"] == name for run in runs)]
    rows = []
    for (model, load), found in medians(runs).items():
        for name in found[LLORCH]:
            values = [found.get(server, {}).get(name) for server in servers]
            cells = ["–" if value is None else speed(value) for value in values]
            rows.append([model, load, name, *cells, _ratio(name, found)])
    return markdown_table(["model", "load", "figure", *servers, "llorch's ratio"], rows)


def _peer(program: Path) -> dict[str, Any]:
    """The other server: its name, what it says about its version, its files."""
    done = subprocess.run(
        [program, "--version"], capture_output=True, text=True, errors="replace", timeout=60
    )
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines()]
    version = "; ".join(line for line in lines if line.startswith(("version", "built")))
    return {"name": LLAMA_SERVER, "version": version, "programs": program_facts([program]), "packages": []}


def write_bundle(
    bundle: BundleWriter, runs: Sequence[dict[str, Any]], args: argparse.Namespace, words: list[str]
) -> Path:
    """Write the bundle: every run, the medians, a page; its folder."""
    models = [model_facts(model) for model in args.model]
    load = {"n_streams": args.streams, "n_prompt": args.n_prompt, "n_predict": args.n_predict}
    peers = [_peer(args.llama_server)] if args.llama_server else []
    found = [
        {"model": model, "load": name, "servers": figures} for (model, name), figures in medians(runs).items()
    ]
    n_rounds = max(run["round"] for run in runs)
    about = {"n_threads": args.threads, "rounds_done": n_rounds, "load": load, "medians": found}
    bundle.add_json(SERVERS_FILE, about)
    bundle.add_ndjson(RUNS_FILE, runs)
    facts = environment()
    kernels = facts["kernels"]
    lines = [
        f"CPU: {kernels['cpu']}, {kernels['path']} kernels; {args.threads} threads",
        f"{args.streams} streams, prompts of {args.n_prompt} tokens, answers of {args.n_predict}; "
        f"medians of {n_rounds} alternated rounds, each with fresh servers",
        f"llorch {facts['llorch']}, commit {facts['commit']}"
        + (", modified" if facts["is_modified"] else ""),
        *(f"{peer['name']}: {peer['version']}" for peer in peers),
        FINGERPRINTS,
        *(f"{m['file']}: {m['type']}, {m['bytes']:,} bytes, sha256 {m['sha256']}" for m in models),
    ]
    page = "\n\n".join([table(runs), "\n".join(f"- {line}" for line in lines)])
    bundle.add_summary(lambda run_id: f"# Servers under load: run {run_id}\n\n{page}\n")
    command = reproducible_command(["python", "-m", "tools.performance.compare_servers", *words])
    return bundle.write({"models": models, "peers": peers, "packages": llorch_packages()}, None, command)
