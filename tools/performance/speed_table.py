"""The table of speeds that people read: every engine by name, each ratio, and the verdict of each test."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from llorch.bench.verdicts import SHARE_TARGET, Verdict, verdict_of
from tools.performance.peer_runs import LLORCH

Case = dict[str, Any]
NONE = "–"


def speed(value: float) -> str:
    """Three significant digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def type_of(model: Mapping[str, Any]) -> str:
    """The model's type; a bundle that does not record it has files that are named after it."""
    return str(model.get("type") or model["file"].removesuffix(".gguf").rpartition("-")[2].upper())


def verdict_in(case: Mapping[str, Any]) -> Verdict | None:
    """The verdict of a case: the recorded one; a bundle without verdicts has samples in the order of its rounds."""
    if "verdict" in case:
        return Verdict(**case["verdict"]) if case["verdict"] else None
    samples = {name: dict(enumerate(engine["samples"])) for name, engine in case["engines"].items()}
    own = samples.pop(LLORCH)
    shares = case.get("share_of_read_bandwidth", {}).get("samples", [])
    return verdict_of(case["test"], own, samples, dict(enumerate(shares)))


def table(cases: Sequence[Case], peers: Sequence[str]) -> str:
    """The short Markdown table: one line per model and test; what is lost is bold.

    Args:
        cases: as `performance_report.case_of` makes them.
        peers: names of all peers, of which a case may lack some.
    """
    heading = ["model", "type", "test", "llorch, tokens/s"]
    heading += [f"{peer} (llorch's ratio)" for peer in peers]
    heading += ["against the fastest peer (by round)", "target"] if peers else []
    lines = [f"| {' | '.join(heading)} |", f"|{'---|' * len(heading)}"]
    for case in cases:
        model, own = case["model"], case["engines"][LLORCH]["median"]
        cells = [model["name"], type_of(model), case["test"], speed(own)]
        for peer in peers:
            found = case["engines"].get(peer)
            cells.append(f"{speed(found['median'])} ({ratio_text(own / found['median'])})" if found else NONE)
        if peers:
            verdict = verdict_in(case)
            cells += [standing_text(verdict), target_text(verdict)] if verdict else [NONE, NONE]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def ratio_text(ratio: float) -> str:
    """Two decimals; bold where llorch is the slower one."""
    text = f"{ratio:.2f}×"
    return f"**{text}**" if round(ratio, 2) < 1 else text


def standing_text(verdict: Verdict) -> str:
    """Such as ``ahead of dasLLAMA 1.21× (1.12 … 1.26)``; bold where llorch is behind."""
    word = {"ahead": "ahead of", "level": "level with", "behind": "behind"}[verdict.standing]
    text = f"{word} {verdict.peer} {verdict.ratio:.2f}×"
    spread = f"({verdict.least:.2f} … {verdict.most:.2f})"
    return f"**{text}** {spread}" if verdict.standing == "behind" else f"{text} {spread}"


def target_text(verdict: Verdict) -> str:
    """What was to be reached, and whether it was; bold where it was missed."""
    found = f" ({100 * verdict.share:.0f} %)" if verdict.share is not None else ""
    return f"{target_name(verdict)}: {'reached' if verdict.is_reached else '**missed**'}{found}"


def target_name(verdict: Verdict) -> str:
    """What was to be reached: ``1.4×``, for one sequence also a share of the bandwidth."""
    share = f" or {100 * SHARE_TARGET:.0f} % of bandwidth" if verdict.share is not None else ""
    return f"{verdict.target:g}×{share}"


KINDS = (("prompts", "pp"), ("one sequence", "tg"), ("several sequences at once", "@"))
"""What a test measures, and how llama-bench names it."""


def kind_of(test: str) -> str:
    """Which of `KINDS` a test such as ``tg64@8`` is."""
    return "@" if "@" in test else test[:2]


def standing_by_kind(cases: Sequence[Case]) -> list[str]:
    """A line of Markdown for each kind of test: how llorch stands against the fastest peers, at worst and at best."""
    lines = []
    judged = [(case, verdict) for case in cases if (verdict := verdict_in(case))]
    for title, kind in KINDS:
        found = sorted(
            (pair for pair in judged if kind_of(pair[0]["test"]) == kind), key=lambda p: p[1].ratio
        )
        if not found:
            continue
        (worst, low), (_, high) = found[0], found[-1]
        tests = ", ".join(f"`{test}`" for test in dict.fromkeys(case["test"] for case, _ in found))
        n_lost = sum(verdict.ratio < 1 for _, verdict in found)
        n_reached = sum(verdict.is_reached for _, verdict in found)
        lines.append(
            f"* **{title}** ({tests}): {ratio_text(low.ratio)} to {ratio_text(high.ratio)} the fastest peer of each "
            f"test, least with {worst['model']['name']} {type_of(worst['model'])} (there {low.peer} is the fastest); "
            f"slower than it in {n_lost} of {len(found)}; target {target_name(low)} reached in {n_reached}."
        )
    return lines


def count(cases: Sequence[Case]) -> str:
    """All verdicts in one sentence; empty without peers."""
    verdicts = [verdict for verdict in map(verdict_in, cases) if verdict]
    if not verdicts:
        return ""
    standings = Counter(verdict.standing for verdict in verdicts)
    parts = [f"{standings[word]} {word}" for word in ("ahead", "level", "behind") if standings[word]]
    n_reached = sum(verdict.is_reached for verdict in verdicts)
    return f"Against the fastest peer of each test: {', '.join(parts)}; {n_reached} of {len(verdicts)} targets reached."
