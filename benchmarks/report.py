"""What every benchmark hands back: rows of ratios with goals, as a table, as JSON and as a bar chart.

Nothing heavy is imported here at once: a benchmark measures the memory of child processes while it is still small
itself, since on Linux a child's peak begins at what its parent held when it was started.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from opinionlm.utils.environment import installed_version, processor_name

PACKAGES = ("torch", "transformers", "datasets", "accelerate", "peft", "trl", "bitsandbytes", "numpy")
# Of scores and counts there is nothing to see in a chart of factors.
DRAWN_UNITS = ("s", "cpu s", "ms", "tokens/s", "posts/s", "MB")


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        name: what was compared.
        baseline: the other way's value.
        ours: our value.
        unit: of both.
        ratio: above 1 where ours is better, by that factor.
        goal: the ratio to reach, None where nothing is claimed.
        holds: whether it was reached; None without a goal.
    """

    name: str
    baseline: float
    ours: float
    unit: str
    ratio: float
    goal: float | None
    holds: bool | None


def compare(
    name: str, baseline: float, ours: float, unit: str, goal: float | None = None, more_is_better: bool = False
) -> Row:
    """A row whose ratio follows from its two values.

    Args:
        name: what is compared.
        baseline: the other way's value.
        ours: our value.
        unit: of both.
        goal: the ratio to reach.
        more_is_better: True for rates, False for seconds and bytes.
    """
    better, worse = (ours, baseline) if more_is_better else (baseline, ours)
    ratio = better / worse if worse else float("inf")
    return Row(name, baseline, ours, unit, ratio, goal, None if goal is None else ratio >= goal)


def agree(name: str, baseline: float, ours: float, unit: str, tolerance: float) -> Row:
    """A row about two values that have to be the same: ratio 1 within the tolerance, else 0."""
    same = abs(baseline - ours) <= tolerance
    return Row(name, baseline, ours, unit, 1.0 if same else 0.0, 1.0, same)


def environment(**facts: Any) -> dict[str, Any]:
    """Where and when a benchmark ran.

    Args:
        facts: what else decides the numbers: threads, device, data, sizes.
    """
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent, check=False
    )
    return {
        "date": time.strftime("%Y-%m-%d %H:%M:%S"),
        "commit": commit.stdout.strip() or None,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "processor": processor_name(),
        "cores": os.cpu_count(),
        # More than the cores' number means that others were using them: ratios stay fair, seconds do not.
        "load_average_at_the_start": [round(load, 2) for load in os.getloadavg()],
        "versions": {name: installed_version(name) for name in PACKAGES},
        **facts,
    }


def table(rows: Sequence[Row]) -> str:
    """Rows as text, one line each."""
    width = max(len(row.name) for row in rows)
    lines = [f"{'':{width}}  {'baseline':>11}  {'ours':>11}  {'unit':9}  {'ratio':>7}  {'goal':>5}"]
    for row in rows:
        goal = "" if row.goal is None else f"{row.goal:.2f}"
        verdict = {True: "holds", False: "MISSED", None: ""}[row.holds]
        lines.append(
            f"{row.name:{width}}  {row.baseline:11.4g}  {row.ours:11.4g}  {row.unit:9}  {row.ratio:6.2f}×  "
            f"{goal:>5}  {verdict}".rstrip()
        )
    return "\n".join(lines)


def finish(facts: dict[str, Any], rows: Sequence[Row], json_file: Path | None, figure_file: Path | None) -> int:
    """Print the table, write what was asked for and say how the benchmark ended.

    Args:
        facts: from `environment`.
        rows: the comparisons.
        json_file: where to write environment and rows.
        figure_file: where to draw them.

    Returns:
        The exit code: 1 when a row misses its goal.
    """
    print(table(rows))
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        content = {"environment": facts, "rows": [asdict(row) for row in rows]}
        json_file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if figure_file is not None:
        draw(rows, figure_file)
    return 1 if any(row.holds is False for row in rows) else 0


def draw(rows: Sequence[Row], path: Path) -> None:
    """Bars of the measured ratios of time and memory, with a mark at each goal."""
    from matplotlib.figure import Figure

    from opinionlm.reporting.figures import BLUE, GREY, ORANGE, save_figure, styled

    rows = [row for row in rows if row.unit in DRAWN_UNITS]

    @styled
    def bars() -> Figure:
        figure = Figure(figsize=(10.0, 1.2 + 0.36 * len(rows)), layout="constrained")
        axes = figure.add_subplot()
        for place, row in enumerate(rows):
            color = ORANGE if row.holds is False else BLUE
            axes.barh(place, row.ratio - 1.0, left=1.0, height=0.66, color=color)
            axes.text(max(row.ratio, 1.0) * 1.06, place, f"{row.ratio:.2f}×", va="center", fontsize=9)
            if row.goal is not None:
                axes.plot([row.goal, row.goal], [place - 0.42, place + 0.42], color="black", linewidth=2.0)
        axes.axvline(1.0, color=GREY, linewidth=1.2)
        # Twice as good and half as good lie equally far from 1.
        axes.set_xscale("log")
        axes.set_xticks(ticks := [0.1, 0.2, 0.5, 1, 2, 5, 10, 20], [f"{tick}×" for tick in ticks])
        ratios = [row.ratio for row in rows]
        axes.set_xlim(min(0.4, min(ratios) / 1.5), max(20.0, 1.5 * max(ratios)))
        axes.minorticks_off()
        axes.set_yticks(range(len(rows)), [row.name for row in rows])
        axes.set_ylim(len(rows) - 0.4, -0.7)
        axes.set_xlabel("better by this factor (black: goal)")
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")
        return figure

    save_figure(bars(), path)
