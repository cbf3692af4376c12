"""lm-evaluation-harness scores the served model offline, with the server's own tokenizer.

Tasks of multiple choice, of whole texts and of writing lie in a folder of their own. Every log-likelihood that the
harness got must be the very number that llorch computes from the file without a server (PYTHON_WITH_LLORCH names a
Python that has llorch), with one request at a time and with eight.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import lm_eval
import yaml
from lm_eval.tasks import TaskManager

from tools.conformance.checks import Check, Target, expect, expect_equal, main

QUESTIONS = [
    ("The capital of France is", ["Paris", "London", "a banana"], 0),
    ("Two plus two equals", ["fish", "four", "eleven"], 1),
    ("The opposite of hot is", ["cold", "warm", "spoon"], 0),
    ("Grass is", ["green", "purple", "loud"], 0),
    ("A dog says", ["meow", "woof", "moo"], 1),
    ("Once upon a", ["time", "xylophone", "carburettor"], 0),
]
TEXTS = [
    "It was the best of times, it was the worst of times.",
    "Every word of this text is scored, and the sum is its log-likelihood.",
]
CHOICE = {
    "task": "local_choice",
    "output_type": "multiple_choice",
    "doc_to_text": "{{question}}",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "{{answer}}",
    "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
}
ROLLING = {
    "task": "local_texts",
    "output_type": "loglikelihood_rolling",
    "doc_to_text": "",
    "doc_to_target": "{{text}}",
    "metric_list": [{"metric": "bits_per_byte"}],
}
GENERATE = {
    "task": "local_writing",
    "output_type": "generate_until",
    "doc_to_text": "{{question}}",
    "doc_to_target": "{{answer}}",
    "generation_kwargs": {"until": ["\n"], "max_gen_toks": 8, "do_sample": False},
    "metric_list": [{"metric": "bypass"}],
}


def _write_tasks(folder: Path) -> None:
    questions = [{"question": q, "choices": c, "answer": a} for q, c, a in QUESTIONS]
    for task, rows in ((CHOICE, questions), (ROLLING, [{"text": t} for t in TEXTS]), (GENERATE, questions)):
        data = folder / f"{task['task']}.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        source = {
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(data)}},
            "test_split": "test",
        }
        (folder / f"{task['task']}.yaml").write_text(yaml.safe_dump({**task, **source}), "utf-8")


@functools.cache
def _evaluate(target: Target, n_concurrent: int, batch_size: int) -> dict[str, Any]:
    """Arguments and answers of every request, by task, and the results."""
    os.environ["OPENAI_API_KEY"] = target.key
    with tempfile.TemporaryDirectory() as name, contextlib.redirect_stderr(io.StringIO()):
        _write_tasks(Path(name))
        tasks = [str(task["task"]) for task in (CHOICE, ROLLING, GENERATE)]
        report = lm_eval.simple_evaluate(
            model="local-completions",
            model_args={
                "base_url": f"{target.v1}/completions",
                "model": target.model,
                "auth_token": target.key,
                "num_concurrent": n_concurrent,
                "max_retries": 1,
            },
            tasks=tasks,
            batch_size=batch_size,
            bootstrap_iters=0,
            task_manager=TaskManager(include_path=name, include_defaults=False),
        )
    found: dict[str, Any] = {"results": report["results"]}
    for task in tasks:
        rows = sorted(report["samples"][task], key=lambda row: row["doc_id"])
        found[task] = [(row["arguments"], row["resps"]) for row in rows]
    return found


def same_bits(target: Target) -> None:
    """One request at a time and eight, one text in a request and four: the same numbers and texts."""
    alone = _evaluate(target, 1, 1)
    for n_concurrent, batch_size in ((8, 1), (8, 4)):
        expect_equal(
            f"{n_concurrent} at once, {batch_size} each", _evaluate(target, n_concurrent, batch_size), alone
        )


def direct_scores(target: Target) -> None:
    """Each log-likelihood is the number that llorch computes without a server; greedy flags, too."""
    found = _evaluate(target, 1, 1)
    pairs = [
        (arguments, response[0])
        for row, responses in found["local_choice"]
        for arguments, response in zip(row, responses, strict=True)
    ]
    asked = {
        "pairs": [arguments for arguments, _ in pairs],
        "texts": [row[0][0] for row, _ in found["local_texts"]],
    }
    done = subprocess.run(
        [os.environ["PYTHON_WITH_LLORCH"], "-m", "tools.conformance.direct_scores", target.model_path],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        timeout=280,
    )
    expect(done.returncode == 0, f"direct_scores ended with {done.returncode}:\n{done.stderr[-1500:]}")
    direct = json.loads(done.stdout)
    expect_equal("log-likelihoods", [list(pair) for _, pair in pairs], direct["pairs"])
    rolling = [responses[0][0] for _, responses in found["local_texts"]]
    expect_equal("log-likelihoods of whole texts", rolling, direct["texts"])


def accuracy(target: Target) -> None:
    """The harness prints an accuracy and bits per byte."""
    results = _evaluate(target, 1, 1)["results"]
    share = results["local_choice"]["acc,none"]
    bits = results["local_texts"]["bits_per_byte,none"]
    print(f"             accuracy {share:.2f}, {bits:.3f} bits per byte")
    expect(0 <= share <= 1 and bits > 0, "no scores")


CHECKS: list[Check] = [accuracy, same_bits, direct_scores]

if __name__ == "__main__":
    main(CHECKS)
