"""Recursion in grammars: rules that only repeat something are made repetitions, and the others are found."""

from __future__ import annotations

from llorch.chat.gbnf.nodes import (
    Choice,
    Node,
    Reference,
    Repeat,
    Rules,
    Sequence,
    alternatives,
    depth,
    references,
)
from llorch.errors import ConstraintError

MAX_LEVELS = 500
"""Levels of groups and references on a path through the rules; so many fit a stack of 2 MB."""


def without_tails(rules: Rules) -> Rules:
    """The same language, with a repetition in each rule that refers to itself only as the last or the first item.

    ``ws ::= ([ \\t\\n] ws)?`` becomes ``ws ::= [ \\t\\n]*``: llama.cpp's grammars are full of these.
    """
    return {name: _without_tail(name, node) for name, node in rules.items()}


def _without_tail(name: str, node: Node) -> Node:
    if name not in references(node):
        return node
    for side in (-1, 0):
        repeated, others = list[Node](), list[Node]()
        for alternative in alternatives(node):
            rest = _rest(name, alternative, side)
            (others if rest is None else repeated).append(alternative if rest is None else rest)
        if not others or name in references(Choice((*repeated, *others))):
            continue
        again = Repeat(_one_of(repeated), 0, None)
        end = _one_of(others)
        return Sequence((again, end) if side else (end, again))
    return node


def _rest(name: str, alternative: Node, side: int) -> Node | None:
    """What stands beside a reference to `name` at one side of `alternative`; None if there is none."""
    items = alternative.items if isinstance(alternative, Sequence) else (alternative,)
    if not items or not isinstance(items[side], Reference) or name not in references(items[side]):
        return None
    rest = items[:-1] if side else items[1:]
    return rest[0] if len(rest) == 1 else Sequence(rest)


def _one_of(nodes: list[Node]) -> Node:
    return nodes[0] if len(nodes) == 1 else Choice(tuple(nodes))


def used(rules: Rules) -> Rules:
    """The rules that root leads to, each behind those that it refers to where that is possible.

    Raises:
        ConstraintError: they lead too deep: the compiler recurses along them, and an overflow would end the process.
    """
    found: dict[str, Node] = {}
    seen = {"root"}
    stack = [("root", iter(references(rules["root"])))]
    n_levels = depth(rules["root"])
    while stack:
        name, others = stack[-1]
        other = next((one for one in others if one not in seen), None)
        if other is None:
            found[name] = rules[name]
            n_levels -= depth(rules[name])
            stack.pop()
        else:
            seen.add(other)
            stack.append((other, iter(references(rules[other]))))
            n_levels += depth(rules[other])
            if n_levels > MAX_LEVELS:
                raise ConstraintError(f"rules that lead through more than {MAX_LEVELS} levels")
    return found


def is_regular(rules: Rules) -> bool:
    """Whether no rule leads to itself.

    Args:
        rules: in the order of `used`.
    """
    before: set[str] = set()
    for name, node in rules.items():
        if not before.issuperset(references(node)):
            return False
        before.add(name)
    return True
