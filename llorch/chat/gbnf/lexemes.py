"""Which repetitions of one set of characters the compiler may read as wholes.

llguidance splits a text into lexemes, each as long as can be, and never goes back: of ``[a-z]+ "ing"`` it reads "going"
as one lexeme, and waits for "ing" for ever. A lexeme of one character leaves nothing to decide, so with these any
grammar means what GBNF says. But then each character of each token in the vocabulary is a step of the parser, far too
slow where nearly all tokens may come next: in a string, in a comment. There a *run*, all characters of one repetition,
shall be a lexeme. It may, if nothing else that could be read at the same place begins with a character of its set, and
nothing that may follow does. This module finds out where that holds; where it cannot tell, the answer is no.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import reduce
from operator import or_

from llorch.chat.gbnf.nodes import (
    Chars,
    Choice,
    Node,
    Ranges,
    Reference,
    Repeat,
    Rules,
    Sequence,
    Tokens,
    have_common,
    parts,
)
from llorch.errors import ConstraintError

_MAX_WORK = 200_000
"""Steps of the search, each of about a microsecond."""
_MAX_TOGETHER = 200
"""Places of a grammar that may take the same character at once: the parser's time grows with their square or cube."""

_FIRST_TOKEN = 1 << 21
"""Tokens count as characters from here on, which no text has."""

Place = Chars | Tokens | Repeat
"""Where a lexeme stands: one character, one token, or a repetition of one set of characters."""


def is_run(node: Node) -> bool:
    """Whether a node repeats characters of one set."""
    return isinstance(node, Repeat) and isinstance(node.item, Chars)


def safe_runs(rules: Rules) -> set[int]:
    """Identities (`id`) of the runs that may be lexemes.

    Raises:
        ConstraintError: so much may come next at some place that the parser would take seconds for a step.
    """
    search = _Search(rules)
    search.find_followers()
    safe = sum(1 << i for i, place in enumerate(search.places) if isinstance(place, Repeat))
    while unsafe := search.unsafe_runs(safe):  # what is no lexeme may be in the way of others
        safe &= ~unsafe
    return {id(search.places[i]) for i in _bits(safe)}


@dataclass(slots=True)
class _Search:
    """What may follow what. Sets of places are the bits of integers.

    Attributes:
        rules: the grammar.
        places: of all lexemes.
        followers: of each place, those that may come next.
    """

    rules: Rules
    places: list[Place] = field(default_factory=list)
    followers: list[int] = field(default_factory=list)
    _index: dict[int, int] = field(default_factory=dict)
    _first: dict[str, tuple[int, bool]] = field(default_factory=dict)
    _work: int = 0

    def __post_init__(self) -> None:
        for node in self.rules.values():
            self._collect(node)
        self.followers = [0] * len(self.places)
        self._first = dict.fromkeys(self.rules, (0, False))
        self._settle()

    def _collect(self, node: Node) -> None:
        if isinstance(node, Chars | Tokens) or (isinstance(node, Repeat) and is_run(node)):
            if id(node) not in self._index:  # it may stand at several places, which then count as one
                self._index[id(node)] = len(self.places)
                self.places.append(node)
            return
        for part in parts(node):
            self._collect(part)

    def _settle(self) -> None:
        """Find out how each rule may begin, and whether it may be empty."""
        is_new = True
        while is_new:
            is_new = False
            for name, node in self.rules.items():
                first = self._first_of(node)
                is_new |= first != self._first[name]
                self._first[name] = first

    def _first_of(self, node: Node) -> tuple[int, bool]:
        """Places at which a node may begin, and whether it may be empty."""
        self._count()
        if (index := self._index.get(id(node))) is not None:
            return 1 << index, isinstance(node, Repeat) and node.least == 0
        match node:
            case Reference(name):
                return self._first[name]
            case Repeat(item, least):
                first, is_empty = self._first_of(item)
                return first, is_empty or least == 0
            case Choice(items):
                firsts = [self._first_of(item) for item in items]
                return _union(first for first, _ in firsts), any(is_empty for _, is_empty in firsts)
            case Sequence(items):
                found = 0
                for item in items:
                    first, is_empty = self._first_of(item)
                    found |= first
                    if not is_empty:
                        return found, False
                return found, True
        raise AssertionError(node)

    def find_followers(self) -> None:
        """Fill `followers`."""
        behind = dict.fromkeys(self.rules, 0)
        waiting = dict.fromkeys(self.rules)
        while waiting:
            name = next(iter(waiting))
            del waiting[name]
            for other, follow in self._followed(self.rules[name], behind[name]):
                if follow | behind[other] != behind[other]:
                    behind[other] |= follow
                    waiting[other] = None

    def _followed(self, node: Node, follow: int) -> list[tuple[str, int]]:
        """Note what follows the places in `node`; the rules that it refers to, and what follows these."""
        self._count()
        if (index := self._index.get(id(node))) is not None:
            self.followers[index] |= follow
            return []
        match node:
            case Reference(name):
                return [(name, follow)]
            case Choice(items):
                return [found for item in items for found in self._followed(item, follow)]
            case Repeat(item, _, most):
                again = 0 if most == 1 else self._first_of(item)[0]
                return self._followed(item, follow | again)
            case Sequence(items):
                found = list[tuple[str, int]]()
                for item in reversed(items):
                    found += self._followed(item, follow)
                    first, is_empty = self._first_of(item)
                    follow = follow | first if is_empty else first
                return found
        raise AssertionError(node)

    def unsafe_runs(self, runs: int) -> int:
        """Those of `runs` that cannot be told from what else may be read, if all of them were lexemes.

        Sets of places that may be read next are followed from the beginning, character by character.
        """
        atoms = self._atoms()
        follows = [self._behind(i, is_lexeme=bool(runs >> i & 1)) for i in range(len(self.places))]
        unsafe = sum(1 << i for i in _bits(runs) if self._is_followed_by_itself(i))
        first, _ = self._first["root"]
        waiting, seen = [first], {first}
        behind: dict[int, int] = {}
        while waiting:
            some = waiting.pop()
            self._count(1 + len(atoms) // 16)
            for together in {some & atom for atom in atoms} - {0}:
                if together & (together - 1):  # more than one
                    unsafe |= together & runs
                if together not in behind:
                    places = _bits(together)
                    if len(places) > _MAX_TOGETHER:
                        raise ConstraintError("a grammar with recursion that leaves too many ways to go on")
                    self._count(len(places))
                    behind[together] = _union(follows[i] for i in places)
                if behind[together] not in seen:
                    seen.add(behind[together])
                    waiting.append(behind[together])
        return unsafe

    def _behind(self, i: int, *, is_lexeme: bool) -> int:
        """What may be read behind a place; a run that is no lexeme goes on with itself."""
        goes_on = not is_lexeme and _may_go_on(self.places[i], 1)
        return self.followers[i] | goes_on << i

    def _is_followed_by_itself(self, i: int) -> bool:
        """Whether what follows a run may begin with a character that the run could take."""
        place = self.places[i]
        return _may_go_on(place, max(_least_of(place), 1)) and any(
            have_common(_ranges(place), ranges)
            for ranges in {_ranges(self.places[j]) for j in _bits(self.followers[i])}
        )

    def _atoms(self) -> set[int]:
        """For each character that some set has, the places that have it in theirs."""
        having: dict[Ranges, int] = {}
        for i, place in enumerate(self.places):
            having[_ranges(place)] = having.get(_ranges(place), 0) | 1 << i
        changes: dict[int, int] = {}  # at each code point, the places that begin or cease to have it
        for ranges, mask in having.items():
            for low, high in ranges:
                changes[low] = changes.get(low, 0) ^ mask
                changes[high + 1] = changes.get(high + 1, 0) ^ mask
        self._count(len(changes))
        atoms, now = set[int](), 0
        for code in sorted(changes):
            now ^= changes[code]
            atoms.add(now)
        return atoms

    def _count(self, n: int = 1) -> None:
        self._work += n
        if self._work > _MAX_WORK:
            raise ConstraintError("a grammar with recursion that is too complex")


def _least_of(place: Place) -> int:
    """How many characters there are at a place, at least."""
    return place.least if isinstance(place, Repeat) else 1


def _may_go_on(place: Place, n: int) -> bool:
    """Whether there may be more than `n` characters at a place."""
    return isinstance(place, Repeat) and (place.most is None or place.most > n)


def _ranges(place: Place) -> Ranges:
    if isinstance(place, Tokens):
        return tuple((_FIRST_TOKEN + low, _FIRST_TOKEN + high) for low, high in place.ranges)
    chars = place.item if isinstance(place, Repeat) else place
    assert isinstance(chars, Chars)
    return chars.ranges


def _union(sets: Iterable[int]) -> int:
    return reduce(or_, sets, 0)


def _bits(value: int) -> list[int]:
    """Numbers of the bits that are set."""
    text = bin(value)[:1:-1]
    found, i = [], text.find("1")
    while i >= 0:
        found.append(i)
        i = text.find("1", i + 1)
    return found
