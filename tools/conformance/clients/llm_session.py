"""The `llm` command line with a model of its `extra-openai-models.yaml`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import jsonschema
import yaml

from tools.conformance.checks import Check, Target, expect, expect_equal, main

SCHEMA = {
    "type": "object",
    "properties": {"kind": {"enum": ["town", "village"]}},
    "required": ["kind"],
    "additionalProperties": False,
}
GREEDY = ("-o", "temperature", "0", "-o", "max_tokens", "12")


def _llm(target: Target, folder: Path, *words: str) -> str:
    chat = {
        "model_id": "served",
        "model_name": target.model,
        "api_base": target.v1,
        "api_key_name": "served",
        "supports_schema": True,
    }
    text = {**chat, "model_id": "served-text", "completion": True}
    del text["supports_schema"]
    (folder / "extra-openai-models.yaml").write_text(yaml.safe_dump([chat, text]), "utf-8")
    (folder / "keys.json").write_text(json.dumps({"served": target.key}), "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "llm", *words],
        env=os.environ | {"LLM_USER_PATH": str(folder)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    expect_equal(f"exit code of llm {words}", (done.returncode, done.stderr), (0, ""))
    return done.stdout


def prompts(target: Target) -> None:
    """A prompt is answered the same streamed and whole; a conversation goes on; usage is counted."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        streamed = _llm(target, folder, "prompt", "-m", "served", "Say hi.", *GREEDY)
        whole = _llm(target, folder, "prompt", "-m", "served", "--no-stream", "Say hi.", *GREEDY)
        expect_equal("streamed", streamed, whole)
        expect(bool(whole.strip()), "no text")
        _llm(target, folder, "prompt", "-m", "served", "-c", "And bye.", *GREEDY)
        logs = json.loads(_llm(target, folder, "logs", "--json", "-n", "3"))
        expect(all(log["output_tokens"] for log in logs), f"tokens {[log['output_tokens'] for log in logs]}")


def completions(target: Target) -> None:
    """A completion model continues a text."""
    with tempfile.TemporaryDirectory() as name:
        text = _llm(target, Path(name), "prompt", "-m", "served-text", "Once upon a time", *GREEDY)
        expect(bool(text.strip()), "no text")


def schemas(target: Target) -> None:
    """`--schema` gives an instance of the schema."""
    with tempfile.TemporaryDirectory() as name:
        enough = ("-o", "temperature", "0", "-o", "max_tokens", "60")
        words = ("prompt", "-m", "served", "--schema", json.dumps(SCHEMA), "A village?", *enough)
        jsonschema.validate(json.loads(_llm(target, Path(name), *words)), SCHEMA)


CHECKS: list[Check] = [prompts, completions, schemas]

if __name__ == "__main__":
    main(CHECKS)
