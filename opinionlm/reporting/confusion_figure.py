"""The confusion matrix of a label tree: counts and shares in the cells, parents along the edges."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from opinionlm.evaluation.charts import ConfusionChart
from opinionlm.reporting.figures import GREY, styled

# With more classes the cells are too many for two numbers, or for any.
MOST_WITH_SHARES, MOST_WITH_COUNTS = 20, 40


@styled
def confusion_figure(chart: ConfusionChart) -> Figure:
    """Confusion matrix: counts and shares of the gold class in the cells, colours by the shares.

    Colours follow the rows' shares and not the counts, else a rare class would look right whatever happens to it.
    """
    confusion, labels, parents = chart.counts, chart.labels, chart.parents
    classes, columns = len(labels), list(labels)
    if confusion.shape[1] > classes:
        invalid = bool(confusion[:, classes].any())
        confusion, columns = confusion[:, : classes + invalid], columns + ["no valid label"] * invalid
    support = confusion.sum(axis=1, keepdims=True) if chart.support is None else chart.support[:, None]
    shares = np.divide(confusion, support, out=np.zeros(confusion.shape), where=support > 0)
    longest, levels = max(len(label) for label in labels), max(map(len, parents), default=0)
    side = max(3.2, 0.62 * classes)
    figure = Figure(
        figsize=(side + 1.0 + 0.075 * longest + 0.3 * levels, side + 1.3 + 0.055 * longest + 0.25 * levels),
        layout="constrained",
    )
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    if classes <= MOST_WITH_COUNTS:
        _write_cells(axes, confusion, shares, with_shares=classes <= MOST_WITH_SHARES)
    names = [f"{label} ({count:,})" for label, count in zip(labels, support[:, 0], strict=True)]
    axes.set_xticks(range(len(columns)), columns, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(classes), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel(f"gold ({chart.unit})")
    # White lines between the cells instead of a frame around them.
    axes.set_xticks(np.arange(len(columns) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(classes + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    for level in range(levels):
        for first, last, name in groups(parents, level):
            _bracket(axes, first, last, name, levels - 1 - level)
    return figure


def _write_cells(axes: Axes, confusion: np.ndarray, shares: np.ndarray, with_shares: bool) -> None:
    """Counts, and below them per cent of the gold class, in the cells that are not empty."""
    for row, column in np.ndindex(confusion.shape):
        if confusion[row, column]:
            text = f"{confusion[row, column]:,}" + (f"\n{100 * shares[row, column]:.0f} %" if with_shares else "")
            colour = "white" if shares[row, column] > 0.55 else "#222222"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8, linespacing=1.25)


def groups(parents: Sequence[Sequence[str]], level: int) -> Iterator[tuple[int, int, str]]:
    """First and last label below each parent of a level, and the parent's name; labels that have none are left out.

    Args:
        parents: names above each label, from the top.
        level: from 0.
    """
    first = 0
    for place in range(1, len(parents) + 1):
        start = tuple(parents[first][: level + 1])
        if place == len(parents) or tuple(parents[place][: level + 1]) != start:
            if len(start) > level:
                yield first, place - 1, start[level]
            first = place


def _bracket(axes: Axes, first: int, last: int, name: str, distance: int) -> None:
    """A parent's name above its columns and right of its rows, so many lines of text away from the matrix."""
    ends = [first - 0.42, last + 0.42]
    for is_row, transform in ((True, axes.get_yaxis_transform()), (False, axes.get_xaxis_transform())):
        side = 1.0 + (0.015 + 0.055 * distance)
        line, place = ([side, side], ends), (side + 0.012, (first + last) / 2)
        axes.plot(*(line if is_row else line[::-1]), transform=transform, color=GREY, linewidth=1.2, clip_on=False)
        axes.text(
            *(place if is_row else place[::-1]),
            name,
            transform=transform,
            fontsize=8.5,
            color="#333333",
            rotation=270 if is_row else 0,
            ha="left" if is_row else "center",
            va="center" if is_row else "bottom",
        )
