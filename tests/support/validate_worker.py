"""Validates files against dumps of llama.cpp, in one process that has one path and one order of additions.

    LLORCH_SUMS=llama.cpp python -m tests.support.validate_worker RESIDENCE REFERENCES MODEL...

Prints JSON: by the model's name the stages that failed, and those that differ from the dump at all.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from llorch.validation.checkpoints import validate
from llorch.validation.dumps import Reference
from llorch.validation.subject import open_subject
from tests.conftest import REPOSITORY

Found = dict[str, dict[str, list[str]]]


def validate_all(models: list[Path], references: Path, residence: str, **environment: str) -> Found:
    """What the worker finds with these environment variables."""
    words = [sys.executable, "-m", "tests.support.validate_worker", residence, str(references)]
    done = subprocess.run(
        [*words, *map(str, models)],
        cwd=REPOSITORY,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found: Found = json.loads(done.stdout)
    assert set(found) == {model.stem for model in models}
    return found


def main(residence: str, references: str, *models: str) -> None:
    found: Found = {}
    for path in map(Path, models):
        reference = Reference.load(Path(references) / path.stem)
        subject = open_subject(path, reference, n_threads=2, residence=residence)
        with subject.model:
            results = validate(subject, reference, goes_on=True).findings.results
        assert len(results) > 100
        # Checkpoint 11 compares our sampler's softmax with one in float64, not with llama.cpp.
        differing = [r for r in results if r.comparison and r.checkpoint != "11" and r.comparison.max_abs]
        failing = [r for r in results if r.verdict == "fail"]
        found[path.stem] = {
            key: [f"{r.way} {r.run} {r.stage}-{r.layer}" for r in those]
            for key, those in (("failed", failing), ("different", differing))
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
