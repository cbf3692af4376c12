"""A picture of simulated steps: a row for each engine, a bar for each operation, and one row for the memory."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from llorch.trace.simulate.critical_chain import critical_chain
from llorch.trace.simulate.simulation import HEADS, Outcome
from llorch.trace.simulate.timelines import engine_pieces, transfers

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {
    "attn_q": "#1f69aa", "attn_k": "#4f93cf", "attn_v": "#8fbfe8", "rope": "#b9a2e0", "store": "#8250a0",
    "scores": "#d97814", "softmax_maximum": "#e8b23c", "softmax_exponential": "#f2d06b",
    "softmax_normalise": "#f7e6a8", "values": "#c05a2c", "attn_output": "#12485f", "ffn_gate": "#3c8c46",
    "ffn_up": "#79b77f", "swiglu": "#b6dcb0", "ffn_down": "#1f5c2b",
}  # fmt: skip
ATTENTION = (
    "rope", "store", "scores", "softmax_maximum", "softmax_exponential", "softmax_normalise", "values",
)  # fmt: skip
OTHER, WAIT, MEMORY = "#9a9a9a", "#f3d7d7", "#c82828"


def draw_gantt(title: str, outcomes: Sequence[Outcome], path: Path) -> None:
    """Draw outcomes below each other over one axis of time, as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.patches import Patch

    enlarged = [outcome for outcome in outcomes if outcome.policy == HEADS]
    rows = [*outcomes, *enlarged]
    heights = [outcome.schedule.machine.n_engines + 2.2 for outcome in rows]
    figure, axes = plt.subplots(
        len(rows), 1, figsize=(14, 0.34 * sum(heights) + 1.6), height_ratios=heights, squeeze=False
    )
    labels: dict[str, None] = {}
    end_us = 1e6 * max(outcome.schedule.makespan_s for outcome in outcomes)
    for i, (ax, outcome) in enumerate(zip(axes[:, 0], rows, strict=True)):
        _draw(ax, outcome)
        ax.set_xlim(0, end_us)
        if i >= len(outcomes):
            ax.set_xlim(*_attention_us(outcome))
            ax.set_title(
                f"{outcome.schedule.machine.n_engines} engines, heads: attention enlarged",
                loc="left",
                fontsize=9,
            )
        labels.update(dict.fromkeys(node.label for node in outcome.nodes if node.needs_engine))
    axes[-1, 0].set_xlabel("microseconds")
    named = [label for label in COLOURS if label in labels]
    patches = [Patch(color=COLOURS[label], label=label) for label in named]
    patches += [Patch(color=OTHER, label="norm, prepare, add"), Patch(color=WAIT, label="waits for memory")]
    figure.legend(handles=patches, loc="lower center", ncols=9, frameon=False, fontsize=8)
    figure.suptitle(title, x=0.01, ha="left")
    figure.tight_layout(rect=(0, 0.05, 1, 0.99))
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _attention_us(outcome: Outcome) -> tuple[float, float]:
    """From when to when heads attend, from RoPE on."""
    times = [
        placement
        for node, placement in zip(outcome.nodes, outcome.schedule.placements, strict=True)
        if node.label in ATTENTION
    ]
    return 1e6 * min(p.begun_s for p in times), 1e6 * max(p.ended_s for p in times)


def _draw(ax: Axes, outcome: Outcome) -> None:
    run = outcome.schedule
    n = run.machine.n_engines
    chain = set(critical_chain(outcome.nodes, run))
    for engine in range(n):
        for node, placement, is_critical in engine_pieces(outcome, engine, chain):
            colour = COLOURS.get(node.label, OTHER)
            begin, computed, end = (
                1e6 * s for s in (placement.begun_s, placement.computed_s, placement.ended_s)
            )
            ax.barh(
                engine, computed - begin, left=begin, height=0.8, color=colour, linewidth=0.6,
                edgecolor="#c82828" if is_critical else "white",
            )  # fmt: skip
            ax.barh(engine, end - computed, left=computed, height=0.8, color=WAIT)
    changes = transfers(outcome)
    for (begin_s, under_way), (end_s, _) in pairwise(changes):
        if under_way:
            ax.barh(n, 1e6 * (end_s - begin_s), left=1e6 * begin_s, height=0.5, color=MEMORY, alpha=0.55)
    ax.set_yticks(range(n + 1), [*(f"engine {i}" for i in range(n)), "memory"], fontsize=8)
    ax.invert_yaxis()
    ax.spines[["top", "right"]].set_visible(False)
    engines = f"{n} engine{'s' if n > 1 else ''}"
    ax.set_title(
        f"{engines}, {outcome.policy}: {1e6 * outcome.seconds_each:.0f} us a token, speed-up "
        f"{outcome.speedup:.2f}, engines busy {run.utilisation:.0%}, memory {run.memory_utilisation:.0%}",
        loc="left", fontsize=9,
    )  # fmt: skip
