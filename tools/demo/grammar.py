"""The small template language of the demo corpus: reading its files, and correcting the expanded text."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

KINDS = ("child", "animal", "fantasy")


@dataclass
class Plot:
    """One plot as written in `plots.txt`."""

    kinds: tuple[str, ...]
    lets: list[tuple[str, str]] = field(default_factory=list)
    beats: list[tuple[bool, list[str]]] = field(default_factory=list)


def load_words(path: Path) -> dict[str, list[str]]:
    """Read the word lists.

    Args:
        path: A file of `name: item | item` lines.

    Returns:
        The items of every list, unexpanded.
    """
    words: dict[str, list[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, _, items = line.partition(": ")
            words.setdefault(name, []).extend(item.strip() for item in split_choices(items))
    return words


def load_plots(path: Path) -> dict[str, Plot]:
    """Read the plots, in the format that the head of `plots.txt` explains."""
    plots: dict[str, Plot] = {}
    plot = Plot(())
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("== "):
            name, _, kinds = line[3:].partition(" ")
            plot = plots[name] = Plot(tuple(kinds.strip("[]").split()) or KINDS)
        elif line.startswith("let "):
            name, _, template = line[4:].partition(" = ")
            plot.lets.append((name, template))
        elif line.startswith("- "):
            plot.beats[-1][1].append(line[2:].strip())
        elif line.startswith("~"):
            plot.beats.append((True, ["<nature>"]))
        elif plots and line.startswith("#"):
            plot.beats.append((line.startswith("#?"), []))
    return plots


def split_choices(text: str) -> list[str]:
    """Split at each `|` that stands in no braces and no angle brackets."""
    parts, depth = [""], 0
    for char in text:
        depth += (char in "{<") - (char in "}>")
        if char == "|" and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    return parts


@cache
def parse(template: str) -> tuple[str | list[str], ...]:
    """Split a template into text (which may hold tags) and choices (lists of templates)."""
    nodes: list[str | list[str]] = []
    depth, start = 0, 0
    for i, char in enumerate(template):
        if char == "{":
            if depth == 0:
                nodes.append(template[start:i])
                start = i + 1
            depth += 1
        elif char == "}":
            depth -= 1
            if depth == 0:
                nodes.append(split_choices(template[start:i]))
                start = i + 1
    return (*nodes, template[start:])


def capitalize(text: str) -> str:
    """Make the first letter a capital and leave the others alone."""
    return text[:1].upper() + text[1:]


def polish(text: str) -> str:
    """Correct spaces, `a`/`an`, and the capitals at the starts of sentences and quotations.

    What follows `!"` or `?"` stays as it is, because it may say who spoke.

    Args:
        text: An expanded story.

    Returns:
        The corrected story.
    """
    text = re.sub(r" +", " ", text).strip()
    text = re.sub(r" ([,.!?])", r"\1", text)
    text = re.sub(r"\b([Aa]) (?=[aeioAEIO]|u(?!n[iu]|ku|se))", r"\1n ", text)
    text = re.sub(r"\b([Aa])n (?=one\b)", r"\1 ", text)
    starts = r'(^"?|[.!?] "?|\." |: "|\n+"?|[.!?]" ")([a-z])'
    text = re.sub(starts, lambda match: match[1] + match[2].upper(), text)
    text = re.sub(r'\." Said\b', '," said', text)
    return re.sub(r"(Mr|Mrs)\. (\w)", lambda match: f"{match[1]}. {match[2].upper()}", text)
