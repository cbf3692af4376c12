"""Kernels: every operand written is read, units have names of their own, formats stay in their objects."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from numba import types

import llorch.kernels
from llorch.kernels import ops
from llorch.kernels.buffers import ActivationForm
from llorch.kernels.program import FIRST_OPERAND, RECORD
from llorch.kernels.weights.formats import FORMATS
from llorch.quant.types import I8, SUPPORTED
from tests.conftest import REPOSITORY

KERNELS = REPOSITORY / "llorch" / "kernels"
OPERATION_MODULES = [
    f"llorch.kernels.ops.{info.name}"
    for info in pkgutil.iter_modules(ops.__path__)
    if "operands(" in (KERNELS / "ops" / f"{info.name}.py").read_text("utf-8")
]


def sources() -> Iterator[tuple[str, ast.Module]]:
    """Every module of the kernels by its dotted name."""
    for path in sorted(KERNELS.rglob("*.py")):
        name = ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
        yield name, ast.parse(path.read_text("utf-8"))


def operand_names(tree: ast.Module) -> list[str]:
    """Names that a module gives to ``operands(n)``, and a check that there are `n`."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.value).startswith("operands("):
            (targets,) = node.targets
            assert isinstance(targets, ast.Tuple)
            assert ast.unparse(node.value) == f"operands({len(targets.elts)})"
            return [ast.unparse(target) for target in targets.elts]
    return []


def names_of(module: str, tree: ast.Module) -> dict[str, str]:
    """What each operand's name in a module stands for: the module that declares it, and its name there."""
    known = {name: f"{module}.{name}" for name in operand_names(tree)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in OPERATION_MODULES:
            known |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return known


def test_every_operand_written_is_read_and_every_one_read_is_written() -> None:
    declared, written, read = set[str](), set[str](), set[str]()
    for module, tree in sources():
        known = names_of(module, tree)
        declared |= {f"{module}.{name}" for name in operand_names(tree)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Dict):
                written |= {known[ast.unparse(key)] for key in node.keys if key and ast.unparse(key) in known}
            elif (
                isinstance(node, ast.Subscript)
                and ast.unparse(node.value) == "o"
                and ast.unparse(node.slice) in known
            ):
                read.add(known[ast.unparse(node.slice)])
    assert len(declared) > 50
    assert written == declared
    assert read == declared


def test_instructions_are_read_by_names_only() -> None:
    numbered = [
        f"{module}:{node.lineno}"
        for module, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Subscript)
        and ast.unparse(node.value) in ("o", "s")
        and isinstance(node.slice, ast.Constant)
    ]
    assert numbered == []


@pytest.mark.parametrize("name", OPERATION_MODULES)
def test_operands_of_an_operation_fit_an_instruction_and_do_not_overlap(name: str) -> None:
    module = importlib.import_module(name)
    tree = ast.parse(Path(str(module.__file__)).read_text("utf-8"))
    places = [getattr(module, operand) for operand in operand_names(tree)]
    assert places == list(range(FIRST_OPERAND, FIRST_OPERAND + len(places)))
    assert places[-1] < RECORD


def test_every_unit_has_a_name_of_its_own_and_takes_int64_or_instructions() -> None:
    units = llorch.kernels.all_units()
    assert len({unit.name for unit in units}) == len(units) > 30
    operation = (types.CPointer(types.int64), types.CPointer(types.int64), *[types.int64] * 5)
    for unit in units:
        assert re.fullmatch(r"[a-z0-9_]+", unit.name)
        is_plain = all(t == types.int64 for t in unit._argument_types)
        assert is_plain or unit._argument_types == operation, unit.name
    titles = defaultdict(list)
    for unit in units:
        titles[unit.title].append(unit.name)
    assert {title: names for title, names in titles.items() if len(names) > 1} == {}


def test_all_units_declares_every_unit_there_is() -> None:
    units = set(llorch.kernels.all_units())
    for info in pkgutil.walk_packages(llorch.kernels.__path__, "llorch.kernels."):
        importlib.import_module(info.name)
    assert set(llorch.kernels.all_units()) == units


def test_every_type_that_files_may_hold_has_a_weight_format_in_the_form_ggml_names() -> None:
    assert set(FORMATS) == {I8, *SUPPORTED.values()}
    for quant, weight_format in FORMATS.items():
        form = weight_format.activation
        assert weight_format.quant is quant
        assert isinstance(form, ActivationForm) or quant.name == "F32"


CONSUMERS = ("bench", "cli", "engine", "kernels", "model", "server", "text")
FORMAT_FOLDERS = ("kernels/activations", "kernels/tiles", "kernels/weights")


@pytest.mark.parametrize("folder", CONSUMERS)
def test_consumers_ask_the_format_and_never_its_type(folder: str) -> None:
    """Neither ``type is Q8_0`` nor a bare ggml id outside the formats: the next format would need one more."""
    package = REPOSITORY / "llorch"
    types_named = {quant.name for quant in (I8, *SUPPORTED.values())}
    found = []
    for path in sorted((package / folder).rglob("*.py")):
        if path.relative_to(package).as_posix().startswith(FORMAT_FOLDERS):
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "llorch.quant.types":
                names = [alias.name for alias in node.names if alias.name in types_named]
            else:
                names = ["ggml_id"] if isinstance(node, ast.Attribute) and node.attr == "ggml_id" else []
            found += [f"{path.relative_to(package)}: {name}" for name in names]
    assert found == []
