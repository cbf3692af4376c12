"""`schemathesis` against `/openapi.json`: the schema says what the server does, and no request makes it fail.

Its fuzzing cannot take the rules about many fields of OpenAI's routes at once: it is given two parts of their schemas,
in which some of the fields never come. Its other phases take all.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from tools.conformance.checks import Check, Target, expect, main

MAX_EXAMPLES = 8
"""Per operation and phase."""
MAX_S = 260
CONFIG = """
[checks]
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "504"]
"""
"""504 is what whoever asks for an answer within a microsecond gets, and no failure of the server."""


PARTED = ("/v1/completions", "/v1/chat/completions", "/v1/responses")
"""Routes whose schemas have two parts."""
SAMPLING = (
    "samplers", "typical_p", "top_n_sigma", "xtc_probability", "xtc_threshold", "dynatemp_range", "dynatemp_exponent",
    "dry_multiplier", "dry_base", "dry_allowed_length", "dry_penalty_last_n", "dry_sequence_breakers", "mirostat",
    "mirostat_tau", "mirostat_eta",
)  # fmt: skip
CONSTRAINTS = (
    "json_schema", "grammar", "structured_outputs", "guided_json", "guided_regex", "guided_choice", "guided_grammar",
)  # fmt: skip
CHOICES = ("n", "echo", "logprobs", "top_logprobs", "tools", "tool_choice", "parallel_tool_calls")
GRAMMARS = r'^(root ::= "[a-z ]*"( [|] "[a-z ]*")*)?$'
"""Some texts of the format `gbnf`, which no schema can describe whole."""
UNSAID = {"continue_final_message": {"enum": [False, None]}}
"""Values that are taken only beside others, as no schema can say: true wants an assistant's last message."""
TEXT = {
    "prompt": {"type": "string", "minLength": 1, "maxLength": 64},
    "input": {"type": "string", "maxLength": 16},
    "instructions": {"type": "string", "maxLength": 8},
}
"""Prompts that fit the small context."""


def with_grammars(value: Any) -> Any:
    """A document in which what has the format `gbnf` has the pattern `GRAMMARS`, and fields are as in `UNSAID`."""
    if isinstance(value, dict):
        more: dict[str, Any] = {"pattern": GRAMMARS} if value.get("format") == "gbnf" else {}
        more |= {name: schema for name, schema in UNSAID.items() if name in value}
        return {name: with_grammars(one) for name, one in value.items()} | more
    return [with_grammars(one) for one in value] if isinstance(value, list) else value


def part_of(
    schema: Mapping[str, Any], dropped: Collection[str], narrowed: Mapping[str, Any]
) -> dict[str, Any]:
    """The schema of the bodies without the fields `dropped`; rules that then always hold are left out.

    Args:
        schema: of a body; `allOf` has its rules.
        dropped: fields that never come.
        narrowed: schemas of fields that satisfy every rule about them.
    """
    rules = []
    for rule in schema["allOf"]:
        branches = []
        for branch in rule["anyOf"]:
            if not set(branch.get("required", ())) & set(dropped):
                rest = {name: one for name, one in branch["properties"].items() if name not in dropped}
                branches.append({**branch, "properties": rest})
        names = {name for branch in branches for name in branch["properties"]}
        if all(branch["properties"] or branch.get("required") for branch in branches) and not names & set(
            narrowed
        ):
            rules.append(
                {"anyOf": [branch for i, branch in enumerate(branches) if branch not in branches[:i]]}
            )
    kept = {name: one for name, one in schema["properties"].items() if name not in dropped}
    properties = {name: narrowed.get(name, one) for name, one in kept.items()}
    return {**schema, "properties": properties, "allOf": rules}


def parted(document: dict[str, Any], dropped: Collection[str], narrowed: Mapping[str, Any]) -> dict[str, Any]:
    """An OpenAPI document whose routes `PARTED` take a part of their bodies."""
    paths = dict(document["paths"])
    for path in PARTED:
        operation = json.loads(json.dumps(paths[path]))
        media = operation["post"]["requestBody"]["content"]["application/json"]
        media["schema"] = part_of(media["schema"], dropped, narrowed)
        paths[path] = operation
    return {**document, "paths": paths}


def conformance(target: Target) -> None:
    """No finding of any check, in what the schema allows and in what it forbids."""
    asked = urllib.request.Request(
        f"{target.url}/openapi.json", headers={"Authorization": f"Bearer {target.key}"}
    )
    with urllib.request.urlopen(asked, timeout=60) as answer:
        document = with_grammars(json.load(answer))
    run(target, document, "--phases", "examples,coverage")
    run(target, parted(document, (*SAMPLING, *CONSTRAINTS), {}), "--phases", "fuzzing")
    only = [word for path in PARTED for word in ("--include-path", path)]
    # What the narrowed schema forbids, the server may allow.
    run(target, parted(document, CHOICES, TEXT), "--phases", "fuzzing", "--mode", "positive", *only)


def run(target: Target, document: Mapping[str, Any], *more: str) -> None:
    """Run schemathesis with an OpenAPI document."""
    with tempfile.TemporaryDirectory() as folder:
        schema = Path(folder, "openapi.json")
        schema.write_text(json.dumps(document))
        Path(folder, "schemathesis.toml").write_text(CONFIG)
        words = [
            "run",
            str(schema),
            "--url",
            target.url,
            "--header",
            f"Authorization: Bearer {target.key}",
            *more,
        ]
        words += ["--max-examples", str(MAX_EXAMPLES), "--seed", "1", "--no-shrink", "--warnings", "off"]
        words += ["--continue-on-failure", "--request-timeout", "60"]
        words += ["--suppress-health-check", "all", "--generation-database", ":memory:", "--no-color"]
        done = subprocess.run(
            [sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()", *words],
            env=os.environ | {"HOME": folder},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=MAX_S,
        )
    expect(done.returncode == 0, f"schemathesis ended with {done.returncode}:\n{done.stdout}")
    print("\n".join(f"             {line}" for line in done.stdout.splitlines()[-8:] if line.strip()))


CHECKS: list[Check] = [conformance]

if __name__ == "__main__":
    main(CHECKS)
