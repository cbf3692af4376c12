"""What a GBNF grammar is made of: sets of characters and tokens, references to rules, and ways to put them together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

Ranges = tuple[tuple[int, int], ...]
"""Code points, from the first of each pair to its last; in order, and apart from one another."""

_SURROGATES = (0xD800, 0xDFFF)
_LAST = 0x10FFFF


@dataclass(frozen=True, slots=True, eq=False)
class Chars:
    """One character of a set. Each place of a grammar has its own, so they are told apart by identity.

    Attributes:
        ranges: the set.
    """

    ranges: Ranges


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """One token of a set, whatever it spells. Each place has its own.

    Attributes:
        ranges: ids, from the first of each pair to its last; in order.
    """

    ranges: Ranges


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """What a rule stands for.

    Attributes:
        name: the rule's.
    """

    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Sequence:
    """One item behind the other; without items the empty text."""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """One of several."""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Repeat:
    """An item again and again.

    Attributes:
        item: what is repeated.
        least: how often at least.
        most: how often at most; None: without end.
    """

    item: Node
    least: int
    most: int | None


Node = Chars | Tokens | Reference | Sequence | Choice | Repeat
Rules = Mapping[str, Node]

EMPTY = Sequence(())


def in_order(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """The set of all characters in `ranges`."""
    merged: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return tuple(merged)


def all_but(ranges: Ranges) -> Ranges:
    """The set of all characters that are not in `ranges`."""
    found: list[tuple[int, int]] = []
    begin = 0
    for low, high in (*in_order([*ranges, _SURROGATES]), (_LAST + 1, _LAST + 1)):
        if begin < low:
            found.append((begin, low - 1))
        begin = high + 1
    return tuple(found)


ANY = all_but(())


def have_common(first: Ranges, second: Ranges) -> bool:
    """Whether some character is in both sets."""
    i = j = 0
    while i < len(first) and j < len(second):
        if first[i][1] < second[j][0]:
            i += 1
        elif second[j][1] < first[i][0]:
            j += 1
        else:
            return True
    return False


def parts(node: Node) -> tuple[Node, ...]:
    """The nodes right under one."""
    match node:
        case Sequence(items) | Choice(items):
            return items
        case Repeat(item):
            return (item,)
    return ()


def alternatives(node: Node) -> tuple[Node, ...]:
    """What there is to choose from, at the top of a node."""
    match node:
        case Choice(items):
            return items
        case Sequence((Choice() | Repeat() as item,)):
            return alternatives(item)
        case Repeat(item, 0, 1):
            return (*alternatives(item), EMPTY)
    return (node,)


def references(node: Node) -> dict[str, None]:
    """Names of the rules that a node refers to, in their order."""
    if isinstance(node, Reference):
        return {node.name: None}
    return {name: None for part in parts(node) for name in references(part)}


def has_tokens(node: Node) -> bool:
    """Whether a node names tokens, references aside."""
    return isinstance(node, Tokens) or any(map(has_tokens, parts(node)))


def depth(node: Node) -> int:
    """Levels of nodes in one another."""
    return 1 + max(map(depth, parts(node)), default=0)
