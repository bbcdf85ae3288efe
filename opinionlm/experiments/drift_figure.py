"""Scores over time, drawn."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from opinionlm.evaluation.headline import score_title
from opinionlm.experiments.figures import BLUE, ORANGE, save_figure, styled


def save_drift(scores: Mapping[str, Any], path: Path) -> None:
    """Draw the scores over time of a split, if it has any.

    Args:
        scores: of the split.
        path: of the figure.
    """
    if scores.get("periods"):
        save_figure(drift_figure(scores["periods"]), path)


@styled
def drift_figure(periods: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Macro-F1 and accuracy of every period with 95 % intervals, the number of texts below the name.

    Args:
        periods: what `opinionlm.evaluation.drift.period_scores` returns, in the order of time; at least one.
    """
    names, places = list(periods), np.arange(len(periods))
    figure = Figure(figsize=(max(4.6, 1.2 + 0.8 * len(names)), 3.6), layout="constrained")
    axes = figure.add_subplot()
    # Side by side, so that the two intervals of a period do not hide each other.
    for score, colour, shift in (("macro_f1", BLUE, -0.06), ("accuracy", ORANGE, 0.06)):
        values = np.array([periods[name][score] for name in names])
        bounds = np.array([periods[name][f"{score}_ci95"] for name in names])
        # A percentile interval may lie beside the score itself where rows are few.
        errors = np.abs(np.clip(bounds.T, [[0.0], [0.0]], [[1.0], [1.0]]) - values)
        axes.errorbar(places + shift, values, yerr=errors, fmt="o-", color=colour, label=score_title(score), capsize=3)
    counts = [f"{name}\n({periods[name]['rows']:,.0f})" for name in names]
    axes.set_xticks(places, counts, rotation=0 if len(names) <= 12 else 60)
    axes.set_ylim(0.0, 1.0)
    axes.set_title("Scores over time")
    axes.set_xlabel("period (texts in brackets)")
    axes.grid(axis="y")
    axes.legend()
    return figure
