"""How the tests are laid out: what two modules share lies in `tests/support`, and every module belongs to a suite."""

from __future__ import annotations

import ast

from tests.conftest import REPOSITORY

TESTS = REPOSITORY / "tests"
SUITES = {"architecture", "conformance", "golden", "hostile", "integration", "perf", "property", "unit"}


def test_no_module_imports_from_a_test_module() -> None:
    faults = [
        f"{path.relative_to(TESTS)}:{node.lineno} imports {node.module}"
        for path in sorted(TESTS.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module
        if node.module.startswith("tests.") and node.module.rpartition(".")[2].startswith("test_")
    ]
    assert faults == []


def test_test_modules_lie_in_suites_and_shared_ones_in_support() -> None:
    for path in TESTS.rglob("*.py"):
        top, *_ = path.relative_to(TESTS).parts
        if path.name.startswith("test_"):
            assert top in SUITES, path
        elif path.name.endswith("_worker.py"):
            assert top == "support", path
