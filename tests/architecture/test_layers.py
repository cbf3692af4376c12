"""The architecture, held by a test: layers, third-party fences, sizes and names of every module of llorch."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import pytest

from tests.conftest import REPOSITORY

PACKAGE = REPOSITORY / "llorch"

LAYERS = [
    {"errors", "progress", "version"},
    {"fields", "machine", "observe"},
    {"quant"},
    {"formats", "kernels", "pulled", "text"},
    {"chat", "model", "model_files", "setting_sources"},
    {"conversation", "convert", "environment", "open_model", "settings"},
    {"bench", "embedding", "engine"},
    {"api", "quality", "receipts", "trace"},
    {"server", "validation"},
    {"report"},
    {"cli", "ray_serve"},
]
"""Lowest first. A module imports only from lower layers and its own package."""

WEB = ("server/", "ray_serve/")
CHECKED = ("fields/", "settings.py", "server/", "validation/", "receipts/", "report/")
FENCES: dict[str, tuple[str, ...]] = {
    "numba": ("kernels/",),
    "llvmlite": ("kernels/",),
    "fastapi": WEB,
    "starlette": WEB,
    "sse_starlette": WEB,
    "llguidance": ("chat/grammar.py",),
    "matplotlib": ("bench/plots.py",),
    "PIL": ("bench/plots.py",),
    "pydantic": CHECKED,
    "ray": ("ray_serve/",),
    "pydantic_core": CHECKED,
    "uvicorn": ("server/daemon.py", "server/protocol.py"),
    "h11": ("server/protocol.py",),
    "model_signing": ("validation/signing.py",),
    "huggingface_hub": ("pulled/hub.py",),
    "jinja2": ("chat/jinja/",),
    "prometheus_client": ("server/metrics/",),
    "opentelemetry": ("server/tracing.py",),
    "mmap": ("formats/",),
    "struct": ("formats/",),
}
"""Where a foreign module may be imported: a folder, or a file."""

MAX_FILE_LINES = 330
MAX_FUNCTION_LINES = 80
LONG_FUNCTIONS = ("kernels/",)
"""Kernels and what emits them: one straight run of instructions that splitting would hide."""

VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "misc"}


@dataclass(frozen=True)
class Import:
    """One imported module; `names` are what a ``from`` import takes, lazy ones do not run with the module."""

    line: int
    module: str
    names: tuple[str, ...]
    is_lazy: bool


@dataclass(frozen=True, eq=False)
class Module:
    """A source file of llorch, by its path inside the package."""

    path: str
    source: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.source, self.path)

    @property
    def package(self) -> str:
        """The first component: ``"formats"``, ``"errors"`` … or ``""`` for the package's own files."""
        first = self.path.split("/")[0].removesuffix(".py")
        return "" if first in ("__init__", "__main__") else first

    @cached_property
    def imports(self) -> list[Import]:
        lazy_nodes = {
            id(inner)
            for outer in ast.walk(self.tree)
            if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef)
            or (isinstance(outer, ast.If) and ast.unparse(outer.test) == "TYPE_CHECKING")
            for inner in ast.walk(outer)
        }
        return [
            Import(node.lineno, module, names, id(node) in lazy_nodes)
            for node in ast.walk(self.tree)
            if isinstance(node, ast.stmt | ast.expr)
            for module, names in self._imported_by(node)
        ]

    def _imported_by(self, node: ast.AST) -> Iterator[tuple[str, tuple[str, ...]]]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, ()
        elif isinstance(node, ast.ImportFrom):
            folder = ["llorch", *self.path.split("/")[:-1]]
            base = folder[: len(folder) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield module, tuple(alias.name for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            for argument in node.args[:1]:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield argument.value, ()


MODULES = [
    Module(path.relative_to(PACKAGE).as_posix(), path.read_text("utf-8"))
    for path in sorted(PACKAGE.rglob("*.py"))
]
every_module = pytest.mark.parametrize("module", MODULES, ids=lambda module: module.path)


def layer_of(package: str) -> int:
    return next(i for i, layer in enumerate(LAYERS) if package in layer)


def imported_packages(module: Module) -> Iterator[tuple[int, str]]:
    """Packages of llorch that a module imports, with the line."""
    for found in module.imports:
        parts = found.module.split(".")
        if parts[0] != "llorch":
            continue
        if len(parts) > 1:
            yield found.line, parts[1]
        else:
            yield from ((found.line, name) for name in found.names)


def layer_faults(module: Module) -> list[str]:
    if module.package == "":
        return []
    layer = layer_of(module.package)
    return [
        f"{module.path}:{line} imports {package}"
        for line, package in imported_packages(module)
        if package != module.package and not any(package in lower for lower in LAYERS[:layer])
    ]


def fence_faults(module: Module) -> list[str]:
    return [
        f"{module.path}:{found.line} imports {found.module}"
        for found in module.imports
        if not module.path.startswith(FENCES.get(found.module.split(".")[0], ("",)))
    ]


@every_module
def test_modules_import_only_from_lower_layers_and_their_own_package(module: Module) -> None:
    assert layer_faults(module) == []


@every_module
def test_third_party_modules_stay_behind_their_fences(module: Module) -> None:
    assert fence_faults(module) == []


def test_every_part_of_the_package_has_a_layer() -> None:
    packages = {module.package for module in MODULES} - {""}
    assert packages <= set().union(*LAYERS)


def test_importing_llorch_imports_nothing_else_of_it() -> None:
    (root,) = (module for module in MODULES if module.path == "__init__.py")
    eager = {found.module for found in root.imports if not found.is_lazy}
    assert {name for name in eager if name.split(".")[0] not in sys.stdlib_module_names} == {"llorch.version"}


def test_only_declared_dependencies_are_imported() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    lines = sum(
        (
            project["optional-dependencies"][name]
            for name in ("grammar", "hub", "otel", "plots", "ray", "sign")
        ),
        project["dependencies"],
    )
    declared = {re.split(r"[^A-Za-z0-9_-]", line)[0].replace("-", "_") for line in lines}
    comes_with = {
        "llvmlite": "numba",
        "starlette": "fastapi",
        "pydantic_core": "pydantic",
        "PIL": "matplotlib",
        "opentelemetry": "opentelemetry_sdk",
    }
    known = declared | {name for name, host in comes_with.items() if host in declared}
    known |= set(sys.stdlib_module_names) | {"llorch"}
    assert {
        f"{module.path}: {found.module}"
        for module in MODULES
        for found in module.imports
        if found.module.split(".")[0] not in known
    } == set()


@every_module
def test_only_the_command_line_prints(module: Module) -> None:
    if module.package == "cli":
        return
    prints = [
        f"{module.path}:{node.lineno}"
        for node in ast.walk(module.tree)
        if (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print")
        or (isinstance(node, ast.Attribute) and ast.unparse(node) in ("sys.stdout", "sys.stderr"))
    ]
    assert prints == []


@every_module
def test_files_and_functions_are_short(module: Module) -> None:
    assert module.source.count("\n") <= MAX_FILE_LINES
    if not module.path.startswith(LONG_FUNCTIONS):
        assert [
            f"{node.name}: {node.end_lineno - node.lineno + 1} lines"
            for node in ast.walk(module.tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and node.end_lineno is not None
            and node.end_lineno - node.lineno >= MAX_FUNCTION_LINES
        ] == []


@every_module
def test_nothing_is_left_to_be_done_or_vaguely_named(module: Module) -> None:
    assert re.findall(r"\b(?:TODO|FIXME|XXX|HACK)\b", module.source) == []
    assert not VAGUE_NAMES & set(module.path.removesuffix(".py").split("/"))


@pytest.mark.parametrize(
    ("path", "source", "fault"),
    [
        ("quant/a.py", "from llorch.formats.gguf.file import GGUFFile", "quant/a.py:1 imports formats"),
        ("formats/a.py", "import llorch.kernels.jit", "formats/a.py:1 imports kernels"),
        ("formats/a.py", "from ..text import spm", "formats/a.py:1 imports text"),
        ("model/a.py", "def f():\n    from llorch import engine", "model/a.py:2 imports engine"),
        ("text/a.py", "import importlib\nimportlib.import_module('llorch.cli')", "text/a.py:2 imports cli"),
        ("open_model.py", "from llorch.settings import Settings", "open_model.py:1 imports settings"),
        ("model/a.py", "from numba import njit", "model/a.py:1 imports numba"),
        ("engine/a.py", "import pydantic.types", "engine/a.py:1 imports pydantic.types"),
        ("chat/template.py", "import jinja2", "chat/template.py:1 imports jinja2"),
        ("chat/a.py", "import llorch.model.config", "chat/a.py:1 imports model"),
        ("cli/serve.py", "import uvicorn", "cli/serve.py:1 imports uvicorn"),
        ("server/app.py", "import h11", "server/app.py:1 imports h11"),
        ("server/app.py", "from ray import serve", "server/app.py:1 imports ray"),
        ("cli/serve.py", "import llorch.ray_serve", "cli/serve.py:1 imports ray_serve"),
        ("bench/tests.py", "import matplotlib", "bench/tests.py:1 imports matplotlib"),
        ("engine/a.py", "import prometheus_client", "engine/a.py:1 imports prometheus_client"),
        ("server/app.py", "from opentelemetry import trace", "server/app.py:1 imports opentelemetry"),
    ],
)
def test_the_rules_catch_what_they_forbid(path: str, source: str, fault: str) -> None:
    module = Module(path, source)
    assert layer_faults(module) + fence_faults(module) == [fault]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("formats/a.py", "import mmap\nfrom .gguf.file import GGUFFile\nfrom llorch.quant.types import F32"),
        (
            "server/daemon.py",
            "import uvicorn\nfrom llorch.version import __version__\nfrom llorch.server.app import create_app",
        ),
        ("chat/jinja/a.py", "import jinja2.nodes\nfrom llorch.text.tokenizer import Tokenizer"),
        ("kernels/linear/a.py", "from numba import njit\nfrom ..jit import f"),
        ("settings.py", "import pydantic\nfrom llorch.errors import SettingsError"),
        ("validation/a.py", "import pydantic\nfrom llorch.bench.plots import curves"),
    ],
)
def test_the_rules_allow_what_the_design_allows(path: str, source: str) -> None:
    module = Module(path, source)
    assert layer_faults(module) + fence_faults(module) == []
