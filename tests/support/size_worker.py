"""Validates every model of a folder against its dump; as JSON on stdout: {name: [what differs in any bit]}.

    LLORCH_SUMS=llama.cpp python -m tests.support.size_worker FOLDER

The folder holds ``NAME.gguf`` and the dump ``NAME/`` for every NAME. A process chooses its order of additions when it
starts, so llama.cpp's order needs a process of its own.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from llorch.kernels import paths
from llorch.validation.checkpoints import ValidationResult, validate
from llorch.validation.dumps import Reference
from llorch.validation.subject import open_subject


def validated(model: Path) -> ValidationResult:
    """Every checkpoint of a model whose dump lies beside it."""
    reference = Reference.load(model.with_suffix(""))
    subject = open_subject(model, reference, n_threads=1)
    with subject.model:
        return validate(subject, reference, goes_on=True)


def differences(result: ValidationResult) -> list[str]:
    """Where anything differs at all, and what failed; checkpoint 11 compares with float64, not with llama.cpp."""
    return [
        f"{check.checkpoint}: {check.way} {check.run} {check.stage}-{check.layer}"
        for check in result.findings.results
        if check.verdict != "pass"
        or (check.checkpoint != "11" and check.comparison and check.comparison.max_abs != 0)
    ]


def main(folder: Path) -> None:
    """Print what differs in each model."""
    found = {path.stem: differences(validated(path)) for path in sorted(folder.glob("*.gguf"))}
    print(json.dumps({"sums": paths.sums(), "differences": found}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
