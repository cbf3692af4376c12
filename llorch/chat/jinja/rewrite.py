"""Changes of a parsed template, before it is compiled: what would be free is paid for, and literals are marked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from jinja2 import nodes, pass_context
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.visitor import NodeTransformer

from llorch.chat.jinja.budget import STEP, budget
from llorch.chat.jinja.methods import joined

_FILES = (nodes.Extends, nodes.Include, nodes.Import, nodes.FromImport, nodes.Block)


class Generation(Extension):
    """``{% generation %}``, which tells trainers what the model has written, and changes no text."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """What stands inside."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


@pass_context
def _tick(context: Any, value: object) -> bool:
    budget().charge(STEP)
    return True


@pass_context
def _made(context: Any, value: Any) -> Any:
    budget().size(value)
    return value


@pass_context
def _compared(context: Any, value: Any) -> Any:
    budget().charge(1 + budget().size(value) // 4)
    return value


@pass_context
def _cut(context: Any, value: Any) -> Any:
    budget().charge(1 + len(value) // 4 if isinstance(value, str | list | tuple) else 1)
    return value


@pass_context
def _concatenated(context: Any, values: Any) -> str:
    return joined("", values)


# Names that no template can write as a filter; those that take the context are never run while it is compiled.
METERS: dict[str, Callable[..., Any]] = {
    "a step": _tick, "a value made": _made, "a value compared": _compared, "a part": _cut,
    "values joined": _concatenated,
}  # fmt: skip
"""Filters that `metered` puts into a template."""


def forbidden_line(tree: nodes.Template) -> int | None:
    """The first line that asks for another template; None where there is none."""
    return min((node.lineno for node in tree.find_all(_FILES)), default=None)


def literals(tree: nodes.Template) -> Iterator[str]:
    """Every text of a template's own: what it can write, and the names that it looks up."""
    for data in tree.find_all(nodes.TemplateData):
        yield data.data
    for constant in tree.find_all(nodes.Const):
        if isinstance(constant.value, str):
            yield constant.value
    for attribute in tree.find_all(nodes.Getattr):
        yield attribute.attr


def metered(tree: nodes.Template, marked: Callable[[str], str]) -> nodes.Template:
    """`tree` with prices, and with its literals changed by `marked`."""
    changed = _Metering(marked).visit(tree)
    assert isinstance(changed, nodes.Template)
    return changed


class _Metering(NodeTransformer):
    def __init__(self, marked: Callable[[str], str]) -> None:
        self._marked = marked

    def visit_TemplateData(self, node: nodes.TemplateData) -> nodes.Node:
        node.data = self._marked(node.data)
        return node

    def visit_Const(self, node: nodes.Const) -> nodes.Node:
        if isinstance(node.value, str):
            node.value = self._marked(node.value)
        return node

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        tick = _through("a step", nodes.Const(None), node.lineno)
        node.body.insert(0, nodes.ExprStmt(tick).set_lineno(node.lineno))
        if node.test is not None:
            node.test = nodes.And(tick, node.test).set_lineno(node.lineno)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return _through("values joined", nodes.Tuple(node.nodes, "load"), node.lineno)

    def visit_List(self, node: nodes.List) -> nodes.Node:
        self.generic_visit(node)
        return _through("a value made", node, node.lineno)

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:
        self.generic_visit(node)
        return _through("a value made", node, node.lineno)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        self.generic_visit(node)
        return _through("a value made", node, node.lineno) if node.ctx == "load" else node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        self.generic_visit(node)
        node.expr = _through("a value compared", node.expr, node.lineno)
        for operand in node.ops:
            operand.expr = _through("a value compared", operand.expr, node.lineno)
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        return _through("a part", node, node.lineno) if isinstance(node.arg, nodes.Slice) else node


def _through(name: str, node: nodes.Expr, line: int) -> nodes.Filter:
    """`node` passed through the filter `name`."""
    through = nodes.Filter(node, name, [], [], None, None)
    through.lineno, through.environment = line, node.environment
    return through
