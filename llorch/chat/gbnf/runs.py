"""Loops over characters and other things are written so that the characters stand together: (a | B)* is a* (B a*)*."""

from __future__ import annotations

from llorch.chat.gbnf.nodes import (
    Chars,
    Choice,
    Node,
    Reference,
    Repeat,
    Rules,
    Sequence,
    alternatives,
    in_order,
)

_MAX_ALTERNATIVES = 64


def with_runs(rules: Rules) -> Rules:
    """The same language, with a run in each loop that may read a character.

    The contents of a string are such a loop: characters, and escapes between them.
    """
    return {name: _rewritten(node, rules) for name, node in rules.items()}


def _rewritten(node: Node, rules: Rules) -> Node:
    match node:
        case Sequence(items):
            return Sequence(tuple(_rewritten(item, rules) for item in items))
        case Choice(items):
            return Choice(tuple(_rewritten(item, rules) for item in items))
        case Repeat(item, least, most):
            return _loop(item, least, most, rules)
    return node


def _loop(item: Node, least: int, most: int | None, rules: Rules) -> Node:
    chars, others = list[Chars](), list[Node]()
    for one in _resolved(item, rules, ()):
        if isinstance(one, Repeat) and _is_absorbed(one, least, most):
            one = one.item
        if isinstance(one, Chars):
            chars.append(one)
        else:
            others.append(one)
    if not chars or (others and (most is not None or least > 1)):
        return Repeat(_rewritten(item, rules), least, most)
    together = Chars(in_order(pair for one in chars for pair in one.ranges))
    if not others:
        return Repeat(together, least, most)
    other = _rewritten(others[0] if len(others) == 1 else Choice(tuple(others)), rules)
    run = Repeat(together, 0, None)
    loop = Sequence((run, Repeat(Sequence((other, Repeat(together, 0, None))), 0, None)))
    return loop if least == 0 else Sequence((Choice((together, other)), loop))


def _is_absorbed(run: Repeat, least: int, most: int | None) -> bool:
    """Whether a loop over a repetition reads the same as one over its item: (a+ | B)* is (a | B)*."""
    return most is None and run.most is None and (run.least == 1 or least == run.least == 0)


def _may_begin_run(node: Node) -> bool:
    return isinstance(node, Chars) or (isinstance(node, Repeat) and isinstance(node.item, Chars))


def _resolved(item: Node, rules: Rules, within: tuple[str, ...]) -> list[Node]:
    """The alternatives of `item`, and of the rules that it refers to where these may be one character."""
    found: list[Node] = []
    for one in alternatives(item):
        if isinstance(one, Reference) and one.name not in within:
            inner = _resolved(rules[one.name], rules, (*within, one.name))
            if len(inner) <= _MAX_ALTERNATIVES and any(map(_may_begin_run, inner)):
                found += inner
                continue
        found.append(one)
    return found
